"""The time that clients may take of one turn of the event loop, all of them together.

What a client sends is handled piece by piece: frames, packets, parts of a request. Each piece is short, but one read
may bring thousands, and a thousand clients may send some at the same time. So whoever handles pieces asks between two
of them whether the turn is over, and then goes on in the next one; each client has one piece handled in each turn.
Requests that are complete at the same time begin in several turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from weakref import WeakKeyDictionary

from instances.bounds import STARTS_PER_TURN, TURN_MILLISECONDS


class Turn:
    """One turn of an event loop, begun anew with the first piece that is handled after the last one."""

    __slots__ = ("_ends_at", "_loop", "_started", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: By perf_counter(); None before the first piece.
        self._ends_at: float | None = None
        #: Functions called by `start` in this turn, and those for the next ones.
        self._started = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_over(self) -> bool:
        """True once the pieces of this turn have taken their time; the next one is to wait for another turn."""
        if self._ends_at is None:
            self._ends_at = perf_counter() + TURN_MILLISECONDS / 1000
            self._loop.call_soon(self._end)
            return False
        return perf_counter() > self._ends_at

    def _end(self) -> None:
        self._ends_at = None

    def start(self, function: Callable[[], None]) -> None:
        """Call a function that starts a task: STARTS_PER_TURN of them in this turn, the others in the next ones."""
        if self._started == 0:
            self._loop.call_soon(self._start_waiting)
        if self._started < STARTS_PER_TURN:
            self._started += 1
            function()
        else:
            self._waiting.append(function)

    async def begin(self) -> None:
        """Go on in this turn, or in a later one, with what takes as long as to start a task."""
        begun = asyncio.Event()
        self.start(begun.set)
        await begun.wait()

    def _start_waiting(self) -> None:
        self._started = min(STARTS_PER_TURN, len(self._waiting))
        if self._started:
            self._loop.call_soon(self._start_waiting)
        for _ in range(self._started):
            self._waiting.popleft()()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    """Return the turn of an event loop, one object for all of its clients."""
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = Turn(loop)
    return turn
