"""The worker that emits deferred events once they are due. Several servers on one database may run it side by side."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from django.db import Error as DatabaseError
from django.db import OperationalError, connection, transaction

from realtime.database import Pool, database
from realtime.log.coalescing import Burst, BurstQuerySet, coalesced_types
from realtime.log.models import Event

logger = logging.getLogger(__name__)

#: Rows that are emitted or deleted in one round.
BATCH = 500
#: Seconds between two rounds; longer while no type is coalesced here, because another process may still defer events.
INTERVAL, INTERVAL_WHEN_OFF = 0.25, 30.0
#: Seconds between two deletions of idle rows.
REMOVAL_INTERVAL = 10.0
LOCK_NOT_AVAILABLE = "55P03"


def emit_due() -> int:
    """Emit the deferred events that are due, each instance in a transaction of its own; return how many."""
    return _emit(Burst.objects.due())


def emit_left_behind() -> int:
    """Emit the deferred events of types that are no longer coalesced; return how many.

    A newer event of these types is recorded without reading the deferred one, so this has to run first.
    """
    return _emit(Burst.objects.of_uncoalesced_types())


def remove_idle() -> int:
    """Delete up to BATCH rows that have had no deferred event for IDLE_LIFETIME; return how many."""
    with transaction.atomic():
        # a row that is being written is no longer idle, so there is no need to wait for its lock
        idle = Burst.objects.due().filter(data=None).order_by("due_at").select_for_update(skip_locked=True)
        removed, _ = Burst.objects.filter(pk__in=[burst.pk for burst in idle[:BATCH]]).delete()
    return removed


def _emit(bursts: BurstQuerySet) -> int:
    ids = bursts.deferred().order_by("due_at").values_list("instance_id", flat=True)
    return sum(_emit_instance(instance_id, bursts) for instance_id in dict.fromkeys(ids[:BATCH]))


def _emit_instance(instance_id: Any, bursts: BurstQuerySet) -> int:
    try:
        with transaction.atomic():
            _set_lock_timeout()
            return Event.objects.write_deferred(instance_id, bursts)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        logger.info("The stream of instance %s is locked; the next round emits what is due", instance_id)
        return 0


def _set_lock_timeout() -> None:
    """Bound the wait for a stream's lock: a stuck transaction must not delay all other instances."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")


async def run_forever() -> None:
    """Run rounds until the task is cancelled. A database error is logged, and the next round tries again."""
    removed_at = time.monotonic()
    while True:
        try:
            await database(emit_due, pool=Pool.READS)
            if time.monotonic() - removed_at > REMOVAL_INTERVAL:
                await database(remove_idle, pool=Pool.READS)
                removed_at = time.monotonic()
        except DatabaseError as error:
            logger.error("Deferred events could not be read; the next round tries again: %s", error)
            await asyncio.sleep(1)
        await asyncio.sleep(INTERVAL if coalesced_types() else INTERVAL_WHEN_OFF)
