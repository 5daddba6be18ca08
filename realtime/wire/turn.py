"""The time that clients may take of one turn of the event loop, all of them together.

What a client sends is handled piece by piece: frames, packets, chunks. Each piece is short, but one read may bring
thousands, and a thousand clients may send some at the same time. So whoever handles pieces asks between two of them
whether the turn is over, and then goes on in the next one. Everybody handles one piece in each turn.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from weakref import WeakKeyDictionary

from instances.bounds import TURN_MILLISECONDS


class Turn:
    """One turn of an event loop, begun anew with the first piece that is handled after the last one."""

    __slots__ = ("_ends_at", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: By perf_counter(); None before the first piece.
        self._ends_at: float | None = None

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


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    """Return the turn of an event loop, one object for all of its clients."""
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = Turn(loop)
    return turn
