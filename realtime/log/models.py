"""The log: one row for each event, written in the transaction of the change that it reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connection, models, transaction
from django.db.models import Q

from instances.events import EventType
from instances.models import Instance, Subscription
from instances.sql import insert, select
from realtime.delivery import wakeup
from realtime.delivery.enqueue import enqueue
from realtime.envelope import render
from realtime.log.bus import bus
from realtime.log.coalescing import Burst, BurstQuerySet, EventDraft, coalesced_types, database_time
from realtime.log.cursor import Cursor
from realtime.log.stream import Stream


class Page(NamedTuple):
    """A stretch of a stream: events with the place that each one leads to, and where the stretch ends."""

    entries: list[tuple[Any, Event]]
    end: Any


class TransactionId(models.Func):
    """The id of the transaction that writes the row; 0 on SQLite, where rows are written in commit order anyway."""

    output_field = models.BigIntegerField()

    def as_sqlite(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[()]]:
        return "(0)", ()

    def as_postgresql(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[()]]:
        return "(pg_current_xact_id()::text::bigint)", ()


class EventQuerySet(models.QuerySet["Event"]):
    def between(self, instance_id: Any, after: int, upto: int) -> EventQuerySet:
        """An instance's events with after < seq <= upto, in order."""
        return self.filter(instance_id=instance_id, seq__gt=after, seq__lte=upto).order_by("seq")

    def in_window(self, window: Cursor) -> EventQuerySet:
        """The rows of a window after its `row`, in order."""
        rows = self.filter(pk__gt=window.row)
        if connection.vendor != "postgresql":
            return rows.order_by("pk")  # every row is in the one window there is
        rows = rows.filter(transaction_id__gte=window.low, transaction_id__lt=window.high)
        return rows.order_by(models.F("pk") + 0)  # not by the index of rows: it would walk the whole log

    def past(self, cursor: Cursor) -> EventQuerySet:
        """What lies before the cursor."""
        passed = Q(transaction_id__lt=cursor.low) | Q(transaction_id__lt=cursor.high, pk__lte=cursor.row)
        return self.filter(passed)

    def horizon(self) -> int:
        """Every transaction with an id below this one has ended."""
        if connection.vendor != "postgresql":
            return 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            return cursor.fetchone()[0]

    def page_after(self, cursor: Cursor, limit: int, upto: Cursor | None = None) -> Page:
        """The next events of all instances that none can precede any more, at most `limit`; not beyond `upto`."""
        horizon = upto.high if upto else self.horizon()
        rows = self.past(upto) if upto else self
        windows = [cursor, Cursor(cursor.high, horizon, 0)] if cursor.high < horizon else [cursor]
        entries: list[tuple[Any, Event]] = []
        for window in windows:
            events = list(rows.in_window(window)[: limit - len(entries)])
            entries += [(window._replace(row=event.pk), event) for event in events]
            end = entries[-1][0] if events else window
            if len(entries) == limit:
                return Page(entries, end)
        return Page(entries, upto or end)


class Recorded(NamedTuple):
    """What became of a happening: an event, or a repeat of one, or it is held.

    `seq` is the event's number and for a repeat the first one's, None while that is held or when it never became one.
    """

    seq: int | None
    event: Event | None
    is_deferred: bool = False

    @property
    def is_repeat(self) -> bool:
        return self.event is None and not self.is_deferred


class EventManager(models.Manager.from_queryset(EventQuerySet)):  # type: ignore[misc]
    """The log itself."""

    def record(
        self, instance: Instance, event_type: EventType, data: Any, dedupe_key: str | None = None
    ) -> Event | None:
        """Write one event, as `record_all` does. Returns None where it was recorded before, or is held."""
        [recorded] = self.record_all(instance, [EventDraft(event_type, data, dedupe_key)])
        return recorded.event

    def record_all(self, instance: Instance, drafts: Sequence[EventDraft]) -> list[Recorded]:
        """Write an instance's events in the caller's transaction and, once that commits, wake whoever tells them.

        Number, audience and envelope are settled here for good: a replay gives what live listeners got. What has the
        dedupe key of something recorded before, or of one before it among these, is a repeat and makes no event.
        What comes faster than its type allows is deferred (see `Burst`): `write_deferred` makes an event of the last.
        The events that are returned do not know their primary keys. Raises TypeError for data that JSON cannot hold.
        """
        marks = [index if told.dedupe_key is None else told.dedupe_key for index, told in enumerate(drafts)]
        # no savepoint: whoever catches our error must not commit the change without its event
        with transaction.atomic(savepoint=False):
            is_coalesced = not {told.event_type for told in drafts}.isdisjoint(coalesced_types())
            keys = [mark for mark in marks if isinstance(mark, str)]
            if keys or is_coalesced:
                Stream.objects.lock(instance)
            seqs = self._seqs_of_repeats(instance, keys)
            new: dict[str | int, EventDraft] = {}
            for mark, draft in zip(marks, drafts, strict=True):
                if mark not in seqs:
                    new.setdefault(mark, draft)
            events = self._write_or_defer(instance, new, is_coalesced)
        seqs |= {mark: event.seq for mark, event in events.items()}
        firsts = [new.pop(mark, None) is not None for mark in marks]
        return [
            Recorded(
                seqs.get(mark), events.get(mark) if is_first else None, is_deferred=is_first and mark not in events
            )
            for mark, is_first in zip(marks, firsts, strict=True)
        ]

    def write_deferred(self, instance_id: Any, bursts: BurstQuerySet) -> int:
        """Make events of what waits in these of an instance's bursts; returns how many they are.

        Where the instance is gone it is dropped. Only the stream is locked: who deletes an instance locks that first,
        so to hold the instance's row and wait for the stream could be a deadlock.
        """
        with transaction.atomic(savepoint=False):
            Stream.objects.select_for_update(no_key=True).filter(pk=instance_id).first()
            waiting = list(bursts.deferred().filter(instance_id=instance_id).order_by("due_at"))
            instance = Instance.objects.filter(pk=instance_id).first()
            if instance is None:
                Burst.objects.filter(pk__in=[burst.pk for burst in waiting]).delete()
                return 0
            events = self._write(instance, [burst.draft() for burst in waiting])
            now = database_time()
            for burst, event in zip(waiting, events, strict=True):
                if burst.dedupe_key is not None:
                    DedupeKey.objects.filter(instance_id=instance_id, key=burst.dedupe_key).update(seq=event.seq)
                burst.mark_emitted(now)
            Burst.objects.store(waiting)
            return len(events)

    def _seqs_of_repeats(self, instance: Instance, keys: list[str]) -> dict[str | int, int | None]:
        """The numbers of what was recorded under these keys; nobody can record under them until we are done."""
        if not keys:
            return {}
        return dict(select(DedupeKey, ("key", "seq"), instance.pk, "key", keys))

    def _write_or_defer(
        self, instance: Instance, new: dict[str | int, EventDraft], is_coalesced: bool
    ) -> dict[str | int, Event]:
        """The events made of these, by their marks; the key of what is held counts from now on as well."""
        told = new
        if is_coalesced:
            are_held = Burst.objects.defer(instance.pk, list(new.values()))
            told = {mark: new[mark] for mark, is_deferred in zip(new, are_held, strict=True) if not is_deferred}
        events = dict(zip(told, self._write(instance, list(told.values())), strict=True))
        insert(
            DedupeKey(instance_id=instance.pk, key=mark, seq=events[mark].seq if mark in events else None)
            for mark in new
            if isinstance(mark, str)
        )
        return events

    def _write(self, instance: Instance, drafts: list[EventDraft]) -> list[Event]:
        if not drafts:
            return []
        subscriptions = _subscriptions_of(instance)
        heard = self._sockets_want(subscriptions, [draft.event_type for draft in drafts])
        numbers = Stream.objects.next_numbers(instance, heard)
        events = [
            Event(
                instance_id=instance.pk,
                name=instance.name,
                seq=number.seq,
                type=draft.event_type.value,
                is_heard=is_heard,
                envelope=render(instance, draft.event_type, draft.data, number),
            )
            for draft, number, is_heard in zip(drafts, numbers, heard, strict=True)
        ]
        insert(events)
        for event, number in zip(events, numbers, strict=True):
            event.epoch = number.epoch
        # no partial: Django asks a robust hook that fails for its name
        transaction.on_commit(lambda: bus.hint(events), robust=True)
        if enqueue(instance, events, subscriptions):
            transaction.on_commit(lambda: wakeup.wake(), robust=True)
        return events

    def _sockets_want(self, subscriptions: list[Subscription], event_types: list[EventType]) -> list[bool]:
        """An instance without websocket settings is heard whole; with settings, they rule."""
        subscription = next((one for one in subscriptions if one.instance_id and not one.is_endpoint), None)
        return [subscription is None or subscription.wants(event_type) for event_type in event_types]

    def head(self) -> Cursor:
        """Where all instances' events stand now: what commits from here on lies after it."""
        if connection.vendor == "postgresql":
            horizon = self.horizon()
            return Cursor(horizon, horizon, 0)
        last = self.order_by("-pk").values_list("pk", flat=True).first()
        return Cursor(0, 1, last or Stream.objects.global_floor()[1])


def _subscriptions_of(instance: Instance) -> list[Subscription]:
    """As they are stored or, for an instance that the intake has locked, as it has read them; also those for all."""
    known = instance.known_subscriptions
    if known is None:
        known = list(Subscription.objects.filter(Q(instance_id=instance.pk) | Q(instance=None)).order_by("pk"))
    return known


class Event(models.Model):
    """One thing that happened to an instance, as it is told everywhere."""

    instance_id = models.UUIDField()
    name = models.CharField(max_length=255, help_text="The instance's name when it happened.")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=64)
    is_heard = models.BooleanField("heard by sockets", default=True)
    envelope = models.BinaryField()
    transaction_id = models.BigIntegerField(db_default=TransactionId(), editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    #: Of its counting, where it was just written.
    epoch = ""

    objects = EventManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance_id", "seq"), name="event_seq_is_unique"),)
        indexes = (models.Index(fields=("transaction_id", "id"), name="event_commit_order"),)
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} {self.seq}: {self.type}"


class DedupeKey(models.Model):
    """What an event was recorded under. It outlives its event where providers may repeat themselves for longer."""

    instance_id = models.UUIDField()
    key = models.CharField(max_length=600)
    seq = models.BigIntegerField(null=True, help_text="None while it is held, and where a later one took its place.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance_id", "key"), name="event_is_recorded_once"),)

    def __str__(self) -> str:
        return self.key
