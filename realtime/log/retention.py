"""Retention of the log. A prefix of each stream is pruned, so one number tells a resuming client what is missing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import (
    Case,
    DateTimeField,
    Exists,
    IntegerChoices,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.utils import timezone

from instances.errors import DATABASE_ERRORS, is_lock_timeout
from instances.models import Instance, Message
from instances.sql import set_lock_timeout
from instances.unreadable import readable
from realtime.database import Pool, database
from realtime.delivery.bodies import Body
from realtime.delivery.inline_bodies import Moving
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint, State
from realtime.delivery.switched_off import give_up_old, waiting_endpoints
from realtime.inbox.storage import delete_expired
from realtime.log.models import DedupeKey, Event
from realtime.log.stream import GLOBAL_STREAM_ID, Stream

logger = logging.getLogger(__name__)

#: Rows that one transaction deletes, and pages of SQLite's file that one cuts off.
BATCH, PAGES = 500, 250
#: The value of SQLite's `auto_vacuum` with which a file can be cut step by step.
INCREMENTAL = 2
#: Least retention of dedupe keys: Meta retries a webhook for seven days, and without the key it is recorded again.
MIN_KEY_RETENTION = timedelta(days=8)
#: A time of creation that is further in the future or the past is none.
CLOCKS, LONG_AGO = timedelta(days=1), timedelta(days=36_500)
#: Milliseconds that a step waits for the lock of a stream.
LOCK_TIMEOUT = 1000
#: Seconds from the start of a server to its first round, and between two rounds.
FIRST_ROUND_DELAY, ROUND_INTERVAL = 60, 600


class Pruning:
    """One round through the log. Each step is a transaction of its own, so writers get locks in between."""

    def __init__(self) -> None:
        retention = timedelta(hours=settings.EVENT_RETENTION_HOURS)
        self.events_before = timezone.now() - retention
        self.keys_before = timezone.now() - max(retention, MIN_KEY_RETENTION)
        self.events = self.keys = self.streams = self.deliveries = 0
        self._steps: Iterator[bool] | None = None

    def step(self) -> bool:
        """Delete a batch; return False when nothing is left to delete.

        What cannot be pruned is logged and left for the next round. Raises OperationalError and InterfaceError.
        """
        if self._steps is None:
            self._steps = self._all_steps()
        return next(self._steps, False)

    def _all_steps(self) -> Iterator[bool]:
        Stream.objects.global_stream()
        for instance_id in list(self._due().values_list("pk", flat=True)):
            yield from self._batches(f"events of instance {instance_id}", partial(self._prune_stream, instance_id))
            yield True
        yield from self._batches("dedupe keys", self._prune_keys)
        yield from self._batches("statuses that wait for a send", _release_statuses)
        yield from self._batches("sends without a result", partial(Message.delete_unsettled, BATCH, self.keys_before))
        yield from self._batches("deliveries", self._prune_deliveries)
        yield from self._batches("inboxes", delete_expired)
        for endpoint_id, reason in waiting_endpoints().items():
            logger.warning("Deliveries to endpoint %s wait, until they are too old: %s", endpoint_id, reason)
            name = f"deliveries to endpoint {endpoint_id}"
            yield from self._batches(name, partial(_give_up_old, endpoint_id, reason))
        yield from self._batches("bodies inside deliveries", Moving().step)
        yield from self._batches("free pages of the database", _give_back_space)

    def _batches(self, what: str, prune: Callable[[], bool]) -> Iterator[bool]:
        try:
            while prune():
                yield True
        except DATABASE_ERRORS as error:
            if not is_lock_timeout(error):
                raise
            logger.info("The %s are locked; the next round tries again", what)
        except Exception:
            logger.exception("The %s could not be pruned; the next round tries again", what)

    def _prune_deliveries(self) -> bool:
        """Delete a batch of finished deliveries with their attempts; return whether there may be another batch.

        Pending deliveries stay, and so do former endpoints that have any, and bodies that have any delivery.
        """
        with transaction.atomic():
            self._lock_global_stream()  # of two processes that delete two deliveries, neither would delete their body
            finished = Delivery.objects.exclude(state=State.PENDING).filter(finished_at__lt=self.events_before)
            locked = finished.order_by("pk").select_for_update(skip_locked=True)
            rows = readable(locked.only("instance_id", "seq", "event_id", "transport"), BATCH)
            ids = [delivery.pk for delivery in rows]
            Attempt.objects.filter(delivery_id__in=ids).delete()
            Delivery.objects.filter(pk__in=ids).delete()
            _delete_bodies(rows)
            self.deliveries += len(ids)
            pending = Delivery.objects.pending().filter(endpoint_id=OuterRef("pk"))
            FormerEndpoint.objects.filter(~Exists(pending), created_at__lt=self.events_before).delete()
        return len(ids) == BATCH

    def _due(self) -> QuerySet[Stream]:
        """Return streams whose oldest event is expired, and those that have neither an event nor an instance."""
        kept = Event.objects.filter(_has_age(), instance_id=OuterRef("pk")).order_by("seq")
        oldest = Subquery(kept.values("created_at")[:1], output_field=DateTimeField())
        is_orphaned = Q(oldest=None) & ~Exists(Instance.objects.filter(pk=OuterRef("pk")))
        return (
            Stream.objects.annotate(oldest=oldest)
            .filter(Q(oldest__lt=self.events_before) | is_orphaned)
            .exclude(pk=GLOBAL_STREAM_ID)
            .order_by("pk")
        )

    def _prune_stream(self, instance_id: Any) -> bool:
        """Delete a batch from the beginning of a stream; return whether there may be another batch."""
        with transaction.atomic():
            set_lock_timeout(LOCK_TIMEOUT)
            global_stream = self._lock_global_stream()
            stream = Stream.objects.select_for_update(no_key=True).filter(pk=instance_id).first()
            if stream is None:
                return False
            kept = Event.objects.filter(instance_id=instance_id).order_by("seq")
            events = list(kept.only("seq", "transaction_id").annotate(age=_age(self.events_before))[:BATCH])
            old = _first_old(events)
            if old:
                self._remove(stream, global_stream, old)
            if len(old) == BATCH:
                return True
            return len(old) == len(events) and self._remove_if_orphaned(stream)

    def _lock_global_stream(self) -> Stream:
        """Lock and return the row of all instances before any other row, so that one process prunes at a time."""
        return Stream.objects.select_for_update(no_key=True).get(pk=GLOBAL_STREAM_ID)

    def _remove(self, stream: Stream, global_stream: Stream, old: list[Event]) -> None:
        last = old[-1].seq
        self.events += Event.objects.filter(instance_id=stream.pk, seq__lte=last).delete()[0]
        Stream.objects.filter(pk=stream.pk).update(first_seq=last + 1)
        global_stream.pruned_transaction = max(
            global_stream.pruned_transaction, *(event.transaction_id for event in old)
        )
        global_stream.pruned_row = max(global_stream.pruned_row, *(event.pk for event in old))
        global_stream.save(update_fields=["pruned_transaction", "pruned_row"])

    def _remove_if_orphaned(self, stream: Stream) -> bool:
        """Delete keys and row of an empty stream if its instance is deleted; return whether keys may be left."""
        if Instance.objects.filter(pk=stream.pk).exists():
            return False
        removed = self._remove_keys(DedupeKey.objects.filter(instance_id=stream.pk).order_by("pk")[:BATCH])
        if removed < BATCH:
            self.streams += stream.delete()[0]
        return removed == BATCH

    def _prune_keys(self) -> bool:
        """Delete a batch of expired keys; return whether there may be another batch.

        Keys are taken in the order of their ids, which is nearly that of their creation.
        """
        with transaction.atomic():
            self._lock_global_stream()
            keys = list(DedupeKey.objects.order_by("pk").only("pk").annotate(age=_age(self.keys_before))[:BATCH])
            return self._remove_keys(_first_old(keys)) == BATCH

    def _remove_keys(self, keys: Any) -> int:
        removed, _ = DedupeKey.objects.filter(pk__in=[key.pk for key in keys]).delete()
        self.keys += removed
        return removed


class Age(IntegerChoices):
    """The age of a row, as the database sees it: the row may hold no time that can be read."""

    OLD = 0
    YOUNG = 1
    UNKNOWN = 2


def _has_age() -> Q:
    """Return the condition that a row's time may be that of its creation: a damaged one is often far away."""
    now = timezone.now()
    return Q(created_at__lt=now + CLOCKS, created_at__gt=now - LONG_AGO)


def _age(before: datetime) -> Case:
    """Return an expression for the age of a row; it is old if it was created before this time."""
    is_old = When(_has_age() & Q(created_at__lt=before), then=Value(Age.OLD.value))
    is_young = When(_has_age(), then=Value(Age.YOUNG.value))
    return Case(is_old, is_young, default=Value(Age.UNKNOWN.value), output_field=IntegerField())


def _first_old(rows: Sequence[Any]) -> list[Any]:
    """Return the first rows that are old. One of unknown age is as old as the next."""
    before = list(takewhile(lambda row: row.age != Age.YOUNG, rows))
    while before and before[-1].age != Age.OLD:
        before.pop()
    return before


def _delete_bodies(deleted: Sequence[Delivery]) -> None:
    """Delete the bodies of deleted deliveries that no other delivery shares."""
    keys = {(delivery.event_id, delivery.transport) for delivery in deleted}
    seqs = defaultdict(set)
    for delivery in deleted:
        seqs[delivery.instance_id].add(delivery.seq)
    # by instance and seq, which have an index; all test events have one seq
    of_events = Q()
    for instance_id, of_instance in seqs.items():
        of_events |= Q(instance_id=instance_id, seq__in=of_instance)
    event_ids = {event_id for event_id, _ in keys}
    sharing = Delivery.objects.filter(of_events, event_id__in=event_ids) if deleted else Delivery.objects.none()
    keys -= set(sharing.order_by().values_list("event_id", "transport").distinct())
    for transport in {transport for _, transport in keys}:
        of_transport = [event_id for event_id, name in keys if name == transport]
        Body.objects.filter(transport=transport, event_id__in=of_transport).delete()


def _release_statuses() -> bool:
    """Announce the statuses of an instance that have waited for too long; return whether there may be others."""
    with transaction.atomic():
        set_lock_timeout(LOCK_TIMEOUT)
        return Message.release_expired_statuses()


def _give_up_old(endpoint_id: int, reason: str) -> bool:
    """Give up a batch of deliveries whose transport is off; return whether there may be another batch."""
    with transaction.atomic():
        return give_up_old(endpoint_id, reason, BATCH) == BATCH


def _give_back_space() -> bool:
    """Cut some free pages off SQLite's file; return whether there may be more.

    A file that was created without `auto_vacuum` keeps them, until `manage.py compact` rewrites it.
    """
    if connection.vendor != "sqlite":
        return False
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA auto_vacuum")
        is_incremental = cursor.fetchone() == (INCREMENTAL,)
        cursor.execute("PRAGMA freelist_count")
        (free,) = cursor.fetchone()
    if not is_incremental or not free:
        return False
    with transaction.atomic(), connection.cursor() as cursor:
        for _ in range(min(free, PAGES)):
            cursor.execute("PRAGMA incremental_vacuum(1)")  # of a larger number, Python would take one step, too
    return free > PAGES


def prune() -> Pruning:
    """Run a complete round in this thread; return its counts.

    It sleeps after each step for as long as the step took, so writers have at least half of the time.
    """
    pruning = Pruning()
    began = time.monotonic()
    while pruning.step():
        time.sleep(time.monotonic() - began)
        began = time.monotonic()
    return pruning


async def prune_forever() -> None:
    """Run rounds until the task is cancelled; a supervisor runs it. Several servers may do so side by side."""
    await asyncio.sleep(FIRST_ROUND_DELAY)
    while True:
        await _prune()
        await asyncio.sleep(ROUND_INTERVAL)


async def _prune() -> None:
    pruning = Pruning()
    began = time.monotonic()
    while await database(pruning.step, pool=Pool.UPKEEP):
        await asyncio.sleep(time.monotonic() - began)
        began = time.monotonic()
    if pruning.events:
        logger.info("Pruned %d events and %d dedupe keys", pruning.events, pruning.keys)
