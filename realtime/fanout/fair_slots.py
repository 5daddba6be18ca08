"""Slots for short work that many wait for, shared fairly between groups."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class FairSlots:
    """Slots, of which one group may hold a share. Groups that wait take turns, however many wait in each."""

    def __init__(self, count: int, share: int) -> None:
        self._free = count
        self._share = share
        self._held: Counter[Hashable] = Counter()
        #: Those that wait, by group; the group whose turn is next comes first.
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, group: Hashable) -> AsyncIterator[None]:
        """Hold a slot for a group, after waiting for the group's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        self._grant()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._release(group)

    def _release(self, group: Hashable) -> None:
        self._free += 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]
        self._grant()

    def _grant(self) -> None:
        """Give the free slots to the groups that wait and have less than their share."""
        while self._free:
            group = next((group for group in self._waiting if self._held[group] < self._share), None)
            if group is None:
                return
            turns = self._waiting.pop(group)
            turn = turns.popleft()
            if turns:
                self._waiting[group] = turns  # behind the other groups
            if not turn.done():  # it was not cancelled
                self._free -= 1
                self._held[group] += 1
                turn.set_result(None)
