from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Self

from django.core.signing import BadSignature, Signer
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone

from instances.changes import CALLBACK_PREFIX, InboundMessage, StatusReport, status_key
from instances.events import EventType, announce
from instances.fields import JsonField, PlainField
from instances.models.chat import Chat
from instances.models.contact import Contact
from instances.models.early_status import EarlyStatus
from instances.models.instance import Instance
from instances.models.message_key import message_key
from instances.models.message_states import REPORTED, MessageState, is_step, reported_state
from instances.models.message_status import MessageStatus, StatusOf
from instances.models.stored_messages import MessageQuerySet
from instances.names import jid
from instances.outbound_message import OutboundMessage
from instances.sql import insert, select

#: Digits at the end of a phone number by which WhatsApp's form of it is compared with the sender's.
_COMPARED_DIGITS = 8

_signer = Signer(salt="instances.models.message")


class Message(models.Model):
    """A message of an instance, in either direction, or a send without a result, which has no `wa_id`.

    A send is stored before WhatsApp is asked: a repeat of its request finds it, and so do reports that come before the
    answer. Its state changes by the table in `message_states`.
    """

    #: Age from which the outcome of a send without a result is unknown, and its request may be sent again.
    SENDING = timedelta(minutes=2)
    #: Age up to which status reports wait for the result of a send.
    SETTLING = SENDING + timedelta(minutes=10)

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="messages")
    wa_id = models.CharField(
        "WhatsApp id", max_length=255, null=True, help_text="Empty until WhatsApp accepts the message."
    )
    request_id = models.CharField(
        max_length=255, null=True, help_text="The sender's own id of the request: a repeat sends nothing."
    )
    remote_jid = models.CharField("remote JID", max_length=255)
    remote_jid_alt = models.CharField(
        "other JID", max_length=255, null=True, help_text="The other address of the chat, where both are known."
    )
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
    created_at = models.DateTimeField(auto_now_add=True)  # of a send that is repeated, the time of the repeat

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("instance", "wa_id"), name="message_is_stored_once"),
            models.UniqueConstraint(fields=("instance", "request_id"), name="message_is_sent_once"),
        )
        indexes = (
            models.Index(
                fields=("instance", "-timestamp", "-id"), condition=Q(wa_id__isnull=False), name="message_newest_first"
            ),
            models.Index(
                fields=("instance", "remote_jid", "-timestamp", "-id"),
                condition=Q(wa_id__isnull=False),
                name="message_of_chat",
            ),
            models.Index(
                fields=("instance", "remote_jid_alt", "-timestamp", "-id"),
                condition=Q(remote_jid_alt__isnull=False),
                name="message_of_other_jid",
            ),
            models.Index(fields=("created_at",), condition=Q(wa_id=None), name="message_without_result"),
        )

    def __str__(self) -> str:
        return f"{self.type} {self.wa_id}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        if self.wa_id is None:
            return super().delete(*args, **kwargs)
        return Message.objects.filter(pk=self.pk).delete()  # with its statuses, and counted

    def event_keys(self) -> list[str]:
        """Return the dedupe keys of the events about it."""
        if not self.wa_id:
            return []
        jids = {self.remote_jid, self.participant or self.remote_jid}
        reported = [status_key(self.wa_id, word, jid) for word in (*REPORTED, "DELETED") for jid in jids]
        return [_received_key(self.wa_id), _sent_key(self.wa_id), *reported]

    def as_event(self) -> dict[str, Any]:
        """Return Evolution API's message object, the `data` of messages.upsert and send.message."""
        data = {
            "key": message_key(self),
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
        for inbound in inbounds:
            if send := cls._find_by_callback_data(instance, inbound.callback_data):
                send._settle(inbound.id, MessageState.PENDING)  # an echo of it; it is known from here on
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
        announce(EventType.MESSAGES_UPSERT, self.instance, event_data, dedupe_key=_received_key(self.wa_id))

    # States

    @property
    def state(self) -> MessageState:
        if self.wa_id is not None:
            return reported_state(self.status)
        is_over = self.created_at is not None and self.created_at < timezone.now() - self.SENDING
        return MessageState.UNKNOWN if is_over or self.status == MessageState.UNKNOWN else MessageState.SENDING

    def _take_status(self, word: str) -> bool:
        """Set a reported status if it is a step from the present one; return whether it is."""
        if not is_step(self.state, reported_state(word)):
            return False
        self.status = word
        return True

    # Sends

    @classmethod
    def claim(
        cls, instance: Instance, outgoing: OutboundMessage, is_stored: bool = True, retry_unknown: bool = False
    ) -> Message:
        """Return the send of a request: a new one or, for a repeat of a request, the message that it has sent.

        With `retry_unknown`, or once it is older than SENDING, a send of unknown outcome is begun again. One without a
        request id is stored if `is_stored`. Raises SendUnderWay while the first request has no result,
        SendOutcomeUnknown, and Instance.DoesNotExist.
        """
        message = cls(
            instance=instance,
            request_id=outgoing.request_id,
            remote_jid=outgoing.remote_jid,
            remote_jid_alt=None if "@" in outgoing.remote_jid else jid(outgoing.remote_jid),
            from_me=True,
            type=outgoing.type,
            content=outgoing.content,
            timestamp=int(time.time()),
            status=MessageState.SENDING,
        )
        if outgoing.request_id is None:
            if is_stored:
                message._insert()
            return message
        with transaction.atomic():
            Instance.objects.locked().get(pk=instance.pk)
            known = cls.objects.filter(instance=instance, request_id=outgoing.request_id).first()
            if known is None:
                message.save()
                return message
            if known.wa_id:
                return known
            known._require_repeatable(retry_unknown)
            if any(getattr(known, name) != getattr(message, name) for name in ("remote_jid", "type", "content")):
                known.delete()  # what WhatsApp may still report on it is no report on this message
                message.save()
                return message
            known.status, known.extra = MessageState.SENDING, {}
            known.timestamp, known.created_at = message.timestamp, timezone.now()
            known.save()
        return known

    @classmethod
    def was_sent(cls, instance: Instance, request_id: str | None) -> bool:
        """Return whether WhatsApp has accepted the message of an earlier request with this id."""
        sent = cls.objects.filter(instance=instance, request_id=request_id, wa_id__isnull=False)
        return request_id is not None and sent.exists()

    def _insert(self) -> None:
        try:
            self.save()
        except IntegrityError:
            raise Instance.DoesNotExist from None

    def _require_repeatable(self, retry_unknown: bool) -> None:
        """Raise SendUnderWay or SendOutcomeUnknown unless the request may be sent again."""
        if not is_step(self.state, MessageState.SENDING):
            raise SendUnderWay
        if self.created_at > timezone.now() - self.SENDING and not retry_unknown:
            raise SendOutcomeUnknown(**self.extra["error"])

    @property
    def callback_data(self) -> str | None:
        """Text for WhatsApp to return in its reports, by which they find this send before its id is known."""
        if self.pk is None or self.request_id is None:
            return None
        return CALLBACK_PREFIX + _signer.sign(f"{self.instance_id}:{self.pk}")

    @classmethod
    def _find_by_callback_data(cls, instance: Instance, data: str | None) -> Message | None:
        """Return the send without a result that the callback data was given for."""
        if data is None or not data.startswith(CALLBACK_PREFIX):
            return None
        try:
            instance_id, _, pk = _signer.unsign(data.removeprefix(CALLBACK_PREFIX)).partition(":")
        except BadSignature:
            return None
        if instance_id != str(instance.pk):
            return None
        send = cls.objects.filter(instance=instance, pk=int(pk), wa_id=None).first()
        if send:
            send.instance = instance
        return send

    def record_sent(self, wa_id: str, status: str | None) -> dict[str, Any]:
        """Store the id that WhatsApp gave the message, and announce send.message; then what was reported before.

        Returns the data of send.message. Raises Instance.DoesNotExist if the instance was deleted meanwhile, and
        IntegrityError for the id of another message.
        """
        with transaction.atomic():
            Instance.objects.locked().get(pk=self.instance_id)  # before its stream: everywhere in this order
            stored = self._stored()
            if stored and stored.wa_id == wa_id:
                return stored.as_event()  # a report has settled it
            if stored and stored.wa_id is None:
                return stored._settle(wa_id, status)
            # not stored yet; or the request was sent again meanwhile, and WhatsApp has accepted both
            return (self if self.pk is None else self._without_request())._settle(wa_id, status)

    def _stored(self) -> Message | None:
        """Return the row of this send as it is now; a report, or a repeat of the request, may have changed it."""
        stored = Message.objects.filter(pk=self.pk).first() if self.pk else None
        if stored:
            stored.instance = self.instance
        return stored

    def _without_request(self) -> Message:
        """Return a new send like this one that is no request's."""
        names = ("instance", "remote_jid", "from_me", "type", "content", "timestamp")
        return Message(**{name: getattr(self, name) for name in names}, status=MessageState.SENDING)

    def _settle(self, wa_id: str, status: str | None) -> dict[str, Any]:
        """Store the result of a send, and announce it; the instance is locked. Returns the data of send.message."""
        echo = Message.objects.filter(instance=self.instance, wa_id=wa_id, from_me=True, request_id=None).first()
        message = self
        if echo and self._is_shown_by(echo):
            # WhatsApp has shown the message, as one of this number, before it has answered
            message, echo.request_id = echo, self.request_id
            if self.pk:
                self.delete()
        state, message.wa_id = message.state, wa_id
        if is_step(state, reported_state(status)):
            message.status, message.extra = status, ({} if message is self else message.extra)
        message.save()
        if message is self:
            Chat.count(message.instance, message)
        event_data = message.as_event()
        announce(EventType.SEND_MESSAGE, message.instance, event_data, dedupe_key=_sent_key(wa_id))
        for early in EarlyStatus.objects.filter(instance=message.instance, wa_id=wa_id):
            message._take_report(early.parsed())
            early.delete()
        Message._release_early_statuses(message.instance)
        return event_data

    def _is_shown_by(self, echo: Message) -> bool:
        """Return whether a message with this send's WhatsApp id is WhatsApp's own form of it, and no other one."""
        texts = [message.content.get("conversation") for message in (self, echo)]
        if None not in texts:
            return texts[0] == texts[1]
        return echo.type in (self.type, "interactiveMessage", "unknown")

    def record_unknown(self, status: int, message: str) -> dict[str, Any] | None:
        """Store that it is not known whether WhatsApp has the message, with the error that the sender is answered.

        Returns the message object instead if a report has settled it meanwhile. A send without a request id, which
        nothing could settle, is deleted.
        """

        def mark(stored: Message) -> None:
            if stored.request_id is None:
                stored.delete()
                self._release_early_statuses(self.instance)
            elif stored.created_at == self.created_at:  # else another request has begun it again
                stored.status, stored.extra = MessageState.UNKNOWN, {"error": {"status": status, "message": message}}
                stored.save(update_fields=["status", "extra"])

        return self._end_without_result(mark)

    def release_claim(self) -> dict[str, Any] | None:
        """Delete a send that WhatsApp refused, so that a request with the same id may try again.

        Returns the message object instead if a report has settled it meanwhile.
        """

        def delete(stored: Message) -> None:
            if stored.created_at == self.created_at:  # else another request has begun it again
                stored.delete()
                self._release_early_statuses(self.instance)

        return self._end_without_result(delete)

    def _end_without_result(self, end: Callable[[Message], None]) -> dict[str, Any] | None:
        """Call `end` with the row of this send, the instance being locked, if both still exist.

        Returns the message object instead if a report has settled it.
        """
        if self.pk is None:
            return None
        with transaction.atomic():
            stored = self._stored() if Instance.objects.locked().filter(pk=self.instance_id).exists() else None
            if stored is None:
                return None
            if stored.wa_id is not None:
                return stored.as_event()
            end(stored)
        return None

    # Status reports

    @classmethod
    def record_status(cls, instance: Instance, report: StatusReport) -> None:
        """Announce a status report, and store the status if it is a step forward; the message itself may not be stored.

        A report on a message that may be one of a send without a result waits for that. Call it with the instance
        locked.
        """
        with transaction.atomic():
            message = cls._known(instance, report.id)
            if not message and (send := cls._find_by_callback_data(instance, report.callback_data)):
                send._settle(report.id, MessageState.PENDING)
                message = cls._known(instance, report.id)
            if message:
                message._take_report(report)
            elif not (cls._may_be_of_a_send(instance, report.remote_jid) and EarlyStatus.keep(instance, report)):
                _announce_report(instance, report)

    @classmethod
    def _known(cls, instance: Instance, wa_id: str) -> Self | None:
        """Return the message with this WhatsApp id, if it is stored."""
        message = cls.objects.filter(instance=instance, wa_id=wa_id).first()
        if message:
            message.instance = instance
        return message

    @classmethod
    def _take_due_report(cls, instance: Instance, report: StatusReport) -> None:
        """Announce a report that waits for nothing, and store its status if its message is stored."""
        if message := cls._known(instance, report.id):
            message._take_report(report)
        else:
            _announce_report(instance, report)

    def _take_report(self, report: StatusReport) -> None:
        """Announce and store a report on this message, and make it the message's status if it is a step forward."""
        if self._take_status(report.status):
            self.save(update_fields=["status"])
        MessageStatus.append([StatusOf(self, report.status, report.participant or report.remote_jid)])
        _announce_report(self.instance, report, self)

    @classmethod
    def store_statuses(cls, instance: Instance, reports: Sequence[tuple[str, str, str | None]]) -> None:
        """Store statuses that an engine has announced itself: the messages' ids, the words, and the participants.

        Those that are a step forward become the messages' status. Call it in a transaction with the instance locked.
        """
        messages = cls.objects.filter(instance=instance, wa_id__in={wa_id for wa_id, _, _ in reports})
        by_id = {message.wa_id: message for message in messages.only("instance", "wa_id", "remote_jid", "status")}
        known = [(by_id[wa_id], word, participant) for wa_id, word, participant in reports if wa_id in by_id]
        changed = {message.pk: message for message, word, _ in known if message._take_status(word)}
        for message in changed.values():
            message.save(update_fields=["status"])
        MessageStatus.append(StatusOf(message, word, who or message.remote_jid) for message, word, who in known)

    @classmethod
    def _may_be_of_a_send(cls, instance: Instance, remote_jid: str) -> bool:
        """Return whether a send to this address may still get a result."""
        user, _, server = remote_jid.partition("@")
        is_to = Q(remote_jid=remote_jid)
        if server == "s.whatsapp.net":
            # a sender may write the number in another form, or know the person by a user id alone
            is_to |= Q(remote_jid__contains=user[-_COMPARED_DIGITS:]) | Q(remote_jid__endswith="@lid")
        elif server == "lid":
            is_to |= Q(remote_jid__endswith="@s.whatsapp.net")
        now = timezone.now()
        is_in_time = Q(created_at__gt=now - cls.SENDING) | Q(
            created_at__gt=now - cls.SETTLING, request_id__isnull=False
        )
        return cls.objects.filter(is_to, is_in_time, instance=instance, wa_id=None).exists()

    @classmethod
    def _release_early_statuses(cls, instance: Instance) -> None:
        """Announce the reports that wait for no send any more: other programs may send from the same number."""
        is_awaited: dict[str, bool] = {}
        expired_at = timezone.now() - cls.SETTLING
        for early in EarlyStatus.objects.filter(instance=instance):
            report = early.parsed()
            if report.remote_jid not in is_awaited:
                is_awaited[report.remote_jid] = cls._may_be_of_a_send(instance, report.remote_jid)
            if early.created_at < expired_at or not is_awaited[report.remote_jid]:
                cls._take_due_report(instance, report)
                early.delete()

    @classmethod
    def release_expired_statuses(cls) -> bool:
        """Announce the reports of one instance that have waited for too long; return whether there may be others.

        Call it in a transaction.
        """
        early = EarlyStatus.objects.filter(created_at__lt=timezone.now() - cls.SETTLING).first()
        if early is None:
            return False
        instance = Instance.objects.locked().filter(pk=early.instance_id).first()
        if instance:
            cls._release_early_statuses(instance)
        return True

    @classmethod
    def delete_unsettled(cls, limit: int, before: Any) -> bool:
        """Delete up to `limit` sends that have no result and will get none; return whether there may be others.

        Those of requests with an id, which a late report may still settle, are kept until `before`.
        """
        settling = timezone.now() - cls.SETTLING
        is_over = Q(request_id=None, created_at__lt=settling) | Q(created_at__lt=min(before, settling))
        ids = list(cls.objects.filter(is_over, wa_id=None).order_by("created_at").values_list("pk", flat=True)[:limit])
        cls.objects.filter(pk__in=ids, wa_id=None).delete()
        return len(ids) == limit


def _announce_report(instance: Instance, report: StatusReport, message: Message | None = None) -> None:
    event_data = report.as_event() | {"instanceId": str(instance.pk)}
    if message:
        event_data["messageId"] = str(message.pk)
    announce(EventType.MESSAGES_UPDATE, instance, event_data, dedupe_key=report.dedupe_key)


class SendUnderWay(Exception):
    """Raised for a request that repeats another one which is not done yet."""


class SendOutcomeUnknown(Exception):
    """Raised for a request that repeats another one of unknown outcome; has the error that the first was answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _received_key(wa_id: str | None) -> str:
    return f"message:{wa_id}"


def _sent_key(wa_id: str) -> str:
    return f"sent:{wa_id}"
