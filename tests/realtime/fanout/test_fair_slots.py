"""Slots that tenants share: one that fills all it may have holds up no other."""

from __future__ import annotations

import asyncio

import pytest

from realtime.fanout.fair_slots import FairSlots

pytestmark = pytest.mark.any_database


class Work:
    """Work of several groups in some slots; `began` has the groups in the order in which their work began."""

    def __init__(self, count, share):
        self.slots = FairSlots(count, share)
        self.began = []
        self.ends = []

    def start(self, group):
        return asyncio.ensure_future(self._work(group))

    async def _work(self, group):
        async with self.slots.slot(group):
            self.began.append(group)
            self.ends.append(asyncio.get_running_loop().create_future())
            await self.ends[-1]

    async def end(self, number):
        self.ends[number].set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_group_holds_no_more_than_its_share():
    work = Work(count=3, share=2)
    tasks = [work.start("crowded") for _ in range(1000)]
    await asyncio.sleep(0)
    assert work.began == ["crowded"] * 2

    tasks.append(work.start("other"))
    await asyncio.sleep(0)
    assert work.began == ["crowded", "crowded", "other"]
    for task in tasks:
        task.cancel()


async def test_groups_that_wait_take_turns():
    work = Work(count=1, share=1)
    tasks = [work.start(group) for group in ["a"] * 100 + ["b"] * 3 + ["c"]]
    await asyncio.sleep(0)
    for number in range(7):
        await work.end(number)

    assert work.began == ["a", "a", "b", "c", "a", "b", "a", "b"]
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize("is_granted", [False, True])
async def test_work_that_is_cancelled_leaves_its_slot_to_others(is_granted):
    work = Work(count=1, share=1)
    work.start("a")
    await asyncio.sleep(0)
    cancelled, last = work.start("b"), work.start("c")
    await asyncio.sleep(0)
    if is_granted:
        work.ends[0].set_result(None)
        await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    if not is_granted:
        await work.end(0)
    for _ in range(5):
        await asyncio.sleep(0)

    assert work.began[-1] == "c"
    last.cancel()
