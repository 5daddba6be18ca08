"""The way from the loop to the database."""

from __future__ import annotations

import asyncio
import threading

import pytest

from realtime.database import AT_ONCE, Shared
from tests.inside import until

pytestmark = pytest.mark.django_db(transaction=True)


class Door:
    """Counts its openings; each waits until it may end."""

    def __init__(self):
        self.opened = []
        self.may_end = threading.Event()

    def open(self, name):
        self.opened.append(name)
        assert self.may_end.wait(10)
        if name == "broken":
            raise ValueError(name)
        return name, len(self.opened)


async def busy(door, shared):
    """Calls that keep everybody else waiting."""
    calls = [asyncio.ensure_future(shared(door.open, f"busy {number}")) for number in range(AT_ONCE)]
    await asyncio.to_thread(until, lambda: len(door.opened) == AT_ONCE)
    return calls


async def test_calls_that_wait_together_are_one():
    door = Door()
    shared = Shared()
    running = await busy(door, shared)
    waiting = [asyncio.ensure_future(shared(door.open, name)) for name in ("a", "b", "a", "a", "b")]
    await asyncio.sleep(0)
    door.may_end.set()

    assert {name for name, _ in await asyncio.gather(*waiting)} == {"a", "b"}
    assert sorted(door.opened[AT_ONCE:]) == ["a", "b"]
    await asyncio.gather(*running)


async def test_who_comes_after_a_call_has_begun_gets_a_call_of_its_own():
    door = Door()
    shared = Shared()
    running = await busy(door, shared)
    late = asyncio.ensure_future(shared(door.open, "busy 0"))
    await asyncio.sleep(0)
    door.may_end.set()

    await asyncio.gather(late, *running)
    assert door.opened.count("busy 0") == 2


async def test_all_who_share_a_call_are_told_that_it_failed_and_one_may_leave():
    door = Door()
    shared = Shared()
    running = await busy(door, shared)
    waiting = [asyncio.ensure_future(shared(door.open, "broken")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    door.may_end.set()

    for one in waiting[1:]:
        with pytest.raises(ValueError, match="broken"):
            await one
    assert door.opened.count("broken") == 1
    await asyncio.gather(*running)
