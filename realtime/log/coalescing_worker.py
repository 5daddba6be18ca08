"""Tells what bursts of events left waiting, once it is due. Several servers on one database may do so side by side."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from django.db import Error as DatabaseError
from django.db import OperationalError, connection, transaction

from realtime.database import Pool, database
from realtime.log.coalescing import Burst, BurstQuerySet, coalesced
from realtime.log.models import Event

logger = logging.getLogger(__name__)

#: Rows that one look takes up.
BATCH = 500
#: Seconds between two looks; and while no type is coalesced here, because another process may have left something.
INTERVAL, INTERVAL_WHEN_OFF = 0.25, 30.0
#: Seconds between two removals of rows in which nothing waits.
BETWEEN_REMOVALS = 10.0
LOCK_NOT_AVAILABLE = "55P03"


def emit_due() -> int:
    """Tell what is due, each instance in a transaction of its own; returns how many events it became."""
    return _emit(Burst.objects.due())


def emit_left_behind() -> int:
    """Tell at once what waits of types that are not coalesced any more.

    A newer event of these types would be told without a look at what waits, so this comes before there is one.
    """
    return _emit(Burst.objects.of_uncoalesced_types())


def remove_idle() -> int:
    """Remove some rows in which nothing has waited for a while; returns how many."""
    with transaction.atomic():
        # a row that somebody is writing has become young, and is not waited for
        idle = Burst.objects.due().filter(data=None).order_by("due_at").select_for_update(skip_locked=True)
        removed, _ = Burst.objects.filter(pk__in=[burst.pk for burst in idle[:BATCH]]).delete()
    return removed


def _emit(bursts: BurstQuerySet) -> int:
    ids = bursts.waiting().order_by("due_at").values_list("instance_id", flat=True)
    return sum(_emit_instance(instance_id, bursts) for instance_id in dict.fromkeys(ids[:BATCH]))


def _emit_instance(instance_id: Any, bursts: BurstQuerySet) -> int:
    try:
        with transaction.atomic():
            _wait_briefly()
            return Event.objects.write_deferred(instance_id, bursts)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        logger.info("Somebody holds the stream of instance %s; the next look tells what is due", instance_id)
        return 0


def _wait_briefly() -> None:
    """A transaction that is stuck must not hold up all other instances."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")


async def run_forever() -> None:
    """Looks as long as the server runs."""
    removed_at = time.monotonic()
    while True:
        try:
            await database(emit_due, pool=Pool.READS)
            if time.monotonic() - removed_at > BETWEEN_REMOVALS:
                await database(remove_idle, pool=Pool.READS)
                removed_at = time.monotonic()
        except DatabaseError as error:
            logger.error("What waits to be told could not be read; the next look tries again: %s", error)
            await asyncio.sleep(1)
        await asyncio.sleep(INTERVAL if coalesced() else INTERVAL_WHEN_OFF)
