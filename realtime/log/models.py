"""The log: one row for each event, written in the transaction of the change that it reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone

from instances.events import EventType
from instances.models import Instance, Subscription
from instances.sql import insert, select
from realtime.delivery import wakeup
from realtime.delivery.enqueue import enqueue
from realtime.envelope import render
from realtime.log.bus import bus
from realtime.log.coalescing import Burst, BurstQuerySet, EventDraft, coalesced_types, database_time, readable_bursts
from realtime.log.cursor import Cursor
from realtime.log.stream import Stream

logger = logging.getLogger(__name__)

#: What the dedupe key of `deliveries.dropped` begins with; the hour follows.
DROPPED_KEY = "deliveries.dropped"
#: The hour in which this process knows `deliveries.dropped` to be recorded, by instance and whether it is about the
#: operator's endpoints: it spares looking it up for each event.
_announced: dict[tuple[Any, bool], str] = {}
MAX_ANNOUNCED = 10_000


class TransactionId(models.Func):
    """The id of the transaction that writes the row; 0 on SQLite, where rows are written in commit order anyway."""

    output_field = models.BigIntegerField()

    def as_sqlite(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[()]]:
        return "(0)", ()

    def as_postgresql(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[()]]:
        return "(pg_current_xact_id()::text::bigint)", ()


class EventQuerySet(models.QuerySet["Event"]):
    def between(self, instance_id: Any, after: int, upto: int) -> EventQuerySet:
        """Events of an instance with after < seq <= upto, in order."""
        return self.filter(instance_id=instance_id, seq__gt=after, seq__lte=upto).order_by("seq")

    def past(self, cursor: Cursor) -> EventQuerySet:
        """Events that the cursor is past."""
        passed = Q(transaction_id__lt=cursor.low) | Q(transaction_id__lt=cursor.high, pk__lte=cursor.row)
        return self.filter(passed)

    def horizon(self) -> int:
        """Return a transaction id below which every transaction has ended."""
        if connection.vendor != "postgresql":
            return 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            return cursor.fetchone()[0]


class Recorded(NamedTuple):
    """The result of recording a draft: an event, a repeat of an earlier draft, or a deferred event.

    `seq` is the event's number. For a repeat it is that of the first event, None while that is deferred or if a later
    one replaced it.
    """

    seq: int | None
    event: Event | None
    is_deferred: bool = False

    @property
    def is_repeat(self) -> bool:
        return self.event is None and not self.is_deferred


class EventManager(models.Manager.from_queryset(EventQuerySet)):  # type: ignore[misc]
    """The log: records drafts as events, and returns its current position."""

    def record(
        self, instance: Instance, event_type: EventType, data: Any, dedupe_key: str | None = None
    ) -> Event | None:
        """Write one event as `record_all` does; return None where it is a repeat or deferred."""
        [recorded] = self.record_all(instance, [EventDraft(event_type, data, dedupe_key)])
        return recorded.event

    def record_all(self, instance: Instance, drafts: Sequence[EventDraft]) -> list[Recorded]:
        """Write an instance's events in the caller's transaction; once that commits, wake relay and dispatcher.

        Number, audience and envelope are fixed here, so a replay equals the live delivery. A draft with a dedupe key
        that was recorded before, or that an earlier one of these drafts has, is a repeat and makes no event. Drafts
        that come faster than the interval of their type are deferred (see `Burst`); `write_deferred` writes the latest.
        The returned events have no primary keys. Raises TypeError for data that JSON cannot represent.
        """
        # a draft without a dedupe key has a slot of its own, its index
        slots = [index if draft.dedupe_key is None else draft.dedupe_key for index, draft in enumerate(drafts)]
        # no savepoint: a caller that catches our error must not commit the change without its event
        with transaction.atomic(savepoint=False):
            is_coalesced = not {draft.event_type for draft in drafts}.isdisjoint(coalesced_types())
            keys = [slot for slot in slots if isinstance(slot, str)]
            if keys or is_coalesced:
                Stream.objects.lock(instance)
            seqs = self._seqs_of_repeats(instance, keys)
            new: dict[str | int, EventDraft] = {}
            for slot, draft in zip(slots, drafts, strict=True):
                if slot not in seqs:
                    new.setdefault(slot, draft)
            events = self._write_or_defer(instance, new, is_coalesced)
        seqs |= {slot: event.seq for slot, event in events.items()}
        are_new = [new.pop(slot, None) is not None for slot in slots]
        return [
            Recorded(seqs.get(slot), events.get(slot) if is_new else None, is_deferred=is_new and slot not in events)
            for slot, is_new in zip(slots, are_new, strict=True)
        ]

    def write_deferred(self, instance_id: Any, bursts: BurstQuerySet) -> int:
        """Write the deferred events of an instance's rows in `bursts`; return how many.

        Those of a deleted instance are dropped. Only the stream is locked: deleting an instance locks the stream first,
        so waiting for it with the instance's row locked could be a deadlock.
        """
        with transaction.atomic(savepoint=False):
            Stream.objects.select_for_update(no_key=True).filter(pk=instance_id).first()
            deferred = readable_bursts(bursts.deferred().filter(instance_id=instance_id).order_by("due_at"))
            instance = Instance.objects.filter(pk=instance_id).first()
            if instance is None:
                Burst.objects.filter(pk__in=[burst.pk for burst in deferred]).delete()
                return 0
            events = self._write(instance, [burst.draft() for burst in deferred])
            now = database_time()
            for burst, event in zip(deferred, events, strict=True):
                if burst.dedupe_key is not None:
                    DedupeKey.objects.filter(instance_id=instance_id, key=burst.dedupe_key).update(seq=event.seq)
                burst.mark_emitted(now)
            Burst.objects.store(deferred)
            return len(events)

    def _seqs_of_repeats(self, instance: Instance, keys: list[str]) -> dict[str | int, int | None]:
        """Return the seqs recorded under these keys, which cannot be added to while the stream is locked."""
        if not keys:
            return {}
        return dict(select(DedupeKey, ("key", "seq"), instance.pk, "key", keys))

    def _write_or_defer(
        self, instance: Instance, new: dict[str | int, EventDraft], is_coalesced: bool
    ) -> dict[str | int, Event]:
        """Write the drafts that are not deferred; return the events by slot. Keys of deferred drafts are stored too."""
        drafts = new
        if is_coalesced:
            are_deferred = Burst.objects.defer(instance.pk, list(new.values()))
            drafts = {slot: new[slot] for slot, is_deferred in zip(new, are_deferred, strict=True) if not is_deferred}
        events = dict(zip(drafts, self._write(instance, list(drafts.values())), strict=True))
        insert(
            DedupeKey(instance_id=instance.pk, key=slot, seq=events[slot].seq if slot in events else None)
            for slot in new
            if isinstance(slot, str)
        )
        return events

    def _write(self, instance: Instance, drafts: list[EventDraft]) -> list[Event]:
        if not drafts:
            return []
        subscriptions = subscriptions_of(instance)
        for_sockets = self._sockets_want(subscriptions, [draft.event_type for draft in drafts])
        numbers = Stream.objects.next_numbers(instance, for_sockets)
        events = [
            Event(
                instance_id=instance.pk,
                name=instance.name,
                seq=number.seq,
                type=draft.event_type.value,
                is_heard=is_for_sockets,
                envelope=render(instance, draft.event_type, draft.data, number, draft.extra),
            )
            for draft, number, is_for_sockets in zip(drafts, numbers, for_sockets, strict=True)
        ]
        insert(events)
        for event, number in zip(events, numbers, strict=True):
            event.epoch = number.epoch
        for event, draft in zip(events, drafts, strict=True):
            event.is_admitted = draft.is_admitted
        # no functools.partial: Django reads the name of a robust hook that fails
        transaction.on_commit(lambda: bus.hint(events), robust=True)
        enqueued = enqueue(instance, events, subscriptions)
        if enqueued.has_pending:
            transaction.on_commit(wakeup.wake, robust=True)
        for is_operators, reason in enqueued.dropped.items():
            self._announce_dropped(instance, reason, is_operators)
        return events

    def _announce_dropped(self, instance: Instance, reason: str, is_operators: bool) -> None:
        """Record that deliveries of the instance were dropped, once in each hour for each of the two backlogs."""
        hour = f"{timezone.now():%Y-%m-%dT%H}"
        if _announced.get((instance.pk, is_operators)) == hour:
            return
        key = f"{DROPPED_KEY} {hour}{' operators' if is_operators else ''}"
        draft = EventDraft(EventType.DELIVERIES_DROPPED, {"reason": reason}, key)
        [recorded] = self.record_all(instance, [draft])
        if not recorded.is_repeat:
            logger.warning("Deliveries of %s are dropped: %s", instance.name, reason)

        def remember() -> None:
            if len(_announced) >= MAX_ANNOUNCED:
                _announced.clear()
            _announced[instance.pk, is_operators] = hour

        transaction.on_commit(remember, robust=True)

    def _sockets_want(self, subscriptions: list[Subscription], event_types: list[EventType]) -> list[bool]:
        """Return for each type whether sockets receive it: all do without websocket settings of the instance."""
        subscription = next((row for row in subscriptions if row.instance_id and not row.is_endpoint), None)
        return [subscription is None or subscription.wants(event_type) for event_type in event_types]

    def head(self) -> Cursor:
        """Return the current position of all instances' events: later commits are after it."""
        if connection.vendor == "postgresql":
            horizon = self.horizon()
            return Cursor(horizon, horizon, 0)
        last = self.order_by("-pk").values_list("pk", flat=True).first()
        return Cursor(0, 1, last or Stream.objects.global_floor()[1])


def subscriptions_of(instance: Instance) -> list[Subscription]:
    """Return the instance's subscriptions and those for all instances, as read by the ingress batch if there is one."""
    known = instance.known_subscriptions
    if known is None:
        rows = Subscription.objects.filter(Q(instance_id=instance.pk) | Q(instance=None)).order_by("pk")
        known = rows.even_unreadable()
    return known


class Event(models.Model):
    """An event of an instance, with the envelope that all subscribers receive.

    `is_heard` is the audience: True if sockets receive the event.
    """

    instance_id = models.UUIDField()
    name = models.CharField(max_length=255, help_text="The instance's name when the event was recorded.")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=64)
    is_heard = models.BooleanField("received by sockets", default=True)
    envelope = models.BinaryField()
    transaction_id = models.BigIntegerField(db_default=TransactionId(), editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    #: Epoch of `seq`, and `EventDraft.is_admitted`; set on events that were just written.
    epoch = ""
    is_admitted = False

    objects = EventManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance_id", "seq"), name="event_seq_is_unique"),)
        indexes = (models.Index(fields=("transaction_id", "id"), name="event_commit_order"),)
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} {self.seq}: {self.type}"


class DedupeKey(models.Model):
    """The dedupe key of a recorded event. It outlives the event where providers may repeat a report for longer."""

    instance_id = models.UUIDField()
    key = models.CharField(max_length=600)
    seq = models.BigIntegerField(
        null=True, help_text="Empty while the event is deferred, or if a later one replaced it."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance_id", "key"), name="event_is_recorded_once"),)

    def __str__(self) -> str:
        return self.key
