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


class BacklogFull(Exception):
    """Raised with the reason why deliveries do not fit into a backlog, a sentence without a full stop."""


@dataclass
class Reservation:
    """Deliveries that were added to a backlog before they are stored."""

    backlog: Backlog
    deliveries: int
    size: int

    def cancel(self) -> None:
        """Take them out again: they are not stored, or are about to be reserved anew."""
        with _lock:
            self.backlog.deliveries -= self.deliveries
            self.backlog.size -= self.size


def reserve(instance_id: UUID, deliveries: int, size: int) -> Reservation:
    """Add deliveries, whose bodies have `size` bytes, to the backlog of an instance.

    Raises BacklogFull if they are too many or too large: then nothing is added.
    """
    now = time.monotonic()
    backlog = _kept.get(instance_id)
    if backlog is None or backlog.recount_at <= now:
        backlog = Backlog.of(instance_id)
    with _lock:
        if len(_kept) >= MAX_KEPT:
            for key in [key for key, kept in _kept.items() if kept.recount_at <= now]:
                del _kept[key]
        _kept[instance_id] = backlog
        if backlog.deliveries + deliveries > OWED_DELIVERIES:
            raise BacklogFull(
                f"{backlog.deliveries:,} deliveries of this instance are pending, of {OWED_DELIVERIES:,} at most"
            )
        if backlog.size + size > OWED_BYTES:
            raise BacklogFull(
                f"{_mebibytes(backlog.size)} of this instance are pending, of {_mebibytes(OWED_BYTES)} at most"
            )
        backlog.deliveries += deliveries
        backlog.size += size
    return Reservation(backlog, deliveries, size)


def require(instance_id: UUID, deliveries: int, size: int) -> Reservation:
    """Add deliveries to a backlog as `reserve` does. Raises ApiError (429) if they are too many or too large."""
    try:
        return reserve(instance_id, deliveries, size)
    except BacklogFull as reason:
        many = "this delivery" if deliveries == 1 else f"these {deliveries:,} deliveries"
        cure = "Try again with fewer, or once endpoints have accepted some"
        raise ApiError(f"{reason}: {many} of {_mebibytes(size)} would be too much. {cure}", 429) from None


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
