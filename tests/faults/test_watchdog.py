"""The watchdog of the tests reports what is worked on in one piece, and nothing else (tests/watched.py)."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time

import pytest

from tests.watched import STALL, Watchdog

pytestmark = pytest.mark.any_database


def compute_in_c() -> None:
    sum(range(20_000_000))


def compute_in_python() -> None:
    until = time.thread_time() + 0.15
    while time.thread_time() < until:
        pass


def hash_password() -> None:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 500_000)


async def watch(*jobs) -> None:
    """Run jobs in threads of their own while the watchdog watches."""
    Watchdog()
    await asyncio.sleep(0.05)
    # as in a pool, they outlive what they work on
    threads = [threading.Thread(target=lambda job=job: (job(), time.sleep(0.1)), name=job.__name__) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0.05)


def test_a_thread_that_keeps_the_gil_is_reported(capfd):
    def compute_again() -> None:
        for _ in range(4):  # where it waits for a core it may seem to need no GIL
            compute_in_c()
            time.sleep(0.02)

    asyncio.run(watch(compute_again, hash_password))
    stalls = capfd.readouterr().err.split(STALL)[1:]
    assert any("ms of CPU time in thread compute_again, which kept the GIL" in stall for stall in stalls)


@pytest.mark.parametrize("work", [compute_in_c, compute_in_python])
def test_a_turn_of_the_loop_is_reported_with_its_stack(capfd, work):
    async def long_turn() -> None:
        Watchdog()
        await asyncio.sleep(0.05)
        work()
        await asyncio.sleep(0.05)

    asyncio.run(long_turn())
    (stall,) = capfd.readouterr().err.split(STALL)[1:]
    assert "ms of CPU time in one turn of the event loop" in stall
    if work is compute_in_python:
        assert "in compute_in_python" in stall


def test_threads_that_take_turns_or_need_no_gil_are_not_reported(capfd):
    asyncio.run(watch(*[compute_in_python] * 4, *[hash_password] * 4))
    assert STALL not in capfd.readouterr().err
