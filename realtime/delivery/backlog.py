"""The backlog of an instance, which is bounded: its pending deliveries, and the bytes of the bodies that they share.

A count reads an index, an entry for each pending delivery, so it is kept for a second, or some more if it took long. In
that time this process adds what it enqueues itself; what other processes enqueue, and what is delivered meanwhile,
counts after it. So a backlog may exceed its bounds by what the other processes enqueue in that time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, models

from instances.bounds import OWED_BYTES, OWED_DELIVERIES
from instances.errors import ApiError

#: Seconds for which a count is kept, at least and at most; in between, counting takes a part of the time, as a divisor.
RECOUNT, MAX_RECOUNT, SHARE = 1.0, 5.0, 50
#: Counts that are kept, unless more are current.
MAX_KEPT = 1000


@dataclass
class Backlog:
    deliveries: int
    #: Bytes of bodies, each once for all of its deliveries.
    size: int
    #: When it is counted again (time.monotonic).
    recount_at: float = 0.0

    @classmethod
    def of(cls, instance_id: UUID) -> Backlog:
        """Count the backlog of an instance. Deliveries of earlier versions, with bodies of their own, are left out.

        The conditions are literals in the SQL: SQLite uses a partial index only where the query repeats them.
        """
        began = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT COALESCE(SUM(deliveries), 0), COALESCE(SUM(size), 0) FROM (
                    SELECT COUNT(*) AS deliveries, MAX(shared_size) AS size FROM realtime_delivery
                    WHERE state = 'pending' AND shared_size IS NOT NULL AND instance_id = %s
                    GROUP BY seq, transport
                ) AS bodies
                """,
                [models.UUIDField().get_db_prep_value(instance_id, connection)],
            )
            deliveries, size = cursor.fetchone()
        took = time.monotonic() - began
        return cls(int(deliveries), int(size), began + min(max(RECOUNT, took * SHARE), MAX_RECOUNT))


_kept: dict[UUID, Backlog] = {}
_lock = threading.Lock()


def admit(instance_id: UUID, deliveries: int, size: int) -> str:
    """Add deliveries, whose bodies have `size` bytes, to the backlog of an instance.

    Returns the reason, a sentence, if they are too many or too large: then nothing is added.
    """
    with _lock:
        backlog = _kept.get(instance_id)
    now = time.monotonic()
    if backlog is None or backlog.recount_at <= now:
        backlog = Backlog.of(instance_id)
    with _lock:
        if len(_kept) >= MAX_KEPT:
            for key in [key for key, kept in _kept.items() if kept.recount_at <= now]:
                del _kept[key]
        _kept[instance_id] = backlog
        if backlog.deliveries + deliveries > OWED_DELIVERIES:
            return f"{backlog.deliveries:,} deliveries of this instance are pending, of {OWED_DELIVERIES:,} at most"
        if backlog.size + size > OWED_BYTES:
            return f"{_mebibytes(backlog.size)} of this instance are pending, of {_mebibytes(OWED_BYTES)} at most"
        backlog.deliveries += deliveries
        backlog.size += size
    return ""


def require(instance_id: UUID, deliveries: int, size: int) -> None:
    """Add deliveries to a backlog as `admit` does. Raises ApiError (429) if they are too many or too large."""
    if reason := admit(instance_id, deliveries, size):
        many = "this delivery" if deliveries == 1 else f"these {deliveries:,} deliveries"
        cure = "Try again with fewer, or once endpoints have accepted some"
        raise ApiError(f"{reason}: {many} of {_mebibytes(size)} would be too much. {cure}", 429)


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
