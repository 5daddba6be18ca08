"""The Engine.IO server over ASGI: https://socket.io/docs/v4/engine-io-protocol, version 4.

It has those methods of python-engineio's server that python-socketio calls, and uses its codec for packets; requests
and sessions are its own. Responses are those that the protocol's own test suite expects. Origins are checked in front
of it (instances/access/gate.py).
"""

from __future__ import annotations

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
from engineio.packet import MESSAGE, OPEN, Packet

from instances import errors
from instances.asgi import AsgiHeaders, Receive, Scope, Send, respond
from instances.bounds import MESSAGE_BYTES, QUERY_FIELDS
from instances.ingress.held_bytes import RETRY_AFTER
from realtime.socketio import polling
from realtime.socketio.engine_socket import EngineSocket
from realtime.socketio.handshake import Handshake
from realtime.socketio.packets import EngineError
from realtime.wire.outbox import Outbox
from realtime.wire.random_bytes import random_bytes

logger = logging.getLogger(__name__)

#: Characters of its path that are kept while a request is served.
MAX_PATH = 100


class Engine:
    """The Engine.IO server: its sessions by their ids, and the requests that open and use them."""

    #: What python-socketio's server is to say of itself.
    async_mode = "asgi"

    def __init__(
        self,
        ping_interval: float = 25,
        ping_timeout: float = 20,
        max_http_buffer_size: int = MESSAGE_BYTES,
        **options: Any,
    ) -> None:
        """Times are in seconds, sizes in bytes; `options` are python-socketio's for its own engine."""
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.max_http_buffer_size = max_http_buffer_size
        self.outbox = Outbox()
        self.sockets: dict[str, EngineSocket] = {}
        #: The coroutine function for each event: connect, message and disconnect.
        self.handlers: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._sequence_number = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # As python-engineio's server, for python-socketio

    def on(self, event: str, handler: Callable[..., Awaitable[Any]]) -> None:
        """Set the handler of an event: connect(sid, Handshake), message(sid, data) or disconnect(sid, reason)."""
        self.handlers[event] = handler

    def generate_id(self) -> str:
        """Return a new session id: 12 random bytes and a sequence number, in base64."""
        self._sequence_number = (self._sequence_number + 1) & 0xFFFFFF
        return urlsafe_b64encode(random_bytes(12) + self._sequence_number.to_bytes(3)).decode()

    async def send(self, sid: str, data: str | bytes) -> None:
        """Send a message to a session, without waiting; without effect where there is none."""
        await self.send_packet(sid, Packet(MESSAGE, data))

    async def send_packet(self, sid: str, packet: Packet) -> None:
        """Send a packet to a session, without waiting; without effect where there is none."""
        session = self.sockets.get(sid)
        if session is not None:
            session.push(packet)

    def transport(self, sid: str) -> str:
        """Return the name of a session's transport."""
        return "websocket" if self.sockets[sid].upgraded else "polling"

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return self.spawn(target(*args, **kwargs))

    async def sleep(self, seconds: float = 0) -> None:
        await asyncio.sleep(seconds)

    def create_event(self) -> asyncio.Event:
        return asyncio.Event()

    async def shutdown(self) -> None:
        """End all sessions; the clients reconnect."""
        for session in list(self.sockets.values()):
            session.end()

    # For the sessions

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine as a task, and keep a reference to it until it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def trigger(self, event: str, *args: Any) -> bool:
        """Run an event's handler; its errors are logged. Returns False if it has failed."""
        try:
            if event in self.handlers:
                await self.handlers[event](*args)
        except Exception:
            logger.exception("The handler of a session's %s has failed", event)
            return False
        return True

    # Requests

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request to the path of Engine.IO, HTTP or websocket."""
        first = await receive()
        if first["type"] in ("http.disconnect", "websocket.disconnect"):
            return
        try:
            if scope.get("method") == "OPTIONS":
                await polling.OK.send(send)
                return
            session, style = await self._session(scope)
            _forget_head(scope)
            if scope["type"] == "websocket":
                await session.serve_websocket(scope, receive, send)
            else:
                response = await polling.handle(session, style, scope["method"], receive, first)
                await response.send(send)
        except EngineError as error:
            await _refuse(scope, send, error)

    async def _session(self, scope: Scope) -> tuple[EngineSocket, polling.Style]:
        """Return the session that a request uses or opens, and the style of its response. Raises EngineError."""
        query = _query(scope)
        if query.get("transport") != ["websocket" if scope["type"] == "websocket" else "polling"]:
            raise EngineError('Invalid transport: it is "polling", or "websocket" for a websocket')
        style = polling.Style.of(query, AsgiHeaders(scope["headers"]).get("accept-encoding", ""))
        if "sid" not in query:
            return await self._open(scope, query), style
        session = self.sockets.get(query["sid"][0])
        if session is None or session.closed or not session.connected:
            raise EngineError("Invalid session: it is unknown or has ended, so open another one")
        return session, style

    async def _open(self, scope: Scope, query: dict[str, list[str]]) -> EngineSocket:
        """Open a session, whose first packet is its OPEN. Raises EngineError."""
        if query.get("EIO") != ["4"]:
            raise EngineError("Only version 4 of Engine.IO is supported: use version 3 or 4 of socket.io-client")
        if scope.get("method", "GET") != "GET":
            raise EngineError("Bad handshake method: a session is opened by GET")
        handshake = Handshake.of(scope, query)
        sid = self.generate_id()
        session = self.sockets[sid] = EngineSocket(self, sid)
        is_polling = scope["type"] == "http"
        opening = {
            "sid": sid,
            "upgrades": ["websocket"] if is_polling else [],
            "pingTimeout": round(self.ping_timeout * 1000),
            "pingInterval": round(self.ping_interval * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        session.push(Packet(OPEN, orjson.dumps(opening).decode()))
        if not await self.trigger("connect", sid, handshake):
            await session.close()
            raise EngineError("The session could not be opened; try again", 500)
        session.schedule_ping()
        session.connected = is_polling
        return session


def _query(scope: Scope) -> dict[str, list[str]]:
    """Return the fields of the query, those that are filled and `apikey`. Raises EngineError."""
    try:
        text = scope["query_string"].decode(errors="replace")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError:
        raise EngineError(f"The query has over {QUERY_FIELDS} fields") from None
    query = {name: values if name == "apikey" else list(filter(None, values)) for name, values in fields.items()}
    return {name: values for name, values in query.items() if values}


def _forget_head(scope: Scope) -> None:
    """Drop the head of a request, up to 64 KiB: the server's tasks hold its scope as long as it is served."""
    scope["headers"].clear()
    scope |= {"path": scope["path"][:MAX_PATH], "raw_path": b"", "query_string": b"", "subprotocols": []}


async def _refuse(scope: Scope, send: Send, error: EngineError) -> None:
    body = errors.error_response(error.status, [str(error)]).content
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json")]
        if error.status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER).encode()))
        await respond(send, error.status, headers, body)
    else:
        await send({"type": "websocket.close", "reason": str(error)})
