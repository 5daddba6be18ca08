"""Counts events and attempts into hours: pages in the order of commits, each in one transaction with the position.

One process counts at a time, the one that has moved the position last; another one takes over when it has not moved
for LEASE. That only spares work: two that count the same page cannot both move the position, and no count is added
without. The transactions that record events are not touched: what is counted has been committed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import Max, Sum
from django.utils import timezone

from instances.bounds import COUNTED_HOURS, COUNTED_PAGE_EVENTS
from realtime.counters.hours import this_hour
from realtime.counters.models import CounterPosition, EndpointHour, HourTotal, InstanceHour
from realtime.counters.pages import next_attempts, next_events
from realtime.counters.start import first_position
from realtime.counters.tally import HourTally, store_load
from realtime.database import Pool, database
from realtime.delivery.models import Attempt
from realtime.log.cursor import Cursor
from realtime.operation.models import GONE, Process

#: Seconds between two rounds.
INTERVAL = 5.0
#: The time after which the position is stored anew although nothing was counted, and after which another process may
#: take over.
HEARTBEAT, LEASE = timedelta(seconds=10), timedelta(seconds=30)
#: Rows that one transaction deletes.
BATCH = 500


class _Mark(NamedTuple):
    """An attempt, and the id of a transaction that began after all that can still add attempts up to it."""

    attempt: int
    transaction_id: int


class Counter:
    """Counts for this process, a page in each step. Safe to use from one thread at a time."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(8)
        self._mark: _Mark | None = None
        #: All attempts up to this one are committed, or never will be.
        self._settled = 0
        #: The hour of which older counts were deleted.
        self._pruned = 0
        #: The most connections and the longest lag of this hour that are stored.
        self._load = (0, 0, 0)

    def step(self) -> bool:
        """Count a page of events and one of attempts; return whether there may be another page."""
        position = CounterPosition.objects.filter(pk=CounterPosition.ID).first()
        now = timezone.now()
        if position is None:
            CounterPosition.objects.bulk_create([first_position()], ignore_conflicts=True)
            return True
        if position.counted_by not in ("", self._id) and position.counted_at > now - LEASE:
            return False
        page = next_events(Cursor(position.low, position.high, position.row))
        attempts = next_attempts(position.attempt, self._upto(position.attempt))
        is_due = position.counted_by != self._id or position.counted_at < now - HEARTBEAT
        if not page.rows and not attempts and not is_due:
            return False
        tally = HourTally()
        tally.add_events(page.rows)
        tally.add_attempts(attempts)
        low, high, row = page.end
        attempt = attempts[-1].pk if attempts else position.attempt
        unmoved = CounterPosition.objects.filter(
            pk=position.pk, low=position.low, high=position.high, row=position.row, attempt=position.attempt
        )
        with transaction.atomic():
            moved = unmoved.update(
                low=low, high=high, row=row, attempt=attempt, counted_by=self._id, counted_at=timezone.now()
            )
            if moved:
                tally.store()
        return bool(moved) and (page.has_more or len(attempts) == COUNTED_PAGE_EVENTS)

    def _upto(self, counted: int) -> int:
        """Return the attempt up to which none will be added any more.

        PostgreSQL gives out ids before the commit, so a lower one may come later. The last one is settled once every
        transaction that had begun when it was seen has ended.
        """
        if connection.vendor != "postgresql":
            return 2**63 - 1
        with connection.cursor() as cursor:
            if self._mark is not None:
                cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
                if cursor.fetchone()[0] >= self._mark.transaction_id:
                    self._settled, self._mark = self._mark.attempt, None
            if self._mark is None:
                last = Attempt.objects.aggregate(last=Max("pk"))["last"] or 0
                if last > max(self._settled, counted):
                    cursor.execute("SELECT pg_current_xact_id()::text::bigint")  # after the attempt was seen
                    self._mark = _Mark(last, cursor.fetchone()[0])
        return self._settled

    def finish_round(self) -> None:
        """Store the connections and the lag of all processes, and delete what is too old, if this process counts."""
        if not CounterPosition.objects.filter(pk=CounterPosition.ID, counted_by=self._id).exists():
            return
        self._store_load()
        hour = this_hour()
        if self._pruned < hour and _prune(hour - COUNTED_HOURS + 1):
            self._pruned = hour

    def _store_load(self) -> None:
        running = Process.objects.filter(ended="", seen_at__gt=timezone.now() - GONE)
        found = running.aggregate(connections=Sum("connections"), lag=Max("relay_lag_ms"))
        hour, connections, lag = this_hour(), found["connections"] or 0, found["lag"] or 0
        if self._load[0] != hour:
            self._load = (hour, 0, 0)
        load = (hour, max(self._load[1], connections), max(self._load[2], lag))
        if load != self._load:
            store_load(*load)
            self._load = load

    def release(self) -> None:
        """Let another process count at once."""
        CounterPosition.objects.filter(pk=CounterPosition.ID, counted_by=self._id).update(counted_by="")


def _prune(first: int) -> bool:
    """Delete a batch of the hours before this one; return whether none is left."""
    is_done = True
    for model in (InstanceHour, EndpointHour, HourTotal):
        ids = list(model._default_manager.filter(hour__lt=first).values_list("pk", flat=True)[:BATCH])
        model._default_manager.filter(pk__in=ids).delete()
        is_done = is_done and len(ids) < BATCH
    return is_done


async def count_forever() -> None:
    """Count until the task is cancelled; a supervisor runs it. Several servers may do so side by side."""
    counter = Counter()
    try:
        while True:
            began = time.monotonic()
            while await database(counter.step, pool=Pool.UPKEEP):
                await asyncio.sleep(time.monotonic() - began)  # at most half of the time
                began = time.monotonic()
            await database(counter.finish_round, pool=Pool.UPKEEP)
            await asyncio.sleep(INTERVAL)
    finally:
        with suppress(DatabaseError):  # the lease ends by itself
            await database(counter.release, pool=Pool.UPKEEP)
