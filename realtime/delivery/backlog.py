"""Backlogs, which are bounded: pending deliveries, and the bytes of the bodies that they share.

Each instance has one for its own endpoints. The operator's endpoints, which receive the events of all instances, have
one of their own: tenants are not refused what they publish because nobody answers there. Of it an instance has at most
as much as it leaves to the others.

A count reads an index, an entry for each pending delivery, so it is kept for a second, or some more if it took long. In
that time this process adds what it enqueues itself; what other processes enqueue, and what is delivered meanwhile,
counts after it. So a backlog may exceed its bounds by what the other processes enqueue in that time.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from instances.bounds import OPERATORS_OWED_BYTES, OPERATORS_OWED_DELIVERIES, OWED_BYTES, OWED_DELIVERIES
from instances.errors import ApiError
from instances.models import Subscription
from instances.sql import database_id

#: Seconds for which a count is kept, at least and at most; in between, counting takes a part of the time, as a divisor.
RECOUNT, MAX_RECOUNT, SHARE = 1.0, 5.0, 50
#: Counts that are kept, unless more are current.
MAX_KEPT = 1000
#: The lowest id of an endpoint that is the target of one resending; no row's id reaches it.
ONE_OFF = 2**62


@dataclass
class Amount:
    """Pending deliveries."""

    deliveries: int = 0
    #: Bytes of bodies, each once for all of its deliveries.
    size: int = 0

    def add(self, deliveries: int, size: int) -> None:
        self.deliveries += deliveries
        self.size += size


class BacklogFull(Exception):
    """Raised with the reason why deliveries do not fit into a backlog, a sentence without a full stop."""


class Backlog(ABC):
    """A backlog as it was counted, with what this process has enqueued since.

    Deliveries of earlier versions, with bodies of their own, are left out. The conditions are literals in the SQL:
    SQLite uses a partial index only where the query repeats them.
    """

    def __init__(self) -> None:
        began = time.monotonic()
        #: The amount of each instance, by its id as the database has it.
        self.amounts = {instance: Amount(int(count), int(size)) for instance, count, size in self.count()}
        took = time.monotonic() - began
        self.total = Amount()
        for amount in self.amounts.values():
            self.total.add(amount.deliveries, amount.size)
        #: When it is counted again (time.monotonic).
        self.recount_at = began + min(max(RECOUNT, took * SHARE), MAX_RECOUNT)

    @abstractmethod
    def count(self) -> list[tuple[Any, int, int]]:
        """Return the instances with pending deliveries: id, number of deliveries and bytes of their bodies."""

    @abstractmethod
    def check(self, amount: Amount, deliveries: int, size: int) -> None:
        """Raise BacklogFull if an instance that has this amount may not have so much more."""

    def add(self, instance_id: UUID, deliveries: int, size: int) -> None:
        """Add deliveries of an instance. Raises BacklogFull."""
        amount = self.amounts.setdefault(database_id(instance_id), Amount())
        self.check(amount, deliveries, size)
        amount.add(deliveries, size)
        self.total.add(deliveries, size)

    def take_out(self, instance_id: UUID, deliveries: int, size: int) -> None:
        """Undo `add`."""
        self.amounts[database_id(instance_id)].add(-deliveries, -size)
        self.total.add(-deliveries, -size)


class InstanceBacklog(Backlog):
    """The pending deliveries to an instance's own endpoints."""

    def __init__(self, instance_id: UUID) -> None:
        self._instance_id = instance_id
        super().__init__()

    def count(self) -> list[tuple[Any, int, int]]:
        return _count([("instance_id = %s AND is_operators = FALSE", database_id(self._instance_id))])

    def check(self, amount: Amount, deliveries: int, size: int) -> None:
        if amount.deliveries + deliveries > OWED_DELIVERIES:
            raise BacklogFull(
                f"{amount.deliveries:,} deliveries of this instance are pending, of {OWED_DELIVERIES:,} at most"
            )
        if amount.size + size > OWED_BYTES:
            raise BacklogFull(
                f"{_mebibytes(amount.size)} of this instance are pending, of {_mebibytes(OWED_BYTES)} at most"
            )


class OperatorsBacklog(Backlog):
    """The pending deliveries of all instances to the operator's endpoints."""

    def count(self) -> list[tuple[Any, int, int]]:
        rows = list(Subscription.objects.endpoints().filter(instance=None).values_list("pk", flat=True))
        # endpoints of the environment, targets of single resendings, endpoints of the admin: endpoints have an index
        ranges = [("<=", 0), (">=", ONE_OFF), *(("=", pk) for pk in rows)]
        return _count([(f"endpoint_id {operator} %s AND is_operators", value) for operator, value in ranges])

    def check(self, amount: Amount, deliveries: int, size: int) -> None:
        if amount.deliveries + deliveries > OPERATORS_OWED_DELIVERIES - self.total.deliveries - deliveries:
            raise BacklogFull(
                f"{amount.deliveries:,} deliveries of this instance to the operator's endpoints are pending: it has at "
                f"most as many as it leaves of {OPERATORS_OWED_DELIVERIES:,}"
            )
        if amount.size + size > OPERATORS_OWED_BYTES - self.total.size - size:
            raise BacklogFull(
                f"{_mebibytes(amount.size)} of this instance for the operator's endpoints are pending: it has at most "
                f"as much as it leaves of {_mebibytes(OPERATORS_OWED_BYTES)}"
            )


def _count(conditions: list[tuple[str, Any]]) -> list[tuple[Any, int, int]]:
    """Count the pending deliveries that fulfil one of these conditions, which exclude each other."""
    selected = " UNION ALL ".join(
        f"""
        SELECT instance_id, seq, transport, shared_size FROM realtime_delivery
        WHERE state = 'pending' AND shared_size IS NOT NULL AND {condition}
        """  # noqa: S608 (nothing of it is input)
        for condition, _ in conditions
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT instance_id, SUM(deliveries), SUM(size) FROM (
                SELECT instance_id, COUNT(*) AS deliveries, MAX(shared_size) AS size FROM ({selected}) AS pending
                GROUP BY instance_id, seq, transport
            ) AS bodies GROUP BY instance_id
            """,  # noqa: S608
            [value for _, value in conditions],
        )
        return cursor.fetchall()


#: The backlogs of instances, and under None the operator's.
_kept: dict[UUID | None, Backlog] = {}
_lock = threading.Lock()


@dataclass
class Reservation:
    """Deliveries that were added to a backlog before they are stored."""

    backlog: Backlog
    instance_id: UUID
    deliveries: int
    size: int

    def cancel(self) -> None:
        """Take them out again: they are not stored, or are about to be reserved anew."""
        with _lock:
            self.backlog.take_out(self.instance_id, self.deliveries, self.size)


def reserve(instance_id: UUID, deliveries: int, size: int, is_operators: bool) -> Reservation:
    """Add deliveries of an instance, whose bodies have `size` bytes, to its backlog or to the operator's.

    Raises BacklogFull if they are too many or too large: then nothing is added.
    """
    now = time.monotonic()
    key = None if is_operators else instance_id
    backlog = _kept.get(key)
    if backlog is None or backlog.recount_at <= now:
        backlog = InstanceBacklog(key) if key else OperatorsBacklog()
    with _lock:
        if len(_kept) >= MAX_KEPT:
            for each in [each for each, kept in _kept.items() if kept.recount_at <= now]:
                del _kept[each]
        _kept[key] = backlog
        backlog.add(instance_id, deliveries, size)
    return Reservation(backlog, instance_id, deliveries, size)


def require(instance_id: UUID, deliveries: int, size: int, is_operators: bool) -> Reservation:
    """Add deliveries to a backlog as `reserve` does. Raises ApiError (429) if they are too many or too large."""
    try:
        return reserve(instance_id, deliveries, size, is_operators)
    except BacklogFull as reason:
        many = "this delivery" if deliveries == 1 else f"these {deliveries:,} deliveries"
        cure = "Try again with fewer, or once endpoints have accepted some"
        raise ApiError(f"{reason}: {many} of {_mebibytes(size)} would be too much. {cure}", 429) from None


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
