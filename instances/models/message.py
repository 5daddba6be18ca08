from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

from django.db import models, transaction
from django.utils import timezone

from instances.changes import InboundMessage, OutgoingText, StatusReport
from instances.events import EventType, announce
from instances.fields import JsonField, PlainField
from instances.models.contact import Chat, Contact
from instances.models.instance import Instance
from instances.sql import insert, select

#: How far a message has come. A report that comes late does not take it back.
STATUS_ORDER = ["PENDING", "SERVER_ACK", "SENT", "DELIVERY_ACK", "DELIVERED", "READ", "PLAYED"]


class Message(models.Model):
    """A message of an instance, in either direction."""

    #: How long a send may be under way before a repeat of it is a new attempt, the server having died meanwhile.
    SENDING = timedelta(minutes=2)

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="messages")
    wa_id = models.CharField("WhatsApp id", max_length=255, null=True, help_text="Empty while it is being sent.")
    request_id = models.CharField(
        max_length=255, null=True, help_text="The sender's own id, which makes a repeat safe."
    )
    remote_jid = models.CharField("remote JID", max_length=255)
    participant = models.CharField(max_length=255, null=True)
    from_me = models.BooleanField(default=False)
    push_name = PlainField(max_length=255, null=True)
    type = models.CharField(max_length=64)
    content = JsonField()
    context = JsonField(null=True)
    extra = JsonField(default=dict)
    timestamp = models.BigIntegerField(help_text="Seconds since 1970, as WhatsApp says.")
    source = models.CharField(max_length=16, default="unknown")
    status = models.CharField(max_length=32, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("instance", "wa_id"), name="message_is_stored_once"),
            models.UniqueConstraint(fields=("instance", "request_id"), name="message_is_sent_once"),
        )
        indexes = (models.Index(fields=("instance", "remote_jid", "-timestamp")),)

    def __str__(self) -> str:
        return f"{self.type} {self.wa_id}"

    def as_event(self) -> dict[str, Any]:
        """Evolution API's message object, the `data` of messages.upsert and send.message."""
        key = {"remoteJid": self.remote_jid, "fromMe": self.from_me, "id": self.wa_id}
        told = {
            "key": key | ({"participant": self.participant} if self.participant else {}),
            "pushName": self.push_name,
            "status": self.status,
            "message": self.content,
            "contextInfo": self.context,
            "messageType": self.type,
            "messageTimestamp": self.timestamp,
            "instanceId": str(self.instance_id),
            "source": self.source,
        }
        told = {name: value for name, value in told.items() if value is not None}
        return told | self.extra | told  # in Evolution's order, and none of its members gives way to another one

    @classmethod
    def receive(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> None:
        """Store and announce messages, with their contacts and chats; a repeat of a WhatsApp id changes nothing.

        Call it in a transaction.
        """
        for own_phone in (inbound.own_phone for inbound in inbounds if inbound.own_phone and not instance.owner_jid):
            instance.owner_jid = f"{own_phone}@s.whatsapp.net"
            instance.save(update_fields=["owner_jid", "updated_at"])
        messages = cls._store_new(instance, inbounds)
        firsts = {inbound.id: inbound for inbound in reversed(inbounds)}
        new = [firsts[str(message.wa_id)] for message in messages]
        contacts, chats = Contact.seen(instance, new), Chat.touched(instance, new)
        for message, inbound, contact, chat in zip(messages, new, contacts, chats, strict=True):
            message._announce_received(inbound)
            for event_type, event_data in (contact, *chat):
                announce(event_type, instance, event_data)

    @classmethod
    def _store_new(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[Self]:
        """The messages of those that are no repeats, in order. They are to be announced in the same transaction."""
        ids = [inbound.id for inbound in inbounds]
        known = {wa_id for (wa_id,) in select(cls, ("wa_id",), instance.pk, "wa_id", ids)}
        new: dict[str, Self] = {}
        for inbound in inbounds:
            if inbound.id not in known and inbound.id not in new:
                new[inbound.id] = cls(instance=instance, wa_id=inbound.id, **inbound.fields())
        # one that somebody else stores at this moment has been announced under the same key
        insert(new.values(), ignore_conflicts=True)
        return list(new.values())

    def _announce_received(self, inbound: InboundMessage) -> None:
        event_data = self.as_event()
        event_data["key"] |= inbound.key_extra
        announce(EventType.MESSAGES_UPSERT, self.instance, event_data, dedupe_key=f"message:{self.wa_id}")

    @classmethod
    def claim(cls, instance: Instance, text: OutgoingText) -> Message:
        """The message that this request sends or, where it is a repeat, has sent already.

        Raises SendUnderWay while the first of two requests with one id is not done, and Instance.DoesNotExist.
        """
        message = cls(
            instance=instance,
            request_id=text.request_id,
            remote_jid=text.remote_jid,
            from_me=True,
            type="conversation",
            content=text.content(),
            timestamp=int(time.time()),
        )
        if text.request_id is None:
            return message
        with transaction.atomic():
            Instance.objects.locked().get(pk=instance.pk)
            known, is_new = cls.objects.get_or_create(
                instance=instance, request_id=text.request_id, defaults=message.unsent_fields()
            )
            if is_new or known.wa_id:
                return known
            # only one of those that find an abandoned attempt takes it over
            abandoned = cls.objects.filter(pk=known.pk, wa_id=None, created_at__lt=timezone.now() - cls.SENDING)
            if not abandoned.update(created_at=timezone.now(), **message.unsent_fields()):
                raise SendUnderWay
            known.refresh_from_db()
        return known

    def unsent_fields(self) -> dict[str, Any]:
        names = ("remote_jid", "from_me", "type", "content", "timestamp")
        return {name: getattr(self, name) for name in names}

    def record_sent(self, wa_id: str, status: str | None) -> Message:
        """WhatsApp has taken it: store that, and announce it. Raises Instance.DoesNotExist when that is gone."""
        with transaction.atomic():
            Instance.objects.locked().get(pk=self.instance_id)  # before its stream, as everybody locks them
            self.wa_id = wa_id
            self.status = status
            self.save()
            announce(EventType.SEND_MESSAGE, self.instance, self.as_event(), dedupe_key=f"sent:{wa_id}")
        return self

    def release_claim(self) -> None:
        """WhatsApp has refused it: another request may try again under the same id."""
        if self.pk:
            self.delete()

    @classmethod
    def record_status(cls, instance: Instance, report: StatusReport) -> None:
        """Announce a tick, and keep the furthest one; the message itself may be unknown here."""
        with transaction.atomic():
            message = cls.objects.filter(instance=instance, wa_id=report.id).first()
            if message and _is_further(report.status, message.status):
                message.status = report.status
                message.save(update_fields=["status"])
            told = report.as_event() | {"instanceId": str(instance.pk)}
            if message:
                told["messageId"] = str(message.pk)
            announce(EventType.MESSAGES_UPDATE, instance, told, dedupe_key=report.dedupe_key)


def _is_further(status: str, than: str | None) -> bool:
    if status not in STATUS_ORDER or than not in STATUS_ORDER:
        return True
    return STATUS_ORDER.index(status) > STATUS_ORDER.index(than)


class SendUnderWay(Exception):
    """Raised when a request repeats one that has not been answered yet."""
