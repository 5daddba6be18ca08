"""The way from the loop to the database."""

from __future__ import annotations

import asyncio
import threading

import pytest

from realtime.database import AT_ONCE, Batched
from tests.inside import until

pytestmark = pytest.mark.django_db(transaction=True)


class Door:
    """Counts its openings; each waits until it may end."""

    def __init__(self):
        self.opened = []
        self.may_end = threading.Event()

    def open(self, names):
        self.opened.append(names)
        assert self.may_end.wait(10)
        if "locked" in names:
            raise RuntimeError("locked")
        return [ValueError(name) if name == "broken" else name for name in names]


async def busy(door, batched):
    """Calls that keep everybody else waiting."""
    calls = []
    for number in range(AT_ONCE):
        calls.append(asyncio.ensure_future(batched(f"busy {number}")))
        await asyncio.to_thread(until, lambda: len(door.opened) == len(calls))
    return calls


async def test_calls_that_wait_together_are_one():
    door = Door()
    batched = Batched(door.open)
    running = await busy(door, batched)
    waiting = [asyncio.ensure_future(batched(name)) for name in ("a", "b", "a", "a", "b")]
    await asyncio.sleep(0)
    door.may_end.set()

    assert await asyncio.gather(*waiting) == ["a", "b", "a", "a", "b"]
    assert door.opened[AT_ONCE:] == [["a", "b"]]
    await asyncio.gather(*running)


async def test_who_comes_after_a_call_has_begun_gets_a_call_of_its_own():
    door = Door()
    batched = Batched(door.open)
    running = await busy(door, batched)
    late = asyncio.ensure_future(batched("busy 0"))
    await asyncio.sleep(0)
    door.may_end.set()

    await asyncio.gather(late, *running)
    assert door.opened.count(["busy 0"]) == 2


async def test_each_is_told_its_own_result_and_one_may_leave():
    door = Door()
    batched = Batched(door.open)
    running = await busy(door, batched)
    waiting = [asyncio.ensure_future(batched(name)) for name in ("broken", "broken", "whole", "broken")]
    await asyncio.sleep(0)
    waiting[0].cancel()
    door.may_end.set()

    for one in (waiting[1], waiting[3]):
        with pytest.raises(ValueError, match="broken"):
            await one
    assert await waiting[2] == "whole"
    assert door.opened[AT_ONCE:] == [["broken", "whole"]]
    await asyncio.gather(*running)


async def test_all_are_told_that_a_call_failed():
    door = Door()
    door.may_end.set()
    batched = Batched(door.open)

    answers = await asyncio.gather(*map(batched, ("a", "locked", "c")), return_exceptions=True)

    assert [str(answer) for answer in answers] == ["locked"] * 3
    assert await batched("again") == "again"
