"""The ASGI application for `/socket.io/` and event streams, with the lifespan of all that runs beside them."""

from __future__ import annotations

import ctypes
import gc
import logging
from contextlib import suppress

from django.conf import settings

from instances import errors
from instances.access.gate import Gate
from instances.access.path_spelling import spelled
from instances.asgi import Application, Receive, Scope, Send, respond
from instances.bounds.bound import bounds_of_proxies
from instances.ingress.held_bytes import RETRY_AFTER
from instances.ingress.memory import return_large_blocks
from instances.outbound.client import http_client
from realtime.counters.counter import count_forever
from realtime.database import check_database, database
from realtime.delivery.dispatcher import Dispatcher
from realtime.delivery.transports.base import transports
from realtime.fanout import sse
from realtime.fanout.connected import Connected
from realtime.fanout.namespaces import CLIENT_EVENTS, Namespaces
from realtime.fanout.relay import Relay
from realtime.fanout.sse import EventStream
from realtime.log import coalescing_worker
from realtime.log.retention import prune_forever
from realtime.operation.lifespan import Lifespan, NotStarted
from realtime.operation.report import Load, Report
from realtime.operation.supervisor import Supervisor
from realtime.operation.variables import warn_of_unknown_variables
from realtime.socketio.server import Server
from realtime.wire import server

logger = logging.getLogger(__name__)

PATH = "/socket.io/"

#: The parameter of glibc's mallopt(3) for the bytes of a block from which it is returned to the system.
M_MMAP_THRESHOLD = -3


class SocketIO:
    """The ASGI application: serves `/socket.io/`, its client's JavaScript, event streams and `lifespan`; `other` serves
    the rest.

    Used alone, or in Channels' ProtocolTypeRouter under "http", "websocket" and "lifespan". Where no lifespan comes,
    the first request starts what runs beside them.
    """

    def __init__(self, other: Application | None = None) -> None:
        self.other = other
        self.gate = Gate(self._route, sockets_path=PATH)
        self.server = Server()
        self.relay = Relay(self.server)
        self.namespaces = Namespaces(self.relay)
        self.server.register_namespace(self.namespaces)
        self.server.client_events = CLIENT_EVENTS
        self.server.on_rewind = self.namespaces.rewind
        self.stream = EventStream(self.relay, self.namespaces)
        self.connected = Connected(self.namespaces)
        self.lifespan = Lifespan(self.start, self.stop)
        self.supervisor = Supervisor()
        self.report: Report | None = None
        self.dispatcher: Dispatcher | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan.serve(receive, send)
        else:
            await self.gate(spelled(scope) if scope["type"] == "http" else scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.lifespan.is_running:
            try:
                await self.lifespan.ensure_running()
            except NotStarted as error:
                await _refuse(scope, receive, send, str(error))
                return
        if scope["type"] == "http" and scope["path"].startswith(sse.PATH):
            await self.stream(scope, receive, send)
        elif not settings.WEBSOCKET_ENABLED or not f"{scope['path']}/".startswith(PATH):
            await self._other(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].endswith((".js", ".js.map")):
            await self._client_bundle(scope["path"].removeprefix(PATH), send)
        else:
            await self.server.handle_request(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.other and scope["type"] == "http":
            await self.other(scope, receive, send)
        elif scope["type"] == "websocket":
            await _close(receive, send)
        else:
            await _respond(send, 404, errors.error_response(404, [f"Cannot {scope['method']} {scope['path']}"]).content)

    async def _client_bundle(self, name: str, send: Send) -> None:
        """Respond with a file of the npm package socket.io-client that is installed; other names are 404."""
        installed = {path.name: path for path in settings.SOCKET_IO_CLIENT.glob("socket.io*")}
        if name not in installed:
            missing = f"{name} is not installed here: run `make setup`, which gets it from npm"
            await _respond(send, 404, errors.error_response(404, [missing]).content)
        else:
            await _respond(send, 200, installed[name].read_bytes(), "application/javascript; charset=utf-8")

    def close_transports(self) -> None:
        """Close all connections once their queued packets are sent; the clients reconnect to any running server."""
        for eio_sid in list(self.server.eio.sockets):
            self.server.close_transport(eio_sid)
        self.stream.close()

    async def start(self) -> None:
        """Start the relay and the workers. Raises ImproperlyConfigured for a database or settings that do not fit."""
        if not server.is_worker:
            warn_of_unknown_variables()
        await database(check_database)
        transports()  # settings are checked now, not at the first delivery
        return_large_blocks()
        await http_client.start()
        await self.relay.start()
        self.connected.start()
        await database(coalescing_worker.emit_left_behind)
        self._start_loops()
        server.before_shutdown.add(self.close_transports)
        server.has_failed.add(self._has_failed)
        _tune_gc()
        _tune_malloc()
        if not server.has_bounds():
            bounds = ", ".join(f"{bound.variable} ({bound.amount})" for bound in bounds_of_proxies())
            text = (
                "Connections are bounded by `manage.py serve` alone. Under this server a proxy in front has to set %s"
            )
            logger.warning(text, bounds)

    def _has_failed(self) -> bool:
        return self.supervisor.has_failed

    def _load(self) -> Load:
        return Load(len(self.server.eio.sockets) + self.stream.count, self.relay.take_lag())

    def _start_loops(self) -> None:
        self.supervisor.start("sweep", self.relay.sweep_forever)
        self.supervisor.start("access", self.namespaces.recheck_access_forever)
        self.supervisor.start("coalesced events", coalescing_worker.run_forever)
        self.supervisor.start("retention", prune_forever)
        self.supervisor.start("counters", count_forever)
        self.report = Report(self.supervisor, "server", self._load)
        self.supervisor.start("status", self.report.run_forever)
        if settings.DELIVERY_EMBEDDED:
            self.dispatcher = Dispatcher()
            self.dispatcher.start(self.supervisor)

    async def stop(self) -> None:
        """Stop the relay and the workers, and disconnect all clients."""
        server.before_shutdown.discard(self.close_transports)
        server.has_failed.discard(self._has_failed)
        await self.supervisor.stop()
        if self.dispatcher:
            await self.dispatcher.stop()
        if self.report:
            await self.report.end()
        self.dispatcher = self.report = None
        self.connected.stop()
        await self.relay.stop()
        await self.server.shutdown()
        await http_client.stop()


def _tune_gc() -> None:
    """Collect garbage less often: connections are many long-lived objects, whose traversal was half of a broadcast.

    The young are few at a time: where 50,000 were garbage in cycles, as Django's views make, a collection took 74 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 250, 100)


def _tune_malloc() -> None:
    """Return large blocks to the system once they are freed. By default, after the first of them, glibc keeps blocks of
    up to 32 MiB for others to come, so a server kept 100 MB of bodies that it had answered.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1024 * 1024)


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    """Refuse a request to a server that is not running, so that the client tries again."""
    if scope["type"] == "websocket":
        await _close(receive, send)
    elif scope["path"].startswith(sse.PATH):
        await sse.respond_later(send, reason)
    else:
        content = errors.error_response(503, [reason]).content
        headers = [(b"content-type", b"application/json"), (b"retry-after", str(RETRY_AFTER).encode())]
        await respond(send, 503, headers, content)


async def _close(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def _respond(send: Send, status: int, body: bytes, content_type: str = "application/json") -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"public, max-age=3600" if status == 200 else b"no-store"),
    ]
    await respond(send, status, headers, body)
