"""Who may have how many attempts under way: what hangs, is slow or fails must not take up the places of the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from itertools import count, takewhile

#: Attempts that one process makes at a time, in all and to one endpoint.
MAX_IN_FLIGHT, MAX_PER_ENDPOINT = 1000, 20
#: The same to one whose last attempt failed, and to one of which nothing is known yet.
MAX_PER_FAILING, MAX_PER_UNKNOWN = 2, 5
#: Of all places, those that endpoints have to share that fail or are slow; and those that are kept for endpoints whose
#: last attempt went well.
MAX_DEGRADED, KEPT = MAX_IN_FLIGHT // 2, MAX_IN_FLIGHT // 10
#: Seconds after which an attempt is slow.
SLOW = 2.0
#: An endpoint may have a part of the places that are free, and not of all: so the more of them want many, the fewer
#: each may have, and there is always something left for the next one.
#: "Dynamic queue length thresholds for shared-memory packet switches" (Choudhury, Hahne, 1998)
PART = 25

#: Bytes from which a body is large, and of large bodies that are in memory at a time.
LARGE, MAX_LARGE = 64 * 1024, 64 * 1024 * 1024


class ConcurrencyLimiter:
    """Counts the attempts that are under way, and remembers how endpoints fared."""

    def __init__(self) -> None:
        self._numbers = count()
        #: Endpoint, large bytes and beginning of each attempt; the first is the oldest.
        self._attempts: dict[int, tuple[int, int, float]] = {}
        self._in_flight: Counter[int] = Counter()
        self._large = 0
        #: Endpoints by how their last attempt went.
        self._known: dict[str, set[int]] = {"failing": set(), "slow": set(), "well": set()}

    def __bool__(self) -> bool:
        """Whether any place is taken."""
        return bool(self._attempts)

    def remember_failing(self, endpoint_ids: Iterable[int]) -> None:
        """They failed before this process began."""
        self._known["failing"].update(endpoint_ids)

    def begin(self, endpoint_id: int, size: int) -> int:
        """Takes a place for an attempt with so many bytes; returns the number that the others want."""
        number = next(self._numbers)
        large = size if size > LARGE else 0
        self._attempts[number] = endpoint_id, large, time.monotonic()
        self._in_flight[endpoint_id] += 1
        self._large += large
        return number

    def answered(self, number: int, is_healthy: bool) -> None:
        """The place stays taken until the outcome is stored."""
        endpoint_id, _, began = self._attempts[number]
        is_slow = time.monotonic() - began > SLOW
        for name, is_so in {"failing": not is_healthy, "slow": is_slow, "well": is_healthy and not is_slow}.items():
            if is_so:
                self._known[name].add(endpoint_id)
            else:
                self._known[name].discard(endpoint_id)

    def end(self, number: int) -> None:
        endpoint_id, large, _ = self._attempts.pop(number)
        self._in_flight[endpoint_id] -= 1
        self._large -= large
        if not self._in_flight[endpoint_id]:
            del self._in_flight[endpoint_id]

    def look(self) -> Availability:
        degraded = self._known["failing"] | self._known["slow"] | self._late()
        return Availability(
            in_flight=Counter(self._in_flight),
            large=self._large,
            failing=frozenset(self._known["failing"]),
            taking=frozenset(self._known["well"] | self._known["slow"]),
            degraded=frozenset(degraded),
            healthy=frozenset(self._known["well"] - degraded),
        )

    def _late(self) -> set[int]:
        """Those that have let an attempt wait."""
        before = time.monotonic() - SLOW
        return {endpoint_id for endpoint_id, _, _ in takewhile(lambda one: one[2] < before, self._attempts.values())}


class Availability:
    """The places as they are, for one look at what is due; it counts what is taken meanwhile."""

    def __init__(
        self,
        in_flight: Counter[int],
        large: int,
        failing: frozenset[int],
        taking: frozenset[int],
        degraded: frozenset[int],
        healthy: frozenset[int],
    ) -> None:
        self._in_flight = in_flight
        self._free = MAX_IN_FLIGHT - in_flight.total()
        self._free_degraded = MAX_DEGRADED - sum(in_flight[one] for one in degraded)
        self._large = large
        self._failing = failing
        self._taking = taking
        self._degraded = degraded
        self._healthy = healthy

    @property
    def large(self) -> int:
        """Bytes of large bodies for which there is memory."""
        return max(MAX_LARGE - self._large, 0)

    def free(self, endpoint_id: int) -> int:
        """How many more attempts the endpoint may have."""
        free = self._free if endpoint_id in self._healthy else self._free - KEPT
        if endpoint_id in self._degraded:
            free = min(free, self._free_degraded)
        most = MAX_PER_ENDPOINT if endpoint_id in self._taking else MAX_PER_UNKNOWN
        if endpoint_id in self._failing:
            most = MAX_PER_FAILING
        share = min(most, max(free // PART, 1)) - self._in_flight[endpoint_id]
        return max(min(share, free), 0)

    def full(self) -> list[int]:
        """Endpoints that are known to be allowed no more."""
        return [one for one in {*self._in_flight, *self._degraded} if not self.free(one)]

    def take(self, endpoint_id: int, sizes: Iterable[int]) -> None:
        for size in sizes:
            self._in_flight[endpoint_id] += 1
            self._free -= 1
            self._free_degraded -= endpoint_id in self._degraded
            self._large += size if size > LARGE else 0
