"""The worker that emits deferred events once they are due. Several servers on one database may run it side by side."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from instances.errors import is_lock_timeout
from instances.sql import set_lock_timeout
from instances.unreadable import readable
from realtime.database import Pool, database
from realtime.log.coalescing import Burst, BurstQuerySet, coalesced_types
from realtime.log.models import Event
from realtime.operation.supervisor import SetAside

logger = logging.getLogger(__name__)

#: Rows that are emitted or deleted in one round.
BATCH = 500
#: Seconds between two rounds; longer while no type is coalesced here, because another process may still defer events.
INTERVAL, INTERVAL_WHEN_OFF = 0.25, 30.0
#: Seconds between two deletions of idle rows.
REMOVAL_INTERVAL = 10.0
#: Milliseconds to wait for an instance's lock: a stuck transaction must not delay all other instances.
LOCK_TIMEOUT = 100

#: Instances whose deferred events could not be emitted.
_set_aside = SetAside("instance")


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
        removed, _ = Burst.objects.filter(pk__in=[burst.pk for burst in readable(idle.only("pk"), BATCH)]).delete()
    return removed


def _emit(bursts: BurstQuerySet) -> int:
    due = bursts.deferred().exclude(instance_id__in=_set_aside.keys()).order_by("due_at")
    ids = [burst.instance_id for burst in readable(due.only("instance_id"), BATCH)]
    return sum(_emit_instance(instance_id, bursts) for instance_id in dict.fromkeys(ids))


def _emit_instance(instance_id: Any, bursts: BurstQuerySet) -> int:
    """Emit what is due of an instance; where that fails, the instance is set aside."""
    try:
        with transaction.atomic():
            set_lock_timeout(LOCK_TIMEOUT)
            count = Event.objects.write_deferred(instance_id, bursts)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        logger.info("The stream of instance %s is locked; its events are emitted later", instance_id)
        _set_aside.add(instance_id)
        return 0
    except InterfaceError:
        raise
    except Exception as error:
        _set_aside.add(instance_id, error)
        return 0
    _set_aside.discard(instance_id)
    return count


async def run_forever() -> None:
    """Run rounds until the task is cancelled; a supervisor runs it."""
    removed_at = time.monotonic()
    while True:
        await database(emit_due, pool=Pool.UPKEEP)
        if time.monotonic() - removed_at > REMOVAL_INTERVAL:
            await database(remove_idle, pool=Pool.UPKEEP)
            removed_at = time.monotonic()
        await asyncio.sleep(INTERVAL if coalesced_types() else INTERVAL_WHEN_OFF)
