"""The life of the application in a server process: https://asgi.readthedocs.io/en/latest/specs/lifespan.html.

A server with the lifespan protocol says when to start and when to stop. Daphne has none, and a router may pass none on:
there the first request starts the application, and the process's end stops it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType

from django.core.exceptions import ImproperlyConfigured
from django.utils.autoreload import file_changed

from instances.asgi import Receive, Send
from instances.errors import DATABASE_ERRORS

logger = logging.getLogger(__name__)

#: Seconds from a start that failed until a request tries again, and between two log lines about the same error.
RETRY, LOG_INTERVAL = 1.0, 60.0
#: Seconds that a stop may take before the process ends all the same.
STOP_TIMEOUT = 10.0


class NotStarted(Exception):
    """Raised for a request to an application that could not start, or is stopping."""


class Lifespan:
    """Starts an application once, however many requests ask for it, and stops it."""

    def __init__(self, start: Callable[[], Awaitable[object]], stop: Callable[[], Awaitable[object]]) -> None:
        """`start` raises ImproperlyConfigured for what the operator has to change. `stop` also ends a start that failed
        half-way.
        """
        self._start_application = start
        self._stop_application = stop
        #: True between start and stop.
        self.is_running = False
        self._is_stopping = False
        #: The start that is under way, or was the last one.
        self._starting: asyncio.Task[None] | None = None
        self._failed_at = self._logged_at = float("-inf")
        self._logged = ""
        #: Without a lifespan protocol: the task whose cancellation stops the application.
        self._keeper: asyncio.Task[None] | None = None

    # With the lifespan protocol

    async def serve(self, receive: Receive, send: Send) -> None:
        """Serve a scope of the type "lifespan"."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._start()
                except ImproperlyConfigured as error:
                    await send({"type": "lifespan.startup.failed", "message": f"The server cannot start. {error}"})
                    return
                except Exception as error:
                    logger.exception("The server cannot start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                self.is_running = False
                self._is_stopping = True
                await self._stop_application()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # Without it

    async def ensure_running(self) -> None:
        """Start the application if nobody has, and wait until it is started. Raises NotStarted."""
        if self.is_running:
            return
        if self._is_stopping:
            raise NotStarted("The server is stopping")
        if self._starting is None or (self._starting.done() and time.monotonic() > self._failed_at + RETRY):
            # in a context of its own: loops that are started here would keep what this request has in its context
            starting = asyncio.get_running_loop().create_task(self._start_by_request(), context=Context())
            starting.add_done_callback(lambda task: task.cancelled() or task.exception())  # even if nobody waits for it
            self._starting = starting
        try:
            await asyncio.shield(self._starting)  # a client that disconnects ends the start of no other
        except Exception as error:
            raise NotStarted("The server cannot start: its log says why") from error

    async def _start_by_request(self) -> None:
        try:
            await self._start()
        except Exception as error:
            self._failed_at = time.monotonic()
            self._log_failure(error)
            raise
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        self._stop_before_exit(self._keeper)

    def _log_failure(self, error: Exception) -> None:
        """Log why the application cannot start; the same error again only after LOG_INTERVAL."""
        text, now = f"{type(error).__name__}: {error}", time.monotonic()
        if text == self._logged and now < self._logged_at + LOG_INTERVAL:
            return
        self._logged, self._logged_at = text, now
        is_foreseen = isinstance(error, (ImproperlyConfigured, *DATABASE_ERRORS))
        message = "The server cannot start; requests are refused, and try to start it again. %s"
        logger.critical(message, error, exc_info=None if is_foreseen else error)

    async def _keep(self) -> None:
        """Stop the application when this task is cancelled: by a signal, or as asyncio's runners do at their end."""
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running, self._starting = False, None
            await self._stop_application()

    def _stop_before_exit(self, keeper: asyncio.Task[None]) -> None:
        """Have what ends the process stop the application first: a signal, or a reload of Django's runserver."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            self._stop_before_signals(keeper, loop)
            return

        async def cancel() -> None:
            keeper.cancel()
            await asyncio.wait([keeper])

        def stop_before_reload(**kwargs: object) -> None:
            # the reloader, in the main thread, ends the process when this returns
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(cancel(), loop).result(STOP_TIMEOUT)

        file_changed.connect(stop_before_reload, weak=False)

    def _stop_before_signals(self, keeper: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

        def stop_first(number: int, frame: FrameType | None) -> None:
            for each, handler in handlers.items():
                signal.signal(each, handler)  # another signal does not wait
            if loop.is_running():
                loop.call_soon_threadsafe(self._stop_and_raise, keeper, number)
            else:
                signal.raise_signal(number)

        for number in handlers:
            signal.signal(number, stop_first)

    def _stop_and_raise(self, keeper: asyncio.Task[None], number: int) -> None:
        self._is_stopping = True
        timeout = asyncio.get_running_loop().call_later(STOP_TIMEOUT, signal.raise_signal, number)

        def stopped(keeper: asyncio.Task[None]) -> None:
            timeout.cancel()
            if not keeper.cancelled() and keeper.exception():
                logger.error("The server did not stop cleanly", exc_info=keeper.exception())
            signal.raise_signal(number)

        keeper.add_done_callback(stopped)
        keeper.cancel()

    # Both

    async def _start(self) -> None:
        try:
            await self._start_application()
        except BaseException:
            await self._stop_application()
            raise
        self.is_running, self._is_stopping = True, False
