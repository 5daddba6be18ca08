"""The ingress queue: requests that wait together are stored by one transaction, and answered after its commit.

While one transaction commits, the requests of the next one queue up; a single request never waits for others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from django.db import close_old_connections, connections

from instances.access.cache import AccessCache
from instances.bounds import LOCK_SECONDS
from instances.errors import DATABASE_ERRORS
from instances.ingress import memory
from instances.ingress.batch import ATTEMPTS, Job, is_deadlock, is_locked, is_retryable, run_alone, run_batch
from instances.ingress.endpoint import IngressRequest, IngressResponse

logger = logging.getLogger(__name__)

#: Requests and bytes of their bodies in one transaction, at most.
MAX_REQUESTS, MAX_BYTES = 200, 1024 * 1024
#: Bytes from which a body has a transaction of its own: no other request waits until it is parsed and written.
LARGE_BODY = 256 * 1024
#: Threads that store large bodies: those of one client in turn, so that it never has all of them.
LARGE_WRITERS = 2
#: Threads that wait for locks of other transactions, and milliseconds after which the next key has its turn.
LOCK_WAITERS, LOCK_TURN = 8, 250


class IngressQueue:
    """Run requests of an event loop: one thread writes, a few others store large bodies or wait for locks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queued: deque[Job] = deque()
        self._is_writing = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingress")
        self._cache = AccessCache()
        self._large = KeyedQueues(LARGE_WRITERS, "ingress-large", self._run_large)
        self._locked = KeyedQueues(LOCK_WAITERS, "ingress-locks", _run_locked)

    @property
    def lag(self) -> float:
        """Seconds that the oldest queued request has waited for the writer."""
        with self._lock:
            return time.monotonic() - self._queued[0].queued_at if self._queued else 0.0

    async def submit(self, request: IngressRequest) -> IngressResponse:
        """Run a request, and return its response after the commit. Raises the error that the request failed with."""
        future = asyncio.get_running_loop().create_future()
        job = Job(request, future)
        if job.size >= LARGE_BODY:
            self._large.put((request.path, request.headers.get("apikey")), job)
            return await future
        with self._lock:
            self._queued.append(job)
            is_idle, self._is_writing = not self._is_writing, True
        if is_idle:
            self._writer.submit(self._write)
        return await future

    def _write(self) -> None:
        while jobs := self._next_batch():
            try:
                self._run(jobs, self._cache)
            except BaseException as error:
                _fail(jobs, error)

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

    def _run_large(self, job: Job) -> bool:
        self._run([job], AccessCache())
        _forget(job)
        return True

    def _run(self, jobs: list[Job], cache: AccessCache) -> None:
        """Run jobs in one transaction, and resolve them; those whose instances are locked run later, each alone."""
        close_old_connections()
        deferred = self._try(jobs, cache)
        close_old_connections()
        for job in deferred:
            self._locked.put(job.work.query if job.work else job, job)
        _resolve([job for job in jobs if job not in deferred])

    def _try(self, jobs: list[Job], cache: AccessCache) -> list[Job]:
        """Run jobs in one transaction, leaving each its outcome. Returns the jobs that are to run alone."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return run_batch(jobs, cache, waiting=self._locked.waiting())
            except Exception as error:
                if attempt == ATTEMPTS or not is_retryable(error):
                    return self._failed(jobs, error)
        return []

    def _failed(self, jobs: list[Job], error: Exception) -> list[Job]:
        """Handle the failure of the entire transaction. Returns the jobs that may succeed alone."""
        if not isinstance(error, DATABASE_ERRORS) or is_deadlock(error) or is_locked(error):
            logger.info("%s requests are stored one by one: together they failed with %r", len(jobs), error)
            return jobs
        for job in jobs:
            job.outcome = error
        return []


def _run_locked(job: Job) -> bool:
    """Run a job in a transaction that waits for locks; returns False if it has to wait longer."""
    close_old_connections()
    is_done = run_alone(job, LOCK_TURN) or time.monotonic() > job.queued_at + LOCK_SECONDS
    close_old_connections()
    if is_done:
        _resolve([job])
        _forget(job)
    return is_done


def _forget(job: Job) -> None:
    """Close this thread's connection after a large job: SQLite's would keep the values of its last statements."""
    if job.size >= LARGE_BODY:
        connections.close_all()


class KeyedQueues:
    """A queue of jobs for each key. A few threads run the first job of each queue in turn, so that no key has more than
    one thread at a time, nor keeps it while other keys wait.
    """

    def __init__(self, threads: int, name: str, run: Callable[[Job], bool]) -> None:
        """`run` runs a job in a thread and resolves it; it returns False for a job that is to be run again."""
        self._lock = threading.Lock()
        self._queues: dict[Hashable, deque[Job]] = {}
        #: The keys whose first job is to be run again.
        self._waiting: set[Hashable] = set()
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._run = run

    def put(self, key: Hashable, job: Job) -> None:
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            queue.append(job)
            is_idle = len(queue) == 1
        if is_idle:
            self._threads.submit(self._run_next, key)

    def waiting(self) -> set[Hashable]:
        """Return the keys whose first job has waited in vain: another job of theirs would wait as well."""
        with self._lock:
            return set(self._waiting)

    def _run_next(self, key: Hashable) -> None:
        queue = self._queues[key]
        try:
            is_done = self._run(queue[0])
        except BaseException as error:
            is_done = True
            _fail([queue[0]], error)
        is_large = queue[0].size >= LARGE_BODY
        with self._lock:
            if is_done:
                queue.popleft()
                self._waiting.discard(key)
            else:
                self._waiting.add(key)
            if not queue:
                del self._queues[key]
        if queue:
            self._threads.submit(self._run_next, key)
        elif is_large:
            memory.trim()


def _fail(jobs: list[Job], error: BaseException) -> None:
    """Resolve jobs that an unforeseen error has left without an outcome; the thread goes on with others."""
    logger.error("Requests were not stored", exc_info=error)
    with suppress(Exception):  # its state is not known
        connections.close_all()
    for job in jobs:
        job.outcome = RuntimeError("The request was not stored, see the log")
    _resolve(jobs)


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
