"""Calls from the event loop to the database."""

from __future__ import annotations

import asyncio
import threading

import pytest

from realtime.database import MAX_CONCURRENT_CALLS, Batched
from tests.in_process import until

pytestmark = pytest.mark.django_db(transaction=True)


class Query:
    """Records the arguments of its calls; each call blocks until `may_end` is set."""

    def __init__(self):
        self.calls = []
        self.may_end = threading.Event()

    def run(self, names):
        self.calls.append(names)
        assert self.may_end.wait(10)
        if "locked" in names:
            raise RuntimeError("locked")
        return [ValueError(name) if name == "broken" else name for name in names]


async def occupy(query, batched):
    """Start calls that keep all later ones pending."""
    running = []
    for number in range(MAX_CONCURRENT_CALLS):
        running.append(asyncio.ensure_future(batched(f"busy {number}")))
        await asyncio.to_thread(until, lambda: len(query.calls) == len(running))
    return running


async def test_pending_calls_are_made_as_one():
    query = Query()
    batched = Batched(query.run)
    running = await occupy(query, batched)
    pending = [asyncio.ensure_future(batched(name)) for name in ("a", "b", "a", "a", "b")]
    await asyncio.sleep(0)
    query.may_end.set()

    assert await asyncio.gather(*pending) == ["a", "b", "a", "a", "b"]
    assert query.calls[MAX_CONCURRENT_CALLS:] == [["a", "b"]]
    await asyncio.gather(*running)


async def test_an_argument_given_after_its_call_began_is_in_a_later_call():
    query = Query()
    batched = Batched(query.run)
    running = await occupy(query, batched)
    late = asyncio.ensure_future(batched("busy 0"))
    await asyncio.sleep(0)
    query.may_end.set()

    await asyncio.gather(late, *running)
    assert query.calls.count(["busy 0"]) == 2


async def test_each_caller_receives_its_own_result_though_another_is_cancelled():
    query = Query()
    batched = Batched(query.run)
    running = await occupy(query, batched)
    pending = [asyncio.ensure_future(batched(name)) for name in ("broken", "broken", "intact", "broken")]
    await asyncio.sleep(0)
    pending[0].cancel()
    query.may_end.set()

    for caller in (pending[1], pending[3]):
        with pytest.raises(ValueError, match="broken"):
            await caller
    assert await pending[2] == "intact"
    assert query.calls[MAX_CONCURRENT_CALLS:] == [["broken", "intact"]]
    await asyncio.gather(*running)


async def test_the_error_of_a_call_is_raised_to_all_its_callers():
    query = Query()
    query.may_end.set()
    batched = Batched(query.run)

    results = await asyncio.gather(*map(batched, ("a", "locked", "c")), return_exceptions=True)

    assert [str(result) for result in results] == ["locked"] * 3
    assert await batched("again") == "again"
