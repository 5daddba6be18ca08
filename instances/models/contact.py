from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from instances.events import EventType, announce
from instances.fields import PlainField
from instances.models.instance import Instance

if TYPE_CHECKING:
    from instances.providers.base import InboundMessage


class Contact(models.Model):
    """Somebody an instance has heard of."""

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
        told = {
            "remoteJid": self.remote_jid,
            "pushName": self.push_name,
            "instanceId": str(self.instance_id),
            "profilePicUrl": self.profile_pic_url,
        }
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def seen(cls, instance: Instance, inbound: InboundMessage) -> None:
        """Whoever wrote is a contact: announce a new one, and what is new of a known one."""
        known = {"push_name": inbound.push_name, "profile_pic_url": inbound.profile_pic_url}
        known = {name: value for name, value in known.items() if value}
        contact, is_new = cls.objects.get_or_create(instance=instance, remote_jid=inbound.remote_jid, defaults=known)
        if not is_new and any(getattr(contact, name) != value for name, value in known.items()):
            contact.__dict__.update(known)
            contact.save()
        is_upsert = is_new or inbound.always_upserts
        announce(EventType.CONTACTS_UPSERT if is_upsert else EventType.CONTACTS_UPDATE, instance, contact.as_event())


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
    def touched(cls, instance: Instance, inbound: InboundMessage) -> None:
        """A message came: the chat exists, and has news."""
        chat, is_new = cls.objects.get_or_create(
            instance=instance, remote_jid=inbound.remote_jid, defaults={"name": inbound.push_name}
        )
        if not is_new:
            chat.save(update_fields=["updated_at"])
        if inbound.always_upserts:
            told = {"remoteJid": chat.remote_jid, "instanceId": str(instance.pk)}
            if not is_new:
                announce(EventType.CHATS_UPDATE, instance, told)
            announce(EventType.CHATS_UPSERT, instance, told)
