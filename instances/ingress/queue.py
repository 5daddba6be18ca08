"""The ingress queue: requests that wait together are stored by one transaction, and answered after its commit.

While one transaction commits, the requests of the next one queue up; a single request never waits for others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections

from instances.access.cache import AccessCache
from instances.errors import DATABASE_ERRORS
from instances.ingress.batch import ATTEMPTS, Job, is_deadlock, is_retryable, run_alone, run_batch
from instances.ingress.endpoint import IngressRequest, IngressResponse

logger = logging.getLogger(__name__)

#: Requests and bytes of their bodies in one transaction, at most.
MAX_REQUESTS, MAX_BYTES = 200, 1024 * 1024
#: Bytes from which a body has a transaction of its own: no other request waits until it is parsed and written.
LARGE_BODY = 256 * 1024
#: Threads that wait for locks of other transactions, each for another instance or set of instances.
LOCK_WAITERS = 8


class IngressQueue:
    """Run requests of an event loop: one thread writes, a few others wait for locks of other transactions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queued: deque[Job] = deque()
        self._is_writing = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingress")
        self._cache = AccessCache()
        self._deferred = KeyedQueues()

    async def submit(self, request: IngressRequest) -> IngressResponse:
        """Run a request, and return its response after the commit. Raises the error that the request failed with."""
        future = asyncio.get_running_loop().create_future()
        job = Job(request, future)
        if job.size >= LARGE_BODY:
            self._deferred.put(job, job)
            return await future
        with self._lock:
            self._queued.append(job)
            is_idle, self._is_writing = not self._is_writing, True
        if is_idle:
            self._writer.submit(self._write)
        return await future

    def _write(self) -> None:
        while jobs := self._next_batch():
            close_old_connections()
            deferred = self._run(jobs)
            close_old_connections()
            _resolve([job for job in jobs if job not in deferred])

    def _next_batch(self) -> list[Job]:
        """Take the queued jobs that fit into one transaction; without any, mark the writer idle."""
        with self._lock:
            jobs: list[Job] = []
            size = 0
            while self._queued and len(jobs) < MAX_REQUESTS and size < MAX_BYTES:
                jobs.append(self._queued.popleft())
                size += jobs[-1].size
            self._is_writing = bool(jobs)
            return jobs

    def _run(self, jobs: list[Job]) -> set[Job]:
        """Run jobs in one transaction, leaving each its outcome. Returns the deferred jobs: each runs alone."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                deferred = run_batch(jobs, self._cache, wait_for_locks=False)
                break
            except Exception as error:
                if attempt < ATTEMPTS and is_retryable(error):
                    continue
                deferred = self._failed(jobs, error)
                break
        for job in deferred:
            self._deferred.put(job.work.query if job.work else job, job)
        return set(deferred)

    def _failed(self, jobs: list[Job], error: Exception) -> list[Job]:
        """Handle the failure of the entire transaction. Returns the jobs that may succeed alone."""
        if not isinstance(error, DATABASE_ERRORS) or is_deadlock(error):
            logger.info("%s requests are stored one by one: together they failed with %r", len(jobs), error)
            return jobs
        for job in jobs:
            job.outcome = error
        return []


class KeyedQueues:
    """Jobs that wait for locks, in a queue for each key: jobs of one instance use one thread, not all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Hashable, deque[Job]] = {}
        self._threads = ThreadPoolExecutor(max_workers=LOCK_WAITERS, thread_name_prefix="ingress-locks")

    def put(self, key: Hashable, job: Job) -> None:
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            queue.append(job)
            is_idle = len(queue) == 1
        if is_idle:
            self._threads.submit(self._drain, key)

    def _drain(self, key: Hashable) -> None:
        queue = self._queues[key]
        while queue:
            close_old_connections()
            run_alone(queue[0])
            close_old_connections()
            _resolve([queue[0]])
            with self._lock:
                queue.popleft()
                if not queue:
                    del self._queues[key]


def _resolve(jobs: list[Job]) -> None:
    """Resolve the futures of jobs, by one wake-up of their event loop."""

    def resolve() -> None:
        for job in jobs:
            job.resolve()

    if not jobs or jobs[0].future is None:
        return
    try:
        jobs[0].future.get_loop().call_soon_threadsafe(resolve)
    except RuntimeError:
        logger.info("%s responses were dropped: their event loop is closed", len(jobs))
