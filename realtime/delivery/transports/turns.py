"""Shares an event loop between pieces of work that are too long to be done at once, and all that has to answer soon."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds of a turn of the loop that all work together may take, and that one may before the next one has its share.
TURN, SHARE = 0.005, 0.001


class Turns:
    """Runs generators on one event loop: each works until it yields, and goes on when its turn comes.

    However many there are, together they take TURN of a turn of the loop. A short one overtakes long ones.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Generator[None, None, Any], asyncio.Future[Any]]] = deque()
        #: Kept, because asyncio forgets a task that nobody keeps.
        self._running: asyncio.Task[None] | None = None

    async def do(self, work: Generator[None, None, T]) -> T:
        """Run a generator to its end; returns what it returns, and raises what it raises.

        It has to yield every few milliseconds: nobody interrupts it.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                until = time.perf_counter() + TURN
                while self._waiting and time.perf_counter() < until:
                    self._go_on(*self._waiting.popleft())
                await asyncio.sleep(0)
        finally:
            self._running = None

    def _go_on(self, work: Generator[None, None, Any], done: asyncio.Future[Any]) -> None:
        if done.done():  # nobody waits for it any more
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
