"""Calls from the event loop to the database: every one goes through `database`.

Outside of a request Django's own `sync_to_async` and `a*()` calls share a single thread. Here are small separate pools
instead: a long replay must not keep clients from joining.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, TypeVar

from django.db import close_old_connections

T = TypeVar("T")


class Pool(Enum):
    """The purpose of a call. Each pool has threads of its own, which keep their connections."""

    JOINS = "joins"
    READS = "reads"
    SENDS = "sends"


_executors = {pool: ThreadPoolExecutor(max_workers=4, thread_name_prefix=pool.value) for pool in Pool}


async def database(function: Callable[..., T], *args: Any, pool: Pool = Pool.JOINS, **kwargs: Any) -> T:
    """Run `function` in a thread where it may use the ORM; return its result, raise its errors.

    Multi-step work belongs into one function: a transaction does not span two calls.
    """

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_executors[pool], call)


#: Calls of a `Batched` that run at the same time. One: more arguments are collected for each call, and threads that
#: compute would only contend for the GIL.
MAX_CONCURRENT_CALLS = 1


class Batched:
    """Collect the arguments of concurrent calls into one database call, which begins after each of them was made.

    `function` takes a list of distinct arguments and returns a list of results in the same order. A result that is an
    exception is raised to the callers with that argument; an exception that `function` raises, to all callers.
    """

    def __init__(self, function: Callable[[list[Any]], list[Any]]) -> None:
        self._function = function
        self._pending: dict[Hashable, asyncio.Future[Any]] = {}
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, argument: Hashable) -> Any:
        future = self._pending.get(argument)
        if future is None:
            if not self._pending:
                task = asyncio.ensure_future(self._call())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            future = self._pending[argument] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    async def _call(self) -> None:
        async with self._semaphore:
            futures, self._pending = self._pending, {}  # arguments from here on need a call of their own
            try:
                results = await database(self._function, list(futures))
            except Exception as error:
                results = [error] * len(futures)
        for future, result in zip(futures.values(), results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # marks it as retrieved, even if all callers were cancelled
            else:
                future.set_result(result)
