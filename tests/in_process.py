"""The application in this process, served by uvicorn in a thread, for tests that check its memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop
from socketio.packet import Packet

from realtime.asgi import SocketIO
from realtime.database import Pool, database
from tests.server import free_port


def until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    """Wait until the condition is true, up to `timeout` seconds; returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "It did not become true"
        time.sleep(0.005)
    return value


#: More calls than any pool has threads.
MORE_THAN_A_POOL = 32


class InProcessServer:
    application: SocketIO

    def __init__(self, other: Any = None, **options: Any) -> None:
        """Serve the application, or `other`; `options` are uvicorn's, and override those of `manage.py serve`."""
        self.other = other
        ours = {"http": "realtime.wire.http:LimitedProtocol", "ws": "realtime.wire.websocket:WebSocketProtocol"}
        self.options = ours | options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        if self.other is None:
            self.application = SocketIO()
        config = uvicorn.Config(
            self.other or self.application,
            port=self.port,
            lifespan="off" if self.other else "on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            **self.options,
        )
        self.uvicorn = uvicorn.Server(config)
        await self.uvicorn.serve()

    def __enter__(self) -> InProcessServer:
        self._thread.start()
        until(lambda: getattr(self, "uvicorn", None) and self.uvicorn.started)
        return self

    def __exit__(self, *error: Any) -> None:
        self.uvicorn.should_exit = True
        self._thread.join(20)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    @contextmanager
    def busy(self, pool: Pool) -> Iterator[None]:
        """Simulate a slow database: occupy all threads of this pool until the block ends."""
        is_over, running = threading.Event(), threading.Semaphore(0)

        def wait() -> None:
            running.release()
            is_over.wait(20)

        waiting = [self.run(database(wait, pool=pool)) for _ in range(MORE_THAN_A_POOL)]
        try:
            assert running.acquire(timeout=10)
            while running.acquire(timeout=0.2):  # until no thread is free to take another one
                pass
            yield
        finally:
            is_over.set()
            for future in waiting:
                future.result(20)

    @property
    def traces(self) -> dict[str, Any]:
        """All state that the server holds of clients, but for closed sessions, which Engine.IO removes later."""
        server, relay = self.application.server, self.application.relay
        namespaces = server.namespace_handlers["*"]
        return {
            "sessions": {sid: session for sid, session in server.eio.sockets.items() if not session.closed},
            "requests": dict(server.environ),
            "rooms": dict(server.rooms) | dict(server.manager.rooms),
            "joining": dict(server.manager.pending_connect),
            "leaving": dict(server.manager.pending_disconnect),
            "joined": dict(server.joined),
            "pending": dict(server.pending.sessions),
            "packets": {id(thing): thing for thing in gc.get_objects() if issubclass(type(thing), Packet)},
            "members": dict(namespaces.members),
            "following": dict(namespaces.following),
            "feeds": dict(relay.feeds),
            "listeners": dict(relay.global_feed.listeners),
        }

    @property
    def is_clean(self) -> bool:
        return not any(self.traces.values())
