"""How long the log is kept. Of each stream a prefix goes, so whoever resumes knows from one number what is missing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import takewhile
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import DateTimeField, Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from instances.models import Instance
from realtime.database import Pool, database
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint, State
from realtime.log.models import DedupeKey, Event
from realtime.log.stream import GLOBAL_STREAM_ID, Stream

logger = logging.getLogger(__name__)

#: Rows that one transaction removes.
BATCH = 500
#: Meta repeats for seven days what was not taken; a key that is forgotten earlier would tell of it twice.
KEYS_LIVE_AT_LEAST = timedelta(days=8)
#: Seconds from the start of a server to its first round, and between two.
FIRST_ROUND, BETWEEN_ROUNDS = 60, 600


class Pruning:
    """One round through the log. Each step is a transaction of its own, so writers get their turn in between."""

    def __init__(self) -> None:
        retention = timedelta(hours=settings.EVENT_RETENTION_HOURS)
        self.events_before = timezone.now() - retention
        self.keys_before = timezone.now() - max(retention, KEYS_LIVE_AT_LEAST)
        self.events = self.keys = self.streams = self.deliveries = 0
        self._steps = self._all_steps()

    def step(self) -> bool:
        """Remove a batch; False when nothing is left to remove."""
        return next(self._steps, False)

    def _all_steps(self) -> Iterator[bool]:
        Stream.objects.global_stream()
        for instance_id in list(self._due().values_list("pk", flat=True)):
            while self._prune_stream(instance_id):
                yield True
            yield True
        while self._prune_keys():
            yield True
        while self._prune_deliveries():
            yield True

    def _prune_deliveries(self) -> bool:
        """Remove a batch of those that are finished, with their attempts; what is still to be sent stays."""
        with transaction.atomic():
            done = Delivery.objects.exclude(state=State.PENDING).filter(finished_at__lt=self.events_before)
            ids = list(done.order_by("pk").select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH])
            Attempt.objects.filter(delivery_id__in=ids).delete()
            Delivery.objects.filter(pk__in=ids).delete()
            self.deliveries += len(ids)
            owed = Delivery.objects.pending().filter(endpoint_id=OuterRef("pk"))
            FormerEndpoint.objects.filter(~Exists(owed), created_at__lt=self.events_before).delete()
        return len(ids) == BATCH

    def _due(self) -> QuerySet[Stream]:
        """Streams whose oldest event is past its time, and those that have neither an event nor an instance."""
        kept = Event.objects.filter(instance_id=OuterRef("pk")).order_by("seq")
        oldest = Subquery(kept.values("created_at")[:1], output_field=DateTimeField())
        is_over = Q(oldest=None) & ~Exists(Instance.objects.filter(pk=OuterRef("pk")))
        return (
            Stream.objects.annotate(oldest=oldest)
            .filter(Q(oldest__lt=self.events_before) | is_over)
            .exclude(pk=GLOBAL_STREAM_ID)
            .order_by("pk")
        )

    def _prune_stream(self, instance_id: Any) -> bool:
        """Remove a batch from the beginning of a stream; returns whether there may be another one."""
        with transaction.atomic():
            whole = self._take_turn()
            stream = Stream.objects.select_for_update(no_key=True).filter(pk=instance_id).first()
            if stream is None:
                return False
            kept = Event.objects.filter(instance_id=instance_id).order_by("seq")
            events = list(kept.only("seq", "transaction_id", "created_at")[:BATCH])
            old = list(takewhile(lambda event: event.created_at < self.events_before, events))
            if old:
                self._remove(stream, whole, old)
            if len(old) == BATCH:
                return True
            return len(old) == len(events) and self._remove_if_over(stream)

    def _take_turn(self) -> Stream:
        """The row of all, locked before any other: of several processes that prune, one at a time does."""
        return Stream.objects.select_for_update(no_key=True).get(pk=GLOBAL_STREAM_ID)

    def _remove(self, stream: Stream, whole: Stream, old: list[Event]) -> None:
        last = old[-1].seq
        self.events += Event.objects.filter(instance_id=stream.pk, seq__lte=last).delete()[0]
        Stream.objects.filter(pk=stream.pk).update(first_seq=last + 1)
        whole.pruned_transaction = max(whole.pruned_transaction, *(event.transaction_id for event in old))
        whole.pruned_row = max(whole.pruned_row, *(event.pk for event in old))
        whole.save(update_fields=["pruned_transaction", "pruned_row"])

    def _remove_if_over(self, stream: Stream) -> bool:
        """A deleted instance whose last event is gone leaves nothing; returns whether there is more of it."""
        if Instance.objects.filter(pk=stream.pk).exists():
            return False
        removed = self._remove_keys(DedupeKey.objects.filter(instance_id=stream.pk).order_by("pk")[:BATCH])
        if removed < BATCH:
            self.streams += stream.delete()[0]
        return removed == BATCH

    def _prune_keys(self) -> bool:
        """Remove a batch of keys; they were stored in the order of time, near enough."""
        with transaction.atomic():
            self._take_turn()
            keys = DedupeKey.objects.order_by("pk")[:BATCH]
            return self._remove_keys(takewhile(lambda key: key.created_at < self.keys_before, keys)) == BATCH

    def _remove_keys(self, keys: Any) -> int:
        removed, _ = DedupeKey.objects.filter(pk__in=[key.pk for key in keys]).delete()
        self.keys += removed
        return removed


def prune() -> Pruning:
    """A whole round, in this thread. Rests as long as it worked, so at least half of the time is the writers'."""
    pruning = Pruning()
    began = time.monotonic()
    while pruning.step():
        time.sleep(time.monotonic() - began)
        began = time.monotonic()
    return pruning


async def prune_forever() -> None:
    """Rounds as long as the server runs; several servers on one database may do so side by side."""
    await asyncio.sleep(FIRST_ROUND)
    while True:
        try:
            await _prune()
        except DatabaseError:
            logger.exception("The log could not be pruned; the next round tries again")
        await asyncio.sleep(BETWEEN_ROUNDS)


async def _prune() -> None:
    pruning = Pruning()
    began = time.monotonic()
    while await database(pruning.step, pool=Pool.READS):
        await asyncio.sleep(time.monotonic() - began)
        began = time.monotonic()
    if pruning.events:
        logger.info("Pruned %d events and %d dedupe keys", pruning.events, pruning.keys)
