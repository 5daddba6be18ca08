"""Limits the attempts in flight: endpoints that hang, are slow or fail must not take up the slots of the others."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from itertools import count, takewhile
from typing import NamedTuple

from instances.bounds import ATTEMPTS, ATTEMPTS_PER_ENDPOINT, KNOWN_ENDPOINTS, LARGE_BODIES

#: Attempts that one process makes at a time, in all and to one endpoint.
MAX_IN_FLIGHT, MAX_PER_ENDPOINT = ATTEMPTS, ATTEMPTS_PER_ENDPOINT
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
LARGE, MAX_LARGE = 64 * 1024, LARGE_BODIES


class Slot(NamedTuple):
    """An attempt in flight."""

    endpoint_id: int
    #: The instance whose share it counts in; None for an endpoint of all instances.
    instance: Hashable
    #: The bytes of its body, if that is large.
    large: int
    #: The time (time.monotonic) of its start.
    start: float


class ConcurrencyLimiter:
    """Counts attempts in flight, and keeps the health of endpoints."""

    def __init__(self) -> None:
        self._numbers = count()
        #: The attempts in flight, the oldest first.
        self._slots: dict[int, Slot] = {}
        self._in_flight: Counter[int] = Counter()
        #: Attempts and large bytes in flight, by instance.
        self._of_instance: Counter[Hashable] = Counter()
        self._large_of_instance: Counter[Hashable] = Counter()
        self._large = 0
        #: Endpoints by the outcome of their last attempt, and all of these, the one with the oldest attempt first.
        self._known: dict[str, set[int]] = {"failing": set(), "slow": set(), "healthy": set()}
        self._order: OrderedDict[int, None] = OrderedDict()

    def __bool__(self) -> bool:
        """True if any slot is taken."""
        return bool(self._slots)

    def load_failing(self, endpoint_ids: Iterable[int]) -> None:
        """Mark endpoints as failing that failed before this process started."""
        for endpoint_id in endpoint_ids:
            self._remember(endpoint_id, {"failing"})

    def acquire(self, endpoint_id: int, size: int, instance: Hashable = None) -> int:
        """Take a slot for an attempt with a body of `size` bytes, in the share of an instance; returns its number."""
        number = next(self._numbers)
        slot = self._slots[number] = Slot(endpoint_id, instance, size if size > LARGE else 0, time.monotonic())
        self._in_flight[endpoint_id] += 1
        self._of_instance[instance] += 1
        self._large_of_instance[instance] += slot.large
        self._large += slot.large
        return number

    def record(self, number: int, is_success: bool) -> None:
        """Record the outcome of an attempt; its slot stays taken until the result is stored."""
        slot = self._slots[number]
        is_slow = time.monotonic() - slot.start > SLOW
        health = {"failing": not is_success, "slow": is_slow, "healthy": is_success and not is_slow}
        self._remember(slot.endpoint_id, {name for name, applies in health.items() if applies})

    def _remember(self, endpoint_id: int, health: set[str]) -> None:
        for name, endpoints in self._known.items():
            (endpoints.add if name in health else endpoints.discard)(endpoint_id)
        self._order[endpoint_id] = None
        self._order.move_to_end(endpoint_id)
        if len(self._order) > KNOWN_ENDPOINTS:
            oldest, _ = self._order.popitem(last=False)
            for endpoints in self._known.values():
                endpoints.discard(oldest)

    def release(self, number: int) -> None:
        """Free a slot."""
        slot = self._slots.pop(number)
        self._large -= slot.large
        self._large_of_instance[slot.instance] -= slot.large
        self._in_flight[slot.endpoint_id] -= 1
        if not self._in_flight[slot.endpoint_id]:
            del self._in_flight[slot.endpoint_id]
        self._of_instance[slot.instance] -= 1
        if not self._of_instance[slot.instance]:
            del self._of_instance[slot.instance], self._large_of_instance[slot.instance]

    def availability(self) -> Availability:
        """Return a snapshot of the free slots."""
        degraded = self._known["failing"] | self._known["slow"] | self._late()
        return Availability(
            in_flight=Counter(self._in_flight),
            of_instance=Counter(self._of_instance),
            large=self._large,
            large_of_instance=Counter(self._large_of_instance),
            failing=frozenset(self._known["failing"]),
            responding=frozenset(self._known["healthy"] | self._known["slow"]),
            degraded=frozenset(degraded),
            healthy=frozenset(self._known["healthy"] - degraded),
        )

    def _late(self) -> set[int]:
        """Return endpoints with an attempt in flight that is slow."""
        before = time.monotonic() - SLOW
        return {slot.endpoint_id for slot in takewhile(lambda slot: slot.start < before, self._slots.values())}


class Availability:
    """A snapshot of the free slots for one poll, which counts the slots that the poll reserves."""

    def __init__(
        self,
        in_flight: Counter[int],
        of_instance: Counter[Hashable],
        large: int,
        large_of_instance: Counter[Hashable],
        failing: frozenset[int],
        responding: frozenset[int],
        degraded: frozenset[int],
        healthy: frozenset[int],
    ) -> None:
        self._in_flight = in_flight
        self._of_instance = of_instance
        self._free = MAX_IN_FLIGHT - in_flight.total()
        self._free_degraded = MAX_DEGRADED - sum(in_flight[endpoint_id] for endpoint_id in degraded)
        self._large = large
        self._large_of_instance = large_of_instance
        self._failing = failing
        self._responding = responding
        self._degraded = degraded
        self._healthy = healthy

    def large(self, instance: Hashable = None) -> int:
        """Return the bytes of large bodies that an instance may still send: never more than it leaves to the others."""
        free = MAX_LARGE - self._large
        # half, because one claim may take all of it
        return max(free if instance is None else (free - self._large_of_instance[instance]) // 2, 0)

    def free(self, endpoint_id: int, instance: Hashable = None) -> int:
        """Return the number of slots that are free for an endpoint, which belongs to this instance or to all."""
        free = self._free if endpoint_id in self._healthy else self._free - RESERVED
        if instance is not None:
            free -= self._of_instance[instance]  # it leaves as many to the others as it takes
        if endpoint_id in self._degraded:
            free = min(free, self._free_degraded)
        limit = MAX_PER_ENDPOINT if endpoint_id in self._responding else min(MAX_PER_UNKNOWN, MAX_PER_ENDPOINT)
        if endpoint_id in self._failing:
            limit = min(MAX_PER_FAILING, MAX_PER_ENDPOINT)
        share = min(limit, max(free // SHARE, 1)) - self._in_flight[endpoint_id]
        return max(min(share, free), 0)

    def full(self) -> list[int]:
        """Return endpoints that have no free slot, of those with attempts in flight or degraded."""
        return [endpoint_id for endpoint_id in {*self._in_flight, *self._degraded} if not self.free(endpoint_id)]

    def full_instances(self) -> list[Hashable]:
        """Return the instances that have no free slot, even for a healthy endpoint."""
        return [instance for instance, count in self._of_instance.items() if instance and count >= self._free]

    def reserve(self, endpoint_id: int, sizes: Iterable[int], instance: Hashable = None) -> None:
        """Count a slot for each body, of these sizes in bytes, that was claimed for an endpoint."""
        for size in sizes:
            self._in_flight[endpoint_id] += 1
            self._of_instance[instance] += 1
            self._free -= 1
            self._free_degraded -= endpoint_id in self._degraded
            large = size if size > LARGE else 0
            self._large += large
            self._large_of_instance[instance] += large
