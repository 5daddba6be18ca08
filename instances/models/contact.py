from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

from instances.changes import InboundMessage
from instances.events import EventType
from instances.fields import PlainField
from instances.models.instance import Instance
from instances.sql import insert, load

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
        indexes = (models.Index(fields=("instance", "-id"), name="contact_newest_first"),)
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
    def upsert_from(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[list[Announcement]]:
        """Store the messages' contacts. Return the events to announce for each message, in order.

        A message has the contact of its chat and, in a group, that of the participant who wrote it, who alone is named
        by it.
        """
        jids = {jid for inbound in inbounds for jid in (inbound.remote_jid, inbound.named_jid) if jid}
        condition = f" AND remote_jid IN ({', '.join(['%s'] * len(jids))})"
        stored = {contact.remote_jid: contact for contact in load(cls, [instance.pk], condition, jids)} if jids else {}
        upsert = _Upsert(instance, stored)
        announcements = []
        for inbound in inbounds:
            chat, named = inbound.remote_jid, inbound.named_jid
            name = inbound.push_name if named == chat else None
            contact, is_new, _ = upsert(chat, push_name=name, profile_pic_url=inbound.profile_pic_url)
            is_upsert = is_new or inbound.always_upserts
            event_type = EventType.CONTACTS_UPSERT if is_upsert else EventType.CONTACTS_UPDATE
            announcements.append([(event_type, contact.as_event())])
            if named and named != chat and inbound.push_name:
                contact, is_new, is_changed = upsert(named, push_name=inbound.push_name)
                event_type = EventType.CONTACTS_UPSERT if is_new else EventType.CONTACTS_UPDATE
                announcements[-1] += [(event_type, contact.as_event())] if is_new or is_changed else []
        insert(upsert.new.values(), ignore_conflicts=True)
        for contact in upsert.changed.values():
            contact.save()
        return announcements


class _Upsert:
    """The contacts of a batch of messages: those that are stored, that are new, and that have changed."""

    def __init__(self, instance: Instance, stored: dict[str, Contact]) -> None:
        self.instance = instance
        self.stored = stored
        self.new: dict[str, Contact] = {}
        self.changed: dict[str, Contact] = {}

    def __call__(self, jid: str, **values: str | None) -> tuple[Contact, bool, bool]:
        """Set the values that are known; return the contact, and whether it is new or has changed."""
        known = {name: value for name, value in values.items() if value}
        contact = self.stored.get(jid) or self.new.get(jid)
        if contact is None:
            contact = self.new[jid] = Contact(instance=self.instance, remote_jid=jid, **known)
            return contact, True, False
        is_changed = any(getattr(contact, name) != value for name, value in known.items())
        if is_changed and jid in self.stored:
            self.changed[jid] = contact
        contact.__dict__.update(known)
        return contact, False, is_changed
