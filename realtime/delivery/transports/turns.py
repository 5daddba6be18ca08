"""Runs long computations on an event loop in slices, so that everything else on the loop responds in time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds that all generators together may take of one iteration of the loop, and that one may take before the next.
TURN, SHARE = 0.005, 0.001


class Turns:
    """Schedules generators on one event loop, round-robin.

    Together they take TURN seconds of an iteration of the loop, however many they are. Short ones overtake long ones.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Generator[None, None, Any], asyncio.Future[Any]]] = deque()
        #: A reference, because asyncio keeps only a weak one to a task.
        self._running: asyncio.Task[None] | None = None

    async def run(self, work: Generator[None, None, T]) -> T:
        """Run a generator to its end; returns what it returns, and raises what it raises.

        It has to yield every few milliseconds: it is not preempted.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run_all())
        return await done

    async def _run_all(self) -> None:
        try:
            while self._waiting:
                until = time.perf_counter() + TURN
                while self._waiting and time.perf_counter() < until:
                    self._run_slice(*self._waiting.popleft())
                await asyncio.sleep(0)
        finally:
            self._running = None

    def _run_slice(self, work: Generator[None, None, Any], done: asyncio.Future[Any]) -> None:
        if done.done():  # the caller was cancelled
            work.close()
            return
        until = time.perf_counter() + SHARE
        try:
            while time.perf_counter() < until:
                next(work)
        except StopIteration as end:
            done.set_result(end.value)
        except Exception as error:
            done.set_exception(error)
        else:
            self._waiting.append((work, done))
