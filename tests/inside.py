"""The application in this very process, behind a real uvicorn in a thread: for tests that look at what it remembers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvicorn

from realtime.asgi import SocketIO
from realtime.database import Pool, _executors, database
from tests.server import free_port


def until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "It did not become true"
        time.sleep(0.005)
    return found


class Inside:
    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.application = SocketIO()
        config = uvicorn.Config(
            self.application,
            port=self.port,
            ws="realtime.protocol:LendingProtocol",
            lifespan="on",
            log_config=None,
            access_log=False,
        )
        self.uvicorn = uvicorn.Server(config)
        await self.uvicorn.serve()

    def __enter__(self) -> Inside:
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
        """A slow database: nothing that this pool is asked begins before the block ends."""
        is_over, running = threading.Event(), threading.Semaphore(0)

        def wait() -> None:
            running.release()
            is_over.wait(20)

        threads = _executors[pool]._max_workers
        waiting = [self.run(database(wait, pool=pool)) for _ in range(threads)]
        try:
            for _ in waiting:
                assert running.acquire(timeout=10)
            yield
        finally:
            is_over.set()
            for one in waiting:
                one.result(20)

    @property
    def traces(self) -> dict[str, Any]:
        """Everything that is kept of clients; a closed session counts as gone, Engine.IO sweeps it away later."""
        server, relay = self.application.server, self.application.relay
        namespaces = server.namespace_handlers["*"]
        return {
            "sessions": {sid: session for sid, session in server.eio.sockets.items() if not session.closed},
            "requests": dict(server.environ),
            "rooms": dict(server.manager.rooms),
            "joining": dict(server.manager.pending_connect),
            "leaving": dict(server.manager.pending_disconnect),
            "joined": dict(server.joined),
            "halves of packets": dict(server._binary_packet),
            "members": dict(namespaces.members),
            "following": dict(namespaces._following),
            "feeds": dict(relay.feeds),
            "listeners": dict(relay.whole.listeners),
        }

    @property
    def is_clean(self) -> bool:
        return not any(self.traces.values())
