"""The inbound doors' queue: requests that wait together are stored by one transaction and then answered.

While one transaction commits, the requests of the next one gather; a single request never waits for others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import close_old_connections

from instances.access.cache import AccessCache
from instances.errors import DATABASE_ERRORS
from instances.ingress.batch import (
    ATTEMPTS,
    Entrant,
    Entry,
    is_deadlock,
    is_worth_another,
    run_alone,
    run_batch,
)
from instances.ingress.endpoint import IngressResponse

logger = logging.getLogger(__name__)

#: What one transaction takes up at most, in requests and in bytes of their bodies.
MAX_REQUESTS, MAX_BYTES = 200, 1024 * 1024
#: A body from this size on has a transaction of its own: the others do not wait until it is parsed and written.
LARGE = 256 * 1024
#: Requests for this many instances that somebody else holds can wait at the same time.
LOCK_WAITERS = 8


# Many requests


class Waiting(Entry):
    """A request that is answered on an event loop."""

    def __init__(self, entrant: Entrant, future: asyncio.Future[IngressResponse]) -> None:
        super().__init__(entrant)
        self.future = future

    def finish(self) -> None:
        if self.future.done():
            return  # nobody waits any more
        if isinstance(self.outcome, IngressResponse):
            self.future.set_result(self.outcome)
        else:
            self.future.set_exception(self.outcome or RuntimeError("A request was left without an answer"))


class IngressQueue:
    """Takes requests from the event loop. One thread writes; a few others wait for locks that somebody else holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._is_writing = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intake")
        self._cache = AccessCache()
        self._lanes = KeyedQueues()
        #: How many times what waited was taken up, each time in one transaction unless something went wrong.
        self.batches = 0

    async def enter(self, entrant: Entrant) -> IngressResponse:
        """The answer to a request, once what it brought is committed. Raises what it is refused with."""
        entry = Waiting(entrant, asyncio.get_running_loop().create_future())
        if entrant.size >= LARGE:
            self._lanes.put(entry, entry)
            return await entry.future
        with self._lock:
            self._waiting.append(entry)
            is_idle, self._is_writing = not self._is_writing, True
        if is_idle:
            self._writer.submit(self._write)
        return await entry.future

    def _write(self) -> None:
        while entries := self._next():
            close_old_connections()
            elsewhere = self._settle(entries)
            close_old_connections()
            _deliver([entry for entry in entries if entry not in elsewhere])

    def _next(self) -> list[Waiting]:
        """What waits, as far as it fits into one transaction."""
        with self._lock:
            entries: list[Waiting] = []
            size = 0
            while self._waiting and len(entries) < MAX_REQUESTS and size < MAX_BYTES:
                entries.append(self._waiting.popleft())
                size += entries[-1].entrant.size
            self._is_writing = bool(entries)
            return entries

    def _settle(self, entries: list[Waiting]) -> set[Waiting]:
        """Leave each its outcome, except those that are returned: they are run again, each alone."""
        self.batches += 1
        for attempt in range(1, ATTEMPTS + 1):
            try:
                elsewhere = run_batch(entries, self._cache, wait_for_locks=False)
                break
            except Exception as error:
                if attempt < ATTEMPTS and is_worth_another(error):
                    continue
                elsewhere = self._not_settled(entries, error)
                break
        for entry in elsewhere:
            self._lanes.put(entry.work.address if entry.work else entry, entry)
        return set(elsewhere)

    def _not_settled(self, entries: list[Waiting], error: Exception) -> list[Waiting]:
        """The transaction as a whole has failed: those for whom it may be different alone."""
        if not isinstance(error, DATABASE_ERRORS) or is_deadlock(error):
            logger.info("%s requests are stored one by one: together they failed with %r", len(entries), error)
            return entries
        for entry in entries:
            entry.outcome = error
        return []


class KeyedQueues:
    """Requests that wait for a lock: for one instance one after the other, so that they do not use up the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Any, deque[Waiting]] = {}
        self._threads = ThreadPoolExecutor(max_workers=LOCK_WAITERS, thread_name_prefix="intake-lane")

    def put(self, lane: Any, entry: Waiting) -> None:
        with self._lock:
            waiting = self._waiting.setdefault(lane, deque())
            waiting.append(entry)
            is_idle = len(waiting) == 1
        if is_idle:
            self._threads.submit(self._drain, lane)

    def _drain(self, lane: Any) -> None:
        waiting = self._waiting[lane]
        while waiting:
            close_old_connections()
            run_alone(waiting[0])
            close_old_connections()
            _deliver([waiting[0]])
            with self._lock:
                waiting.popleft()
                if not waiting:
                    del self._waiting[lane]


def _deliver(entries: list[Waiting]) -> None:
    """One wake-up of the loop for all of them."""

    def finish() -> None:
        for entry in entries:
            entry.finish()

    if not entries:
        return
    try:
        entries[0].future.get_loop().call_soon_threadsafe(finish)
    except RuntimeError:
        logger.info("%s requests were answered when the server was gone", len(entries))
