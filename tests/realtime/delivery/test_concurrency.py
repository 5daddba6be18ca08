"""Who may have how many attempts under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.delivery import concurrency as module
from realtime.delivery.concurrency import (
    KEPT,
    LARGE,
    MAX_DEGRADED,
    MAX_IN_FLIGHT,
    MAX_LARGE,
    MAX_PER_ENDPOINT,
    MAX_PER_FAILING,
    MAX_PER_UNKNOWN,
    ConcurrencyLimiter,
)

pytestmark = pytest.mark.any_database


@pytest.fixture
def clock(monkeypatch):
    """time.monotonic, which goes on when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def filled(places: ConcurrencyLimiter, endpoint_ids, want: int = 10**6) -> list[int]:
    """Gives each endpoint as many places as it may have, in turns, until none gets any more."""
    numbers = []
    while True:
        look = places.look()
        before = len(numbers)
        for endpoint_id in endpoint_ids:
            for _ in range(min(look.free(endpoint_id), want)):
                numbers.append(places.begin(endpoint_id, 100))
                look.take(endpoint_id, [100])
        if len(numbers) == before:
            return numbers


def test_one_endpoint_has_so_many_places_and_no_more():
    places = ConcurrencyLimiter()
    first, *_ = filled(places, [1])
    assert places.look().full() == [1]
    assert places.look().free(2) == MAX_PER_UNKNOWN
    places.answered(first, is_healthy=True)
    assert len(filled(places, [1])) == MAX_PER_ENDPOINT - MAX_PER_UNKNOWN
    assert places.look().full() == [1]


@pytest.mark.parametrize("crowd", [50, 60, 150, 2000])
def test_however_many_want_everything_there_is_a_place_for_one_that_went_well(crowd):
    places = ConcurrencyLimiter()
    number = places.begin(0, 100)
    places.answered(number, is_healthy=True)
    places.end(number)
    taken = filled(places, range(1, crowd + 1))
    assert len(taken) <= MAX_IN_FLIGHT - KEPT
    assert places.look().free(0) >= 3
    if crowd < 1000:
        assert places.look().free(9999)


def test_a_failing_one_has_few_places_until_something_goes_well():
    places = ConcurrencyLimiter()
    first, second = places.begin(1, 100), places.begin(1, 100)
    places.answered(first, is_healthy=False)
    places.end(first)
    assert len(filled(places, [1])) == MAX_PER_FAILING - 1
    places.answered(second, is_healthy=True)
    assert places.look().free(1) == MAX_PER_ENDPOINT - MAX_PER_FAILING
    places.remember_failing([7])
    assert places.look().free(7) == MAX_PER_FAILING


def test_those_that_are_late_or_slow_share_half_of_the_places(clock):
    places = ConcurrencyLimiter()
    slow = range(1, 121)
    numbers = filled(places, slow)
    assert len(numbers) > MAX_DEGRADED
    clock[0] += 3
    look = places.look()
    assert {look.free(one) for one in slow} == {0}
    assert set(look.full()) == set(slow)
    assert look.free(999) > 0
    for number in numbers:
        places.answered(number, is_healthy=True)
        places.end(number)
    assert not places
    again = filled(places, slow)  # the last attempt of each was slow
    assert len(slow) <= len(again) <= MAX_DEGRADED
    for number in again:
        places.answered(number, is_healthy=True)
        places.end(number)
    assert len(filled(places, slow)) > MAX_DEGRADED


def test_large_bodies_count_by_their_size():
    places = ConcurrencyLimiter()
    assert places.look().large == MAX_LARGE
    small, large = places.begin(1, LARGE), places.begin(1, 10 * LARGE)
    look = places.look()
    assert look.large == MAX_LARGE - 10 * LARGE
    look.take(2, [MAX_LARGE])
    assert look.large == 0
    for number in (small, large):
        places.end(number)
    assert places.look().large == MAX_LARGE


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), max_size=300))
def test_no_bound_is_ever_passed(steps):
    places, taken = ConcurrencyLimiter(), {}
    for endpoint_id, begins, is_healthy in steps:
        if begins and places.look().free(endpoint_id):
            taken.setdefault(endpoint_id, []).append(places.begin(endpoint_id, 100))
        elif taken.get(endpoint_id):
            number = taken[endpoint_id].pop()
            places.answered(number, is_healthy)
            places.end(number)
        look = places.look()
        assert all(len(numbers) <= MAX_PER_ENDPOINT for numbers in taken.values())
        assert all(look.free(one) >= 0 for one in range(1, 41))
    assert bool(places) == any(taken.values())
