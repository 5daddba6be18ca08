"""The Engine.IO server over ASGI: https://socket.io/docs/v4/engine-io-protocol, version 4.

A subclass of python-engineio's whose responses are those that the protocol's own test suite expects. It uses methods
named `_…` of python-engineio 4.15; requirements.in pins it.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections import deque
from typing import Any
from urllib.parse import parse_qs

import engineio
from engineio import exceptions
from engineio.packet import OPEN, Packet

from instances.asgi import Receive, Scope, Send, header_variables
from instances.ingress.body_limit import MAX_QUERY_FIELDS
from realtime.random_bytes import random_bytes
from realtime.socketio import polling
from realtime.socketio.engine_socket import EngineSocket
from realtime.wire.outbox import Outbox


class Engine(engineio.AsyncServer):
    """The Engine.IO server: python-engineio's, with sessions and request handling of our own."""

    sockets: dict[str, EngineSocket]
    sequence_number: int

    def __init__(self, **options: Any) -> None:
        # each session has a timer of its own for its heartbeat
        super().__init__(**{"async_mode": "asgi", "monitor_clients": False} | options)
        self.outbox = Outbox()
        self._tasks: set[asyncio.Task[Any]] = set()

    def create_queue(self, *args: Any, **kwargs: Any) -> deque[Packet]:
        """Return the queue of a new session, in place of python-engineio's asyncio.Queue."""
        return deque()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine as a task, and keep a reference to it until it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def generate_id(self) -> str:
        """Return a new session id: 12 random bytes and a sequence number, in base64."""
        self.sequence_number = (self.sequence_number + 1) & 0xFFFFFF
        return urlsafe_b64encode(random_bytes(12) + self.sequence_number.to_bytes(3)).decode()

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request to the path of Engine.IO, HTTP or websocket."""
        message = await receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            return
        environ = _environ(scope, message, receive, send)
        response = await self._respond(environ)
        if response is not None:
            await self._make_response(self._compress(response, environ), environ)

    async def _respond(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """Return python-engineio's form of a response; None once a websocket was served."""
        is_websocket = environ["asgi.scope"]["type"] == "websocket"
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._ok()
        try:
            query = _query(environ)
        except ValueError:
            return self._bad_request(f"The query has over {MAX_QUERY_FIELDS} fields")
        if query.get("transport") != ["websocket" if is_websocket else "polling"]:
            return self._bad_request("Invalid transport")
        jsonp_index = query["j"][0] if "j" in query else None
        if jsonp_index is not None and not (jsonp_index.isascii() and jsonp_index.isdecimal()):
            return self._bad_request("Invalid JSONP index number")
        if "sid" in query:
            session = self.sockets.get(query["sid"][0])
            if session is None or session.closed or not session.connected:
                return self._bad_request("Invalid session")
            return await self._respond_in_session(session, environ, jsonp_index)
        if query.get("EIO") != ["4"]:
            return self._bad_request("Only version 4 of Engine.IO is supported")
        if environ["REQUEST_METHOD"] != "GET":
            return self._bad_request("Bad handshake method")
        return await self._handle_connect(environ, query["transport"][0], jsonp_index)

    async def _respond_in_session(
        self, session: EngineSocket, environ: dict[str, Any], jsonp_index: str | None
    ) -> dict[str, Any] | None:
        if environ["asgi.scope"]["type"] == "websocket":
            await session.serve_websocket(environ)
            return None
        try:
            if environ["REQUEST_METHOD"] == "GET":
                return self._ok(await polling.handle_get(session, environ), jsonp_index=jsonp_index)
            if environ["REQUEST_METHOD"] == "POST":
                await polling.handle_post(session, environ)
                return self._ok(jsonp_index=jsonp_index)
        except exceptions.EngineIOError:
            pass
        return self._bad_request()

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: str | None = None
    ) -> dict[str, Any] | None:
        sid = self.generate_id()
        session = self.sockets[sid] = EngineSocket(self, sid)
        session.push(Packet(OPEN, self._handshake(sid, transport)))
        result = await self._trigger_event("connect", sid, environ, run_async=False)
        if result not in (None, True):
            del self.sockets[sid]
            return self._unauthorized(result or None)
        session.schedule_ping()
        if transport == "websocket":
            await session.serve_websocket(environ)
            return None
        session.connected = True
        return self._ok(await session.poll(), jsonp_index=jsonp_index)

    def _handshake(self, sid: str, transport: str) -> dict[str, Any]:
        return {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingTimeout": round(self.ping_timeout * 1000),
            "pingInterval": round((self.ping_interval + self.ping_interval_grace_period) * 1000),
            "maxPayload": self.max_http_buffer_size,
        }

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: Any = None) -> dict[str, Any]:
        response: dict[str, Any] = super()._ok(packets, headers, jsonp_index)
        return response if packets is not None else response | {"response": b"ok"}

    def _compress(self, response: dict[str, Any], environ: dict[str, Any]) -> dict[str, Any]:
        if not self.http_compression or len(response["response"]) < self.compression_threshold:
            return response
        accepted = [item.split(";")[0].strip() for item in environ.get("HTTP_ACCEPT_ENCODING", "").split(",")]
        for encoding in accepted:
            if encoding in self.compression_methods:
                compress = getattr(self, f"_{encoding}")
                headers = [*response["headers"], ("Content-Encoding", encoding)]
                return response | {"response": compress(response["response"]), "headers": headers}
        return response


def _query(environ: dict[str, Any]) -> dict[str, list[str]]:
    """Parse the query and drop empty values. Raises ValueError for over MAX_QUERY_FIELDS fields.

    Its API keys are stored in `environ`, so that no namespace joined with them parses it again.
    """
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    environ["evoapi.apikeys"] = query.get("apikey", [])
    return {name: filled for name, values in query.items() if (filled := [value for value in values if value])}


def _environ(scope: Scope, message: dict[str, Any], receive: Receive, send: Send) -> dict[str, Any]:
    """Return a request in the form that python-engineio expects, without headers that are not UTF-8."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "QUERY_STRING": scope.get("query_string", b"").decode(errors="replace"),
        "asgi.receive": receive,
        "asgi.send": send,
        "asgi.scope": scope,
        "evoapi.message": message,
    }
    return environ | header_variables(scope["headers"], "utf-8")
