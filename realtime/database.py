"""The one way from the event loop to the database.

Outside of a request Django's own `sync_to_async` and `a*()` calls share a single thread. Here are small pools instead,
apart from each other: a long replay must not keep anybody from joining.
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


#: Calls of a `Batched` that run at a time: so the more arguments wait together, and threads that compute would only get
#: in each other's way.
AT_ONCE = 1


class Batched:
    """Makes one call of those that wait together, which begins after each of them was made; equal ones are one.

    `function` takes a list of arguments and returns a result for each; an exception among them is raised to those who
    asked for it.
    """

    def __init__(self, function: Callable[[list[Any]], list[Any]]) -> None:
        self._function = function
        self._waiting: dict[Hashable, asyncio.Future[Any]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, argument: Hashable) -> Any:
        answer = self._waiting.get(argument)
        if answer is None:
            if not self._waiting:
                call = asyncio.ensure_future(self._call())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            answer = self._waiting[argument] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(answer)

    async def _call(self) -> None:
        async with self._turn:
            asked, self._waiting = self._waiting, {}  # who comes from here on needs a call of its own
            try:
                results = await database(self._function, list(asked))
            except Exception as error:
                results = [error] * len(asked)
        for answer, result in zip(asked.values(), results, strict=True):
            if isinstance(result, Exception):
                answer.set_exception(result)
                answer.exception()  # looked at, even if nobody waits for it any more
            else:
                answer.set_result(result)
