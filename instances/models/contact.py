from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.utils import timezone

from instances.changes import InboundMessage
from instances.events import EventType
from instances.fields import PlainField
from instances.models.instance import Instance
from instances.sql import insert, load, select

#: An event to announce, with its `data`.
Announcement = tuple[EventType, dict[str, Any]]


class Contact(models.Model):
    """A person or group that an instance exchanged messages with."""

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="contacts")
    remote_jid = models.CharField("remote JID", max_length=255)
    push_name = PlainField(max_length=255, null=True)
    profile_pic_url = models.TextField("profile picture URL", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance", "remote_jid"), name="contact_is_stored_once"),)
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.push_name or self.remote_jid

    def as_event(self) -> dict[str, Any]:
        """Return the `data` of contacts.upsert and contacts.update."""
        data = {
            "remoteJid": self.remote_jid,
            "pushName": self.push_name,
            "instanceId": str(self.instance_id),
            "profilePicUrl": self.profile_pic_url,
        }
        return {name: value for name, value in data.items() if value is not None}

    @classmethod
    def upsert_from(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[Announcement]:
        """Store the messages' contacts. Return an event to announce for each message, in order."""
        jids = {inbound.remote_jid for inbound in inbounds}
        condition = f" AND remote_jid IN ({', '.join(['%s'] * len(jids))})"
        stored = {contact.remote_jid: contact for contact in load(cls, [instance.pk], condition, jids)} if jids else {}
        new: dict[str, Any] = {}
        changed: dict[str, Any] = {}
        announcements = []
        for inbound in inbounds:
            jid = inbound.remote_jid
            known = {"push_name": inbound.push_name, "profile_pic_url": inbound.profile_pic_url}
            known = {name: value for name, value in known.items() if value}
            contact = stored.get(jid) or new.get(jid)
            is_new = contact is None
            if contact is None:
                contact = new[jid] = cls(instance=instance, remote_jid=jid)
            elif jid in stored and any(getattr(contact, name) != value for name, value in known.items()):
                changed[jid] = contact
            contact.__dict__.update(known)
            is_upsert = is_new or inbound.always_upserts
            event_type = EventType.CONTACTS_UPSERT if is_upsert else EventType.CONTACTS_UPDATE
            announcements.append((event_type, contact.as_event()))
        insert(new.values(), ignore_conflicts=True)
        for contact in changed.values():
            contact.save()
        return announcements


class Chat(models.Model):
    """A conversation of an instance."""

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="chats")
    remote_jid = models.CharField("remote JID", max_length=255)
    name = PlainField(max_length=255, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance", "remote_jid"), name="chat_is_stored_once"),)
        ordering = ("-updated_at",)

    def __str__(self) -> str:
        return self.name or self.remote_jid

    @classmethod
    def touch(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[list[Announcement]]:
        """Store the messages' chats or their `updated_at`. Return the events to announce for each message, in order."""
        jids = {inbound.remote_jid for inbound in inbounds}
        stored = dict(select(cls, ("remote_jid", "id"), instance.pk, "remote_jid", jids))
        if stored:
            cls.objects.filter(pk__in=stored.values()).update(updated_at=timezone.now())
        new: dict[str, Any] = {}
        announcements = []
        for inbound in inbounds:
            jid = inbound.remote_jid
            is_new = jid not in stored and jid not in new
            if is_new:
                new[jid] = cls(instance=instance, remote_jid=jid, name=inbound.push_name)
            event_data = {"remoteJid": jid, "instanceId": str(instance.pk)}
            event_types = [EventType.CHATS_UPSERT] if is_new else [EventType.CHATS_UPDATE, EventType.CHATS_UPSERT]
            announcements.append([(event_type, event_data) for event_type in event_types if inbound.always_upserts])
        insert(new.values(), ignore_conflicts=True)
        return announcements
