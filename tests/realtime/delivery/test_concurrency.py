"""Limits on the attempts in flight."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.delivery import concurrency
from realtime.delivery.concurrency import (
    LARGE,
    MAX_DEGRADED,
    MAX_IN_FLIGHT,
    MAX_LARGE,
    MAX_PER_ENDPOINT,
    MAX_PER_FAILING,
    MAX_PER_UNKNOWN,
    RESERVED,
    ConcurrencyLimiter,
)

pytestmark = pytest.mark.any_database


def filled(limiter: ConcurrencyLimiter, endpoint_ids) -> list[int]:
    """Give each endpoint as many slots as it may have, in rounds, until none gets any more."""
    slots = []
    while True:
        available = limiter.availability()
        before = len(slots)
        for endpoint_id in endpoint_ids:
            for _ in range(available.free(endpoint_id)):
                slots.append(limiter.acquire(endpoint_id, 100))
                available.reserve(endpoint_id, [100])
        if len(slots) == before:
            return slots


@pytest.mark.bound("LIMIT_ATTEMPTS_PER_ENDPOINT")
def test_an_endpoint_has_a_limited_number_of_slots():
    limiter = ConcurrencyLimiter()
    first, *_ = filled(limiter, [1])
    assert limiter.availability().full() == [1]
    assert limiter.availability().free(2) == MAX_PER_UNKNOWN
    limiter.record(first, is_success=True)
    assert len(filled(limiter, [1])) == MAX_PER_ENDPOINT - MAX_PER_UNKNOWN
    assert limiter.availability().full() == [1]


@pytest.mark.parametrize("crowd", [50, 60, 150, 2000])
def test_however_many_compete_a_healthy_endpoint_has_a_slot(crowd):
    limiter = ConcurrencyLimiter()
    slot = limiter.acquire(0, 100)
    limiter.record(slot, is_success=True)
    limiter.release(slot)
    taken = filled(limiter, range(1, crowd + 1))
    assert len(taken) <= MAX_IN_FLIGHT - RESERVED
    assert limiter.availability().free(0) >= 3
    if crowd < 1000:
        assert limiter.availability().free(9999)


def test_a_failing_endpoint_has_few_slots_until_a_success():
    limiter = ConcurrencyLimiter()
    first, second = limiter.acquire(1, 100), limiter.acquire(1, 100)
    limiter.record(first, is_success=False)
    limiter.release(first)
    assert len(filled(limiter, [1])) == MAX_PER_FAILING - 1
    limiter.record(second, is_success=True)
    assert limiter.availability().free(1) == MAX_PER_ENDPOINT - MAX_PER_FAILING
    limiter.load_failing([7])
    assert limiter.availability().free(7) == MAX_PER_FAILING


def test_slow_endpoints_share_half_of_the_slots(monkeypatch):
    monkeypatch.setattr(concurrency, "SLOW", 0.5)
    limiter = ConcurrencyLimiter()
    slow = range(1, 121)
    slots = filled(limiter, slow)
    assert len(slots) > MAX_DEGRADED
    time.sleep(0.6)
    available = limiter.availability()
    assert {available.free(endpoint_id) for endpoint_id in slow} == {0}
    assert set(available.full()) == set(slow)
    assert available.free(999) > 0
    for slot in slots:
        limiter.record(slot, is_success=True)
        limiter.release(slot)
    assert not limiter
    again = filled(limiter, slow)  # the last attempt of each was slow
    assert len(slow) <= len(again) <= MAX_DEGRADED
    for slot in again:
        limiter.record(slot, is_success=True)
        limiter.release(slot)
    assert len(filled(limiter, slow)) > MAX_DEGRADED


def test_large_bodies_count_by_their_size():
    limiter = ConcurrencyLimiter()
    assert limiter.availability().large() == MAX_LARGE
    small, large = limiter.acquire(1, LARGE), limiter.acquire(1, 10 * LARGE)
    available = limiter.availability()
    assert available.large() == MAX_LARGE - 10 * LARGE
    available.reserve(2, [MAX_LARGE])
    assert available.large() == 0
    for slot in (small, large):
        limiter.release(slot)
    assert limiter.availability().large() == MAX_LARGE


def test_an_instance_leaves_as_many_slots_as_it_takes():
    limiter = ConcurrencyLimiter()
    taken = 0
    while free := [endpoint for endpoint in range(1, 2000) if limiter.availability().free(endpoint, "mine")]:
        for endpoint_id in free[:50]:
            if limiter.availability().free(endpoint_id, "mine"):
                limiter.acquire(endpoint_id, 100, "mine")
                taken += 1
    assert taken == (MAX_IN_FLIGHT - RESERVED) // 2
    available = limiter.availability()
    assert available.free(3000, "other") == MAX_PER_UNKNOWN
    assert available.free(3000) == MAX_PER_UNKNOWN  # an endpoint of all instances
    assert available.full_instances() == []  # a healthy endpoint would have a slot
    for endpoint_id in range(4000, 4000 + MAX_IN_FLIGHT // 2 - taken):
        limiter.acquire(endpoint_id, 100, "mine")
    assert limiter.availability().full_instances() == ["mine"]


def test_an_instance_leaves_as_many_bytes_of_large_bodies_as_it_takes():
    limiter = ConcurrencyLimiter()
    slots = []
    while limiter.availability().large("mine"):
        slots.append(limiter.acquire(1, MAX_LARGE // 8, "mine"))
    assert len(slots) == 4
    assert limiter.availability().large() == MAX_LARGE // 2
    assert limiter.availability().large("other") == MAX_LARGE // 4  # one claim takes half of what it may have
    for slot in slots:
        limiter.release(slot)
    assert limiter.availability().large("mine") == MAX_LARGE // 2


@pytest.mark.bound("LIMIT_KNOWN_ENDPOINTS")
def test_few_endpoints_are_remembered_however_many_there_were(monkeypatch):
    monkeypatch.setattr(concurrency, "KNOWN_ENDPOINTS", 3)
    limiter = ConcurrencyLimiter()
    limiter.load_failing([1, 2, 3])
    slot = limiter.acquire(1, 100)
    limiter.record(slot, is_success=False)
    limiter.release(slot)
    limiter.load_failing([4])
    free = {endpoint_id: limiter.availability().free(endpoint_id) for endpoint_id in range(1, 5)}
    assert free == {1: MAX_PER_FAILING, 2: MAX_PER_UNKNOWN, 3: MAX_PER_FAILING, 4: MAX_PER_FAILING}


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), max_size=300))
def test_no_limit_is_ever_exceeded(steps):
    limiter, taken = ConcurrencyLimiter(), {}
    for endpoint_id, starts, is_success in steps:
        if starts and limiter.availability().free(endpoint_id):
            taken.setdefault(endpoint_id, []).append(limiter.acquire(endpoint_id, 100))
        elif taken.get(endpoint_id):
            slot = taken[endpoint_id].pop()
            limiter.record(slot, is_success)
            limiter.release(slot)
        available = limiter.availability()
        assert all(len(slots) <= MAX_PER_ENDPOINT for slots in taken.values())
        assert all(available.free(endpoint_id) >= 0 for endpoint_id in range(1, 41))
    assert bool(limiter) == any(taken.values())
