"""Supervises background loops: one that fails is logged, restarted after a while, counted and shown.

A database that is away is waited for and does not count. A loop that fails again and again ends the process, so that
whoever supervises that one notices.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from weakref import WeakSet

from django.utils import timezone

from instances.errors import DATABASE_ERRORS, describe

logger = logging.getLogger(__name__)

#: Failures of a loop within so many seconds after which the process ends.
MAX_FAILURES, WINDOW = 10, 60.0
#: Seconds before the restart after the first failure and after any; each failure within WINDOW doubles them.
FIRST_DELAY, MAX_DELAY = 0.1, 2.0
#: Seconds before a loop tries again whose database is away, and between two log lines about it.
DATABASE_RETRY, DATABASE_LOG = 1.0, 60.0
#: Seconds for which a key is set aside after its first failure, and at most; each failure doubles them.
FIRST_REST, MAX_REST = 1.0, 300.0
#: Keys that are set aside at a time; beyond it the oldest is tried again.
MAX_SET_ASIDE = 10_000


@dataclass
class Loop:
    """A background loop, as `manage.py status` and the admin show it."""

    name: str
    #: The beginning of its current run.
    since: datetime
    restarts: int = 0
    #: The last error and its time; empty and None before the first one.
    error: str = ""
    failed_at: datetime | None = None
    #: The times (time.monotonic) of its failures within WINDOW.
    failures: deque[float] = field(default_factory=deque)
    #: The time (time.monotonic) of the last log line about a database that is away.
    logged_at: float = float("-inf")


def end_process() -> None:
    """End this process as SIGTERM does: the server closes its connections first."""
    os.kill(os.getpid(), signal.SIGTERM)


class Supervisor:
    """Runs loops on the running event loop, each in a task of its own, until `stop`."""

    def __init__(self, end_process: Callable[[], object] = end_process) -> None:
        self.loops: dict[str, Loop] = {}
        #: True once a loop has failed too often.
        self.has_failed = False
        self._end_process = end_process
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run `run`, which loops forever, and restart it whenever it raises or returns."""
        loop = self.loops[name] = Loop(name, timezone.now())
        task = asyncio.get_running_loop().create_task(self._supervise(loop, run), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel the loops and wait for their end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, loop: Loop, run: Callable[[], Awaitable[object]]) -> None:
        while not self.has_failed:
            try:
                await run()
                raise RuntimeError("The loop has returned")
            except DATABASE_ERRORS as error:
                delay = self._wait_for_database(loop, error)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                delay = self._record_failure(loop, error)
            await asyncio.sleep(delay)
            loop.since = timezone.now()
            loop.restarts += 1

    def _wait_for_database(self, loop: Loop, error: Exception) -> float:
        """Note that the database was away; returns the seconds until the restart."""
        now = time.monotonic()
        loop.error, loop.failed_at = f"The database does not answer: {error}", timezone.now()
        if now - loop.logged_at > DATABASE_LOG:
            loop.logged_at = now
            logger.error("The loop %r waits for the database: %s", loop.name, error)
        return DATABASE_RETRY

    def _record_failure(self, loop: Loop, error: BaseException) -> float:
        """Log and count an unforeseen error; returns the seconds until the restart."""
        now = time.monotonic()
        loop.error, loop.failed_at = describe(error), timezone.now()
        loop.failures.append(now)
        while loop.failures[0] < now - WINDOW:
            loop.failures.popleft()
        count = len(loop.failures)
        if count < MAX_FAILURES:
            delay = min(FIRST_DELAY * 2 ** (count - 1), MAX_DELAY)
            logger.error("The loop %r has failed; it is restarted in %.1f s", loop.name, delay, exc_info=error)
            return delay
        text = "The loop %r has failed %d times in %d seconds: the process ends"
        logger.critical(text, loop.name, count, WINDOW, exc_info=error)
        self.has_failed = True
        self._end_process()
        return 0


@dataclass
class Rest:
    """A key that is set aside."""

    #: The number of its failures.
    failures: int = 0
    #: The time (time.monotonic) until which it is left alone.
    until: float = 0.0
    #: The type and place of the last error; empty before the first one.
    cause: str = ""
    #: The time of the first failure.
    since: datetime = field(default_factory=timezone.now)


class SetAside:
    """Rows, instances or endpoints whose work has failed: each is left alone for a while, and the others go on."""

    #: All of this process.
    all: ClassVar[WeakSet[SetAside]] = WeakSet()

    def __init__(self, kind: str) -> None:
        """Take the kind of the keys, for the log: "endpoint"."""
        self.kind = kind
        self._keys: OrderedDict[Hashable, Rest] = OrderedDict()
        self.all.add(self)

    def keys(self) -> list[Any]:
        """Return the keys that are set aside now."""
        now = time.monotonic()
        return [key for key, rest in self._keys.items() if rest.until > now]

    def failing(self) -> list[tuple[Any, Rest]]:
        """Return the keys that have failed with an error, and not succeeded since."""
        now = time.monotonic()
        return [(key, rest) for key, rest in list(self._keys.items()) if rest.cause and rest.until > now - MAX_REST]

    def add(self, key: Hashable, error: Exception | None = None) -> None:
        """Set a key aside, longer each time that it fails with an error; without one, it may be tried again soon.

        An error is logged once for each cause.
        """
        rest = self._keys.pop(key, None) or Rest()
        self._keys[key] = rest
        if len(self._keys) > MAX_SET_ASIDE:
            self._keys.popitem(last=False)
        if error is None:
            rest.until = time.monotonic() + FIRST_REST
            return
        rest.failures += 1
        seconds = min(FIRST_REST * 2 ** (rest.failures - 1), MAX_REST)
        rest.until = time.monotonic() + seconds
        cause = describe(error)
        if rest.cause != cause:
            rest.cause = cause
            text = "The %s %s is set aside, and tried again in %d s and then less often: %s"
            logger.error(text, self.kind, key, seconds, cause, exc_info=error)

    def discard(self, key: Hashable) -> None:
        """Forget the failures of a key, after a success."""
        rest = self._keys.pop(key, None)
        if rest and rest.cause:
            logger.warning("The %s %s goes on", self.kind, key)


def is_cancelled() -> bool:
    """Return whether the current task itself is cancelled, rather than something that it waits for."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())
