from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from django.db import connection, models
from django.db.models import Count, Max, Q, Sum
from django.utils import timezone

from instances.changes import InboundMessage
from instances.events import EventType
from instances.fields import PlainField
from instances.models.contact import Announcement
from instances.models.instance import Instance
from instances.sql import database_id, insert, select

#: A field to convert a time by.
_UPDATED_AT = models.DateTimeField()
#: Chats whose counters one statement changes.
_CHATS_AT_ONCE = 1000


class CountedMessage(Protocol):
    """The attributes of a message that the counters of its chat need."""

    @property
    def remote_jid(self) -> str: ...

    @property
    def from_me(self) -> bool: ...

    @property
    def timestamp(self) -> int: ...


@dataclass
class Tally:
    """The change that some messages make to the counters of their chat."""

    messages: int = 0
    #: Those received since the last one of the instance's own; `resets_unread` if there is one of its own.
    unread: int = 0
    resets_unread: bool = False
    last_message_at: int = 0
    last_inbound_at: int = 0

    def add(self, message: CountedMessage) -> None:
        self.messages += 1
        self.last_message_at = max(self.last_message_at, message.timestamp, 1)  # 0 says that there is none
        if message.from_me:
            self.unread, self.resets_unread = 0, True
        else:
            self.unread += 1
            self.last_inbound_at = max(self.last_inbound_at, message.timestamp)


class Chat(models.Model):
    """A conversation of an instance, with counters that change in the transaction that stores its messages."""

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="chats")
    remote_jid = models.CharField("remote JID", max_length=255)
    name = PlainField(max_length=255, null=True)
    message_count = models.BigIntegerField(
        default=0, db_default=0, help_text="Stored messages, without sends that have no result."
    )
    unread_count = models.BigIntegerField(
        default=0, db_default=0, help_text="Messages that were received after the last one of the instance's own."
    )
    last_message_at = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="Seconds since 1970 of the newest message, by WhatsApp's clock; 0 without one.",
    )
    last_inbound_at = models.BigIntegerField(
        default=0, db_default=0, help_text="Seconds since 1970 of the newest message that was received; 0 without one."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance", "remote_jid"), name="chat_is_stored_once"),)
        indexes = (models.Index(fields=("instance", "-last_message_at", "-id"), name="chat_newest_first"),)
        ordering = ("-updated_at",)

    def __str__(self) -> str:
        return self.name or self.remote_jid

    @classmethod
    def touch(cls, instance: Instance, inbounds: Sequence[InboundMessage]) -> list[list[Announcement]]:
        """Store the chats of new messages, and count these. Return the events to announce for each message, in order.

        The instance is locked.
        """
        names: dict[str, str | None] = {}
        tallies: dict[str, Tally] = {}
        for inbound in inbounds:
            jid = inbound.remote_jid
            names.setdefault(jid, inbound.push_name if inbound.named_jid == jid else None)
            tallies.setdefault(jid, Tally()).add(inbound)
        is_new = dict.fromkeys(cls._count(instance, tallies, names), True)
        announcements = []
        for inbound in inbounds:
            event_data = {"remoteJid": inbound.remote_jid, "instanceId": str(instance.pk)}
            event_types = [EventType.CHATS_UPDATE, EventType.CHATS_UPSERT]
            event_types = event_types[1:] if is_new.pop(inbound.remote_jid, False) else event_types
            announcements.append([(event_type, event_data) for event_type in event_types if inbound.always_upserts])
        return announcements

    @classmethod
    def count(cls, instance: Instance, message: CountedMessage) -> None:
        """Count a message that was sent, and store its chat; the instance is locked."""
        tally = Tally()
        tally.add(message)
        cls._count(instance, {message.remote_jid: tally}, {})

    @classmethod
    def _count(cls, instance: Instance, tallies: dict[str, Tally], names: dict[str, str | None]) -> list[str]:
        """Add tallies to the chats of an instance, and their messages to its counter. Return the new chats' JIDs."""
        known = {jid for (jid,) in select(cls, ("remote_jid",), instance.pk, "remote_jid", tallies)}
        changes = [(jid, tally) for jid, tally in tallies.items() if jid in known]
        for at in range(0, len(changes), _CHATS_AT_ONCE):
            _add(instance.pk, changes[at : at + _CHATS_AT_ONCE])
        new = [jid for jid in tallies if jid not in known]
        insert([cls._of(instance, jid, names.get(jid), tallies[jid]) for jid in new], ignore_conflicts=True)
        MessageCount.add(instance.pk, sum(tally.messages for tally in tallies.values()))
        return new

    @classmethod
    def _of(cls, instance: Instance, jid: str, name: str | None, tally: Tally) -> Chat:
        return cls(
            instance=instance,
            remote_jid=jid,
            name=name,
            message_count=tally.messages,
            unread_count=tally.unread,
            last_message_at=tally.last_message_at,
            last_inbound_at=tally.last_inbound_at,
        )

    @classmethod
    def recount(cls, instance_id: UUID, messages: models.QuerySet[Any], jids: Collection[str]) -> None:
        """Count the stored messages of some chats of an instance once more; the instance is locked.

        `messages`: a queryset of the model `Message`, whose module imports this one.
        """
        stored = messages.filter(instance_id=instance_id, remote_jid__in=jids, wa_id__isnull=False).order_by()
        chats = cls.objects.filter(instance_id=instance_id, remote_jid__in=jids)
        inbound_at = Max("timestamp", filter=Q(from_me=False), default=0)
        grouped = stored.values_list("remote_jid").annotate(Count("pk"), Max("timestamp"), inbound_at=inbound_at)
        before = chats.aggregate(Sum("message_count"))["message_count__sum"] or 0
        chats.update(message_count=0, last_message_at=0, last_inbound_at=0)
        changes = [(jid, Tally(count, 0, False, max(last, 1), inbound)) for jid, count, last, inbound in grouped]
        for at in range(0, len(changes), _CHATS_AT_ONCE):
            _add(instance_id, changes[at : at + _CHATS_AT_ONCE])
        MessageCount.add(instance_id, sum(tally.messages for _, tally in changes) - before)


def _add(instance_id: UUID, changes: Sequence[tuple[str, Tally]]) -> None:
    """Add tallies to chats that are stored, in one statement."""
    if not changes:
        return
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(changes))
    values: list[Any] = []
    for jid, tally in changes:
        values += [jid, tally.messages, tally.unread, int(tally.resets_unread)]
        values += [tally.last_message_at, tally.last_inbound_at]
    now = _UPDATED_AT.get_db_prep_value(timezone.now(), connection)
    key = database_id(instance_id)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH tally (remote_jid, messages, unread, resets_unread, last_message_at, last_inbound_at)
            AS (VALUES {rows})
            UPDATE instances_chat SET
                updated_at = %s,
                message_count = message_count + tally.messages,
                unread_count = CASE WHEN tally.resets_unread = 1 THEN 0 ELSE unread_count END + tally.unread,
                last_message_at = CASE WHEN tally.last_message_at > instances_chat.last_message_at
                    THEN tally.last_message_at ELSE instances_chat.last_message_at END,
                last_inbound_at = CASE WHEN tally.last_inbound_at > instances_chat.last_inbound_at
                    THEN tally.last_inbound_at ELSE instances_chat.last_inbound_at END
            FROM tally WHERE instances_chat.instance_id = %s AND instances_chat.remote_jid = tally.remote_jid
            """,  # noqa: S608 (there is no input in it)
            [*values, now, key],
        )


class MessageCount(models.Model):
    """The number of an instance's stored messages, without sends that have no result.

    It is a row of its own: whoever saves an instance writes all of its columns.
    """

    instance = models.OneToOneField(Instance, models.CASCADE, primary_key=True, related_name="counted_messages")
    count = models.BigIntegerField()

    def __str__(self) -> str:
        return str(self.count)

    @classmethod
    def add(cls, instance_id: UUID, count: int) -> None:
        """Add to the number of an instance's messages."""
        key = database_id(instance_id)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO instances_messagecount (instance_id, count) VALUES (%s, %s)
                ON CONFLICT (instance_id) DO UPDATE SET count = instances_messagecount.count + excluded.count
                """,
                [key, count],
            )
