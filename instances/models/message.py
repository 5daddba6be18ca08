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

#: Delivery statuses in order. A report that arrives late does not set a message back.
STATUS_ORDER = ["PENDING", "SERVER_ACK", "SENT", "DELIVERY_ACK", "DELIVERED", "READ", "PLAYED"]


class Message(models.Model):
    """A message of an instance, in either direction."""

    #: Age from which a claim without a result is abandoned, as by a server that died: a repeat is a new attempt.
    SENDING = timedelta(minutes=2)

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="messages")
    wa_id = models.CharField(
        "WhatsApp id", max_length=255, null=True, help_text="Empty until WhatsApp accepts the message."
    )
    request_id = models.CharField(
        max_length=255, null=True, help_text="The sender's own id of the request: a repeat sends nothing."
    )
    remote_jid = models.CharField("remote JID", max_length=255)
    participant = models.CharField(max_length=255, null=True)
    from_me = models.BooleanField(default=False)
    push_name = PlainField(max_length=255, null=True)
    type = models.CharField(max_length=64)
    content = JsonField()
    context = JsonField(null=True)
    extra = JsonField(default=dict)
    timestamp = models.BigIntegerField(help_text="Seconds since 1970, as reported by WhatsApp.")
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
        """Return Evolution API's message object, the `data` of messages.upsert and send.message."""
        key = {"remoteJid": self.remote_jid, "fromMe": self.from_me, "id": self.wa_id}
        data = {
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
        data = {name: value for name, value in data.items() if value is not None}
        return data | self.extra | data  # in Evolution's order, and `extra` overrides none of its members

    @classmethod
    def receive(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[InboundMessage]:
        """Store and announce messages, with their contacts and chats; a repeat of a WhatsApp id changes nothing.

        Returns the repeats. Ids are unique within an instance, whatever their chats. Call it in a transaction.
        """
        for own_phone in (inbound.own_phone for inbound in inbounds if inbound.own_phone and not instance.owner_jid):
            instance.owner_jid = f"{own_phone}@s.whatsapp.net"
            instance.save(update_fields=["owner_jid", "updated_at"])
        messages = cls._store_new(instance, inbounds)
        firsts = {inbound.id: inbound for inbound in reversed(inbounds)}
        new = [firsts[str(message.wa_id)] for message in messages]
        contacts, chats = Contact.upsert_from(instance, new), Chat.touch(instance, new)
        for message, inbound, contact, chat in zip(messages, new, contacts, chats, strict=True):
            message._announce_received(inbound)
            for event_type, event_data in (*contact, *chat):
                announce(event_type, instance, event_data)
        stored = set(map(id, new))
        return [inbound for inbound in inbounds if id(inbound) not in stored]

    @classmethod
    def _store_new(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[Self]:
        """Store the messages that are no repeats and return them in order; announce them in the same transaction."""
        ids = [inbound.id for inbound in inbounds]
        known = {wa_id for (wa_id,) in select(cls, ("wa_id",), instance.pk, "wa_id", ids)}
        new: dict[str, Self] = {}
        for inbound in inbounds:
            if inbound.id not in known and inbound.id not in new:
                new[inbound.id] = cls(instance=instance, wa_id=inbound.id, **inbound.fields())
        # a message that another transaction stores at the same time is announced under the same dedupe key
        insert(new.values(), ignore_conflicts=True)
        return list(new.values())

    def _announce_received(self, inbound: InboundMessage) -> None:
        event_data = self.as_event()
        event_data["key"] |= inbound.key_extra
        announce(EventType.MESSAGES_UPSERT, self.instance, event_data, dedupe_key=f"message:{self.wa_id}")

    @classmethod
    def claim(cls, instance: Instance, text: OutgoingText) -> Message:
        """Return the message that this request is to send or, if it is a repeat, has sent already.

        Raises SendUnderWay while an earlier request with the same id is not done, and Instance.DoesNotExist.
        """
        fields: dict[str, Any] = {
            "remote_jid": text.remote_jid,
            "from_me": True,
            "type": "conversation",
            "content": text.content(),
            "timestamp": int(time.time()),
        }
        if text.request_id is None:
            return cls(instance=instance, **fields)
        with transaction.atomic():
            Instance.objects.locked().get(pk=instance.pk)
            known, is_new = cls.objects.get_or_create(instance=instance, request_id=text.request_id, defaults=fields)
            if is_new or known.wa_id:
                return known
            # of several requests that find an abandoned claim, one takes it over
            abandoned = cls.objects.filter(pk=known.pk, wa_id=None, created_at__lt=timezone.now() - cls.SENDING)
            if not abandoned.update(created_at=timezone.now(), **fields):
                raise SendUnderWay
            known.refresh_from_db()
        return known

    def record_sent(self, wa_id: str, status: str | None) -> Message:
        """Store the id that WhatsApp gave the message, and announce send.message.

        Raises Instance.DoesNotExist if the instance was deleted meanwhile.
        """
        with transaction.atomic():
            Instance.objects.locked().get(pk=self.instance_id)  # before its stream: everywhere in this order
            self.wa_id = wa_id
            self.status = status
            self.save()
            announce(EventType.SEND_MESSAGE, self.instance, self.as_event(), dedupe_key=f"sent:{wa_id}")
        return self

    def release_claim(self) -> None:
        """Delete the claim of a message that WhatsApp refused, so that a request with the same id may try again."""
        if self.pk:
            self.delete()

    @classmethod
    def record_status(cls, instance: Instance, report: StatusReport) -> None:
        """Announce a status report, and store the most advanced status; the message itself may not be stored."""
        with transaction.atomic():
            message = cls.objects.filter(instance=instance, wa_id=report.id).first()
            if message and _is_further(report.status, message.status):
                message.status = report.status
                message.save(update_fields=["status"])
            event_data = report.as_event() | {"instanceId": str(instance.pk)}
            if message:
                event_data["messageId"] = str(message.pk)
            announce(EventType.MESSAGES_UPDATE, instance, event_data, dedupe_key=report.dedupe_key)


def _is_further(status: str, than: str | None) -> bool:
    if status not in STATUS_ORDER or than not in STATUS_ORDER:
        return True
    return STATUS_ORDER.index(status) > STATUS_ORDER.index(than)


class SendUnderWay(Exception):
    """Raised for a request that repeats another one which is not done yet."""
