"""The one way from the event loop to the database.

Outside of a request Django's own `sync_to_async` and `a*()` calls share a single thread. Here are small pools instead,
apart from each other: a long replay must not keep anybody from joining.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, TypeVar

from django.db import close_old_connections

T = TypeVar("T")


class Pool(Enum):
    """What a call is for; a pool's threads keep their connections."""

    JOINS = "joins"
    READS = "reads"
    SENDS = "sends"


_executors = {pool: ThreadPoolExecutor(max_workers=4, thread_name_prefix=pool.value) for pool in Pool}


async def database(function: Callable[..., T], *args: Any, pool: Pool = Pool.JOINS, **kwargs: Any) -> T:
    """The result of `function`, run in a thread where it may use the ORM; raises what it raises.

    Multi-step work belongs into one function: a transaction does not span two calls.
    """

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_executors[pool], call)


#: Shared calls that run at a time: more of them wait together, and threads that compute only get in each
#: other's way.
AT_ONCE = 2


class Shared:
    """Calls with the same arguments that wait together are one call, which begins after each of them was made."""

    def __init__(self) -> None:
        self._waiting: dict[Any, asyncio.Future[Any]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        key = (function, repr(args))
        call = self._waiting.get(key)
        if call is None:
            call = self._waiting[key] = asyncio.ensure_future(self._call(key, function, args))
        done: T = await asyncio.shield(call)
        return done

    async def _call(self, key: Any, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        async with self._turn:
            del self._waiting[key]  # before anything is read: who comes from here on needs a call of its own
            return await database(function, *args)
