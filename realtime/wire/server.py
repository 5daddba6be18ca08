"""uvicorn's server and its worker processes, which close connections before they wait for requests to end."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import django
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

#: Called on the event loop when the server stops, once no new connection is accepted: a waiting poll, for example,
#: would use up all of the time that open requests still have.
before_shutdown: set[Callable[[], object]] = set()

#: Called for a signal: returns True if this process has sent it to itself, because it cannot go on.
has_failed: set[Callable[[], bool]] = set()

#: True in the worker processes of `run`, whose parent logs what concerns all of them.
is_worker = False


def has_bounds() -> bool:
    """Return whether this process bounds its connections: if uvicorn was given our protocol class, which it imports."""
    return "realtime.wire.http" in sys.modules


class GracefulServer(uvicorn.Server):
    """uvicorn's server, which calls `before_shutdown` before it waits for open requests."""

    #: True if the server stopped because it cannot go on.
    has_failed = False
    #: Called once the server takes connections.
    announce: Callable[[], object] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.announce and self.started:
            self.announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for close in list(before_shutdown):
            close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; without raising the signal again at the end, which would hide the exit code of a failure."""
        if sig == signal.SIGTERM and any(failed() for failed in list(has_failed)):
            self.should_exit = self.has_failed = True
        else:
            super().handle_exit(sig, frame)


class WorkerProcess(multiprocess.Process):
    """A worker process of uvicorn's with a GracefulServer."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = GracefulServer(self.config)
        return self._server

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        global is_worker
        is_worker = True
        django.setup()  # the protocol classes, which uvicorn imports before the application, need it
        super().target(sockets)
        if isinstance(self.server, GracefulServer) and self.server.has_failed:
            raise SystemExit(1)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of the host; with port 0 to the first one alone. Raises OSError."""
    sockets: list[socket.socket] = []
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in addresses[: None if port else 1]:
        bound = socket.socket(family, kind, protocol)
        sockets.append(bound)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the other family has its own
            bound.bind(address)
            bound.set_inheritable(True)  # by the worker processes
        except OSError:
            for each in sockets:
                each.close()
            raise
    return sockets


def run(config: uvicorn.Config, sockets: list[socket.socket], announce: Callable[[], object]) -> int:
    """Serve until stopped, in this process or in `config.workers` of them; returns the exit code.

    `announce` is called once clients can connect; with workers, once the port is bound, and connections wait for them.
    """
    if config.workers > 1:
        multiprocess.Process = WorkerProcess  # type: ignore[misc]
        workers = multiprocess.Multiprocess(config, sockets=sockets)
        announce()
        workers.run()
        return STARTUP_FAILURE if any(each.exitcode == STARTUP_FAILURE for each in workers.processes) else 0
    server = GracefulServer(config)
    server.announce = announce
    server.run(sockets)
    if server.has_failed:
        return 1
    return 0 if server.started else STARTUP_FAILURE
