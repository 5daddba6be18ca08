"""Calls from the event loop to the database: every one goes through `database`.

Outside of a request Django's own `sync_to_async` and `a*()` calls share a single thread. Here are small separate pools
instead: a long replay must not keep clients from joining.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from enum import Enum
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connection
from django.db.migrations.executor import MigrationExecutor

from instances.bounds.shares import Shares
from instances.models import Fingerprint

T = TypeVar("T")


class Pool(Enum):
    """The purpose of a call. Each pool has threads of its own."""

    JOINS = "joins"
    READS = "reads"
    SENDS = "sends"
    #: Claims of deliveries, their renewal and their results. Its threads keep their connections: if all connections of
    #: the process were waiting for one tenant's locks, claims would end, and other processes send again what is sent.
    DELIVERIES = "deliveries"
    #: Requests to inboxes, which anybody may post.
    INBOXES = "inboxes"
    #: Background work that may be late: retention, coalesced events, endpoints that are disabled.
    UPKEEP = "upkeep"


#: Threads of each pool.
THREADS = 4
_executors = {pool: ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix=pool.value) for pool in Pool}


#: Half of each pool, which a holder that is named may have.
_shares = {pool: Shares(THREADS // 2) for pool in Pool}


async def database(
    function: Callable[..., T], *args: Any, pool: Pool = Pool.JOINS, holder: Hashable = None, **kwargs: Any
) -> T:
    """Run `function` in a thread where it may use the ORM; return its result, raise its errors.

    Multi-step work belongs into one function: a transaction does not span two calls. Of the threads of the pool a
    `holder`, such as an instance whose lock the call may wait for, has at most half at a time.
    """

    def call() -> T:
        if pool is not Pool.DELIVERIES:
            close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            if pool is not Pool.DELIVERIES:
                close_old_connections()
            elif connection.errors_occurred:
                connection.close()  # it may be broken; the next call gets another one

    async with nullcontext() if holder is None else _shares[pool].slot(holder):
        return await asyncio.get_running_loop().run_in_executor(_executors[pool], call)


async def close_kept_connections() -> None:
    """Close the connections that the threads of Pool.DELIVERIES keep."""
    meeting = threading.Barrier(THREADS)

    def close() -> None:
        with suppress(threading.BrokenBarrierError):  # a thread is still busy
            meeting.wait(1)  # each call needs a thread of its own
        connection.close()

    await asyncio.gather(*(database(close, pool=Pool.DELIVERIES) for _ in range(THREADS)))


def check_database() -> None:
    """Raise ImproperlyConfigured for a database with other migrations, or encrypted with other secrets."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise ImproperlyConfigured("The database is not up to date: run `manage.py migrate`.")
    Fingerprint.check_all()


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
