"""A websocket under uvicorn, and what it knows of its transport that ASGI does not tell. Knows uvicorn's insides.

uvicorn's own protocols hold a library's whole state machine for each connection, and read its handshake twice; with
this one, thousands who wait cost little. `manage.py serve` runs with it, and with realtime/wire/http.py, which it
gets its connections from. Under any other server the extension is missing: then all goes the way of ASGI, more
slowly, and a stuck client is dropped by Engine.IO's heartbeat and TCP's own patience.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from realtime.wire.outbox import frame
from realtime.wire.rfc6455 import (
    CLOSE,
    FRAMES_PER_TURN,
    NO_CLOSE,
    NORMAL,
    PING,
    PONG,
    RESTART,
    SERVER_ERROR,
    TEXT,
    ProtocolError,
    Reader,
    close_frame,
    control_frame,
    read_close,
)

logger = logging.getLogger("uvicorn.error")

#: The name of our extension in `scope["extensions"]`.
EXTENSION = "evoapi.transport"

#: Seconds that a client may take to close the connection once it is told to.
CLOSE_TIMEOUT = 10

Headers = Iterable[tuple[bytes, bytes]]


def _do_nothing() -> None:
    pass


class Phase(Enum):
    """What the application may send."""

    CONNECTING = auto()
    REFUSING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class WebSocketProtocol(asyncio.Protocol):
    """uvicorn's `ws`, and the Link to its transport. It sends no pings: Engine.IO has a heartbeat of its own."""

    __slots__ = (
        "_accept",
        "_app",
        "_closing",
        "_end",
        "_event",
        "_loop",
        "_pong",
        "_reader",
        "_refusal",
        "_server",
        "_soon",
        "_state",
        "_waiter",
        "_writable",
        "is_paused",
        "on_resume",
        "transport",
    )

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """As uvicorn makes them; a copy of `app_state` comes with the handshake's scope."""
        self._app = config.loaded_app
        self._loop = asyncio.get_running_loop()
        self._server = server_state
        self._state = Phase.CONNECTING
        #: None once nothing more is read.
        self._reader: Reader | None = Reader(config.ws_max_size)
        #: What the application is told next, one message at a time, and that it is over.
        self._event: dict[str, Any] | None = {"type": "websocket.connect"}
        self._end: dict[str, Any] | None = None
        self._soon: asyncio.Handle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None
        #: Of many pings that come while nothing can be sent, the last one's answer.
        self._pong: bytes | None = None
        #: An answer over HTTP that refuses the connection, as far as the application has made it.
        self._refusal: Any = None
        self._closing: asyncio.TimerHandle | None = None
        #: The answer to the handshake's key; then all of the answer, until it is sent with the first frame.
        self._accept = b""
        self.is_paused = False
        self.on_resume: Callable[[], None] = _do_nothing

    def open(self, transport: asyncio.Transport, http: dict[str, Any], url: bytes, accept: bytes, early: bytes) -> None:
        """Begin, after a handshake over HTTP.

        `http` is its scope, `accept` the answer to its key; what came already after its head is `early`.
        """
        self.connection_made(transport)
        self._accept = accept
        path, _, query = url.partition(b"?")
        protocols = b",".join(value for name, value in http["headers"] if name == b"sec-websocket-protocol")
        scope = {
            "type": "websocket",
            "asgi": {"version": http["asgi"]["version"], "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if http["scheme"] == "https" else "ws",
            "server": http["server"],
            "client": http["client"],
            "root_path": http["root_path"],
            "path": http["root_path"] + unquote(path.decode()),
            "raw_path": http["root_path"].encode() + path,
            "query_string": query,
            "headers": http["headers"],
            "subprotocols": [one.strip() for one in protocols.decode("latin-1").split(",")] if protocols else [],
            "state": http["state"],
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }
        task = self._loop.create_task(self._run(scope))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)
        if early:
            self.data_received(early)

    async def _run(self, scope: dict[str, Any]) -> None:
        code = NORMAL
        try:
            await self._app(scope, self.receive, self.send)
            if self._state in (Phase.CONNECTING, Phase.REFUSING):
                logger.error("ASGI callable returned without completing handshake.")
        except ClientDisconnected:
            pass
        except BaseException:
            logger.exception("Exception in ASGI application\n")
            code = SERVER_ERROR
        self._stop(code)

    def _stop(self, code: int) -> None:
        """The application has nothing more to say."""
        if self._state in (Phase.CONNECTING, Phase.REFUSING):
            self._answer(500, (), b"Internal Server Error")
        elif self._state is Phase.OPEN:
            self._close(code, "")

    # uvicorn's and the transport's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)  # type: ignore[arg-type] # uvicorn names its own classes

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._state = Phase.CLOSED
        self._tell_end(NO_CLOSE)
        if self._closing:
            self._closing.cancel()
        self.on_resume = _do_nothing  # it holds the session, which holds the link
        if self._writable:
            self._writable.set()

    def shutdown(self) -> None:
        """uvicorn stops."""
        if self._state is Phase.OPEN:
            self.write(close_frame(RESTART))
            self._tell_end(RESTART)
        elif self._state in (Phase.CONNECTING, Phase.REFUSING):
            self._answer(500, (), b"Internal Server Error")
        self._state, self._reader = Phase.CLOSED, None
        self.transport.close()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._pong is not None:
            self.write(control_frame(PONG, self._pong))
            self._pong = None
        if self._writable:
            self._writable.set()
        self.on_resume()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            return
        self._reader.feed(data)
        if self._event is None and self._state is not Phase.CONNECTING:
            self._read_on()
        else:
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Read until a message waits for the application; nothing before it has accepted."""
        if self._soon:
            self._soon.cancel()
            self._soon = None
        if self._state in (Phase.CONNECTING, Phase.REFUSING):
            return
        try:
            for _ in range(FRAMES_PER_TURN):
                if self._event is not None or not self._reader or not (read := self._reader.read()):
                    break
                self._take(*read)
            else:
                self._read_soon()
                return
        except ProtocolError as failure:
            self._fail(failure.code, str(failure))
        if self._event is None:
            self._resume_reading()

    def _read_soon(self) -> None:
        self._soon = self._soon or self._loop.call_soon(self._read_on)
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()

    def _take(self, opcode: int, payload: Any) -> None:
        if opcode == CLOSE:
            self._take_close(payload)
        elif opcode == PING:
            if self.is_paused:
                self._pong = payload
            else:
                self.write(control_frame(PONG, payload))
        elif opcode != PONG and self._state is not Phase.CLOSING:
            self._event = {"type": "websocket.receive", "text" if opcode == TEXT else "bytes": payload}
            self._wake()

    def _take_close(self, payload: bytes) -> None:
        code, reason = read_close(payload)
        self._reader = None
        self.write(control_frame(CLOSE, payload))
        if self._state is not Phase.CLOSING:
            self._end = None  # that it is lost, too, came after
            self._tell_end(code, reason)
        self._state = Phase.CLOSED
        self.transport.close()
        if self.is_paused:
            self._give_up_later()

    def _fail(self, code: int, reason: str) -> None:
        """What still comes is thrown away: were it left unread, TCP would reset, and the client not learn why."""
        self._reader = None
        self.write(close_frame(code, reason))
        self._tell_end(code, reason)
        self._state = Phase.CLOSED
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()
            self._give_up_later()
        else:
            self.transport.close()

    def _tell_end(self, code: int, reason: str = "") -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """ASGI's. Raises RuntimeError where another one waits already."""
        if self._waiter:
            raise RuntimeError("Only one can wait for a websocket's messages")
        if self._event is None:
            self._read_on()
        while self._event is None and self._end is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event, self._event = self._event, None
        if event is None:
            return cast(dict[str, Any], self._end)
        if self._reader and self._reader.has_more:
            self._read_soon()  # not now: what comes next may end it, and this one is to be answered
        else:
            self._resume_reading()
        return event

    # What goes out

    def write(self, frames: bytes) -> None:
        if self._state is Phase.OPEN and not self.transport.is_closing():
            if self._accept:
                frames, self._accept = self._accept + frames, b""
            self.transport.write(frames)

    def reset(self) -> None:
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError, ValueError):  # it is closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI's. Raises ClientDisconnected, and RuntimeError for what may not be sent."""
        while self.is_paused and self._state is not Phase.CLOSED:
            self._writable = self._writable or asyncio.Event()
            self._writable.clear()
            await self._writable.wait()
        kind = message["type"]
        if self._state is Phase.CLOSED:
            raise ClientDisconnected
        elif self._state is Phase.OPEN and kind == "websocket.send":
            data = message.get("bytes")
            self.write(frame(message["text"] if data is None else data))
        elif self._state is Phase.OPEN and kind == "websocket.close":
            self._close(message.get("code", NORMAL), message.get("reason") or "")
        elif self._state is Phase.CONNECTING and kind == "websocket.accept":
            self._open(message)
        elif self._state is Phase.CONNECTING and kind == "websocket.close":
            self._answer(403, (), b"")
        elif self._state is Phase.CONNECTING and kind == "websocket.http.response.start":
            self._state, self._refusal = Phase.REFUSING, message | {"body": b""}
        elif self._state is Phase.REFUSING and kind == "websocket.http.response.body":
            self._refuse(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}': the websocket is {self._state.name.lower()}.")

    def _open(self, message: dict[str, Any]) -> None:
        headers = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", self._accept)]
        if message.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode("latin-1")))
        self._accept = self._head(101, [*headers, *message.get("headers", ())])
        self._state = Phase.OPEN
        self._loop.call_soon(self._send_accept)
        self._read_on()

    def _send_accept(self) -> None:
        if self._accept:
            self.write(b"")

    def _close(self, code: int, reason: str) -> None:
        self.write(close_frame(code, reason))
        self._state = Phase.CLOSING
        self._tell_end(code, reason)
        self._event = None
        self._give_up_later()
        self._read_on()

    def _give_up_later(self) -> None:
        if self._closing:
            self._closing.cancel()
        self._closing = self._loop.call_later(CLOSE_TIMEOUT, self.transport.abort)

    def _refuse(self, message: dict[str, Any]) -> None:
        self._refusal["body"] += message.get("body", b"")
        if not message.get("more_body"):
            self._answer(self._refusal["status"], self._refusal.get("headers", ()), self._refusal["body"])

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse the connection."""
        self._state, self._reader = Phase.CLOSING, None
        self._tell_end(NO_CLOSE)
        if not self.transport.is_closing():
            told = [header for header in headers if header[0].lower() not in (b"content-length", b"connection")]
            ours = [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
            self.transport.write(self._head(status, told + ours) + body)
            self.transport.close()

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = [b"%b: %b\r\n" % header for header in (*self._server.default_headers, *headers)]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n"])
