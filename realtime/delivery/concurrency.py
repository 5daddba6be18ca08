"""Limits the attempts in flight: endpoints that hang, are slow or fail must not take up the slots of the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from itertools import count, takewhile

#: Attempts that one process makes at a time, in all and to one endpoint.
MAX_IN_FLIGHT, MAX_PER_ENDPOINT = 1000, 20
#: Attempts at a time to an endpoint whose last attempt failed, and to one without a finished attempt.
MAX_PER_FAILING, MAX_PER_UNKNOWN = 2, 5
#: Slots that all degraded (failing or slow) endpoints share, and slots that are reserved for healthy endpoints.
MAX_DEGRADED, RESERVED = MAX_IN_FLIGHT // 2, MAX_IN_FLIGHT // 10
#: Seconds after which an attempt is slow.
SLOW = 2.0
#: The share of the free slots that an endpoint may have, as a divisor. The more endpoints compete for slots, the fewer
#: each may have, and some are always left for the next one.
#: "Dynamic queue length thresholds for shared-memory packet switches" (Choudhury, Hahne, 1998)
SHARE = 25

#: The size in bytes above which a body is large, and bytes of large bodies that are in memory at a time.
LARGE, MAX_LARGE = 64 * 1024, 64 * 1024 * 1024


class ConcurrencyLimiter:
    """Counts attempts in flight, and keeps the health of endpoints."""

    def __init__(self) -> None:
        self._slots = count()
        #: Endpoint, large bytes and start of the attempt in each slot, the oldest first.
        self._attempts: dict[int, tuple[int, int, float]] = {}
        self._in_flight: Counter[int] = Counter()
        self._large = 0
        #: Endpoints by the outcome of their last attempt.
        self._known: dict[str, set[int]] = {"failing": set(), "slow": set(), "healthy": set()}

    def __bool__(self) -> bool:
        """True if any slot is taken."""
        return bool(self._attempts)

    def load_failing(self, endpoint_ids: Iterable[int]) -> None:
        """Mark endpoints as failing that failed before this process started."""
        self._known["failing"].update(endpoint_ids)

    def acquire(self, endpoint_id: int, size: int) -> int:
        """Take a slot for an attempt with a body of `size` bytes; returns the slot."""
        slot = next(self._slots)
        large = size if size > LARGE else 0
        self._attempts[slot] = endpoint_id, large, time.monotonic()
        self._in_flight[endpoint_id] += 1
        self._large += large
        return slot

    def record(self, slot: int, is_success: bool) -> None:
        """Record the outcome of an attempt; its slot stays taken until the result is stored."""
        endpoint_id, _, start = self._attempts[slot]
        is_slow = time.monotonic() - start > SLOW
        health = {"failing": not is_success, "slow": is_slow, "healthy": is_success and not is_slow}
        for name, applies in health.items():
            if applies:
                self._known[name].add(endpoint_id)
            else:
                self._known[name].discard(endpoint_id)

    def release(self, slot: int) -> None:
        """Free a slot."""
        endpoint_id, large, _ = self._attempts.pop(slot)
        self._in_flight[endpoint_id] -= 1
        self._large -= large
        if not self._in_flight[endpoint_id]:
            del self._in_flight[endpoint_id]

    def availability(self) -> Availability:
        """Return a snapshot of the free slots."""
        degraded = self._known["failing"] | self._known["slow"] | self._late()
        return Availability(
            in_flight=Counter(self._in_flight),
            large=self._large,
            failing=frozenset(self._known["failing"]),
            responding=frozenset(self._known["healthy"] | self._known["slow"]),
            degraded=frozenset(degraded),
            healthy=frozenset(self._known["healthy"] - degraded),
        )

    def _late(self) -> set[int]:
        """Return endpoints with an attempt in flight that is slow."""
        before = time.monotonic() - SLOW
        late = takewhile(lambda attempt: attempt[2] < before, self._attempts.values())
        return {endpoint_id for endpoint_id, _, _ in late}


class Availability:
    """A snapshot of the free slots for one poll, which counts the slots that the poll reserves."""

    def __init__(
        self,
        in_flight: Counter[int],
        large: int,
        failing: frozenset[int],
        responding: frozenset[int],
        degraded: frozenset[int],
        healthy: frozenset[int],
    ) -> None:
        self._in_flight = in_flight
        self._free = MAX_IN_FLIGHT - in_flight.total()
        self._free_degraded = MAX_DEGRADED - sum(in_flight[endpoint_id] for endpoint_id in degraded)
        self._large = large
        self._failing = failing
        self._responding = responding
        self._degraded = degraded
        self._healthy = healthy

    @property
    def large(self) -> int:
        """The bytes of large bodies that still fit into memory."""
        return max(MAX_LARGE - self._large, 0)

    def free(self, endpoint_id: int) -> int:
        """Return the number of slots that are free for an endpoint."""
        free = self._free if endpoint_id in self._healthy else self._free - RESERVED
        if endpoint_id in self._degraded:
            free = min(free, self._free_degraded)
        limit = MAX_PER_ENDPOINT if endpoint_id in self._responding else MAX_PER_UNKNOWN
        if endpoint_id in self._failing:
            limit = MAX_PER_FAILING
        share = min(limit, max(free // SHARE, 1)) - self._in_flight[endpoint_id]
        return max(min(share, free), 0)

    def full(self) -> list[int]:
        """Return endpoints that have no free slot, of those with attempts in flight or degraded."""
        return [endpoint_id for endpoint_id in {*self._in_flight, *self._degraded} if not self.free(endpoint_id)]

    def reserve(self, endpoint_id: int, sizes: Iterable[int]) -> None:
        """Count a slot for each body, of these sizes in bytes, that was claimed for an endpoint."""
        for size in sizes:
            self._in_flight[endpoint_id] += 1
            self._free -= 1
            self._free_degraded -= endpoint_id in self._degraded
            self._large += size if size > LARGE else 0
