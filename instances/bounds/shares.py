"""Shares of a common resource: one holder never has all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Shares:
    """Slots of which each holder has at most `size` at a time; its further tasks wait in order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._semaphores: dict[Hashable, asyncio.Semaphore] = {}
        #: Tasks that hold a slot or wait for one, by holder.
        self._users: dict[Hashable, int] = {}

    @asynccontextmanager
    async def slot(self, holder: Hashable) -> AsyncIterator[None]:
        self._users[holder] = self._users.get(holder, 0) + 1
        semaphore = self._semaphores.setdefault(holder, asyncio.Semaphore(self.size))
        try:
            async with semaphore:
                yield
        finally:
            self._users[holder] -= 1
            if not self._users[holder]:
                del self._users[holder], self._semaphores[holder]
