"""The websocket protocol class for uvicorn, which also gives applications its transport. Uses uvicorn's internals.

uvicorn's own classes keep a library's complete state machine for each connection, and parse its handshake twice; with
this one, thousands of idle connections cost little. `manage.py serve` runs with it and with realtime/wire/http.py,
which hands connections over to it. Under any other server the extension is missing: then packets are ASGI messages,
more slowly, and a stuck client is dropped by Engine.IO's heartbeat and TCP's own timeouts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from instances.bounds import CLOSE_SECONDS, FRAMES_PER_TURN
from instances.ingress.held_bytes import Charge, held_bytes
from realtime.wire.outbox import frame
from realtime.wire.rfc6455 import (
    BINARY,
    CLOSE,
    NO_CLOSE,
    NORMAL,
    PING,
    PONG,
    RESTART,
    SERVER_ERROR,
    TEXT,
    TRY_LATER,
    ProtocolError,
    Reader,
    close_frame,
    control_frame,
    read_close,
)
from realtime.wire.turn import turn_of

logger = logging.getLogger("uvicorn.error")

#: Name of the extension in `scope["extensions"]` that holds the WebSocketTransport.
EXTENSION = "evoapi.transport"

#: Bytes received from one client that are kept without being charged to anybody.
UNCHARGED = 4096

Headers = Iterable[tuple[bytes, bytes]]


def _do_nothing() -> None:
    pass


class ReadyState(Enum):
    """The state of a connection, which decides what the application may send."""

    CONNECTING = auto()
    DENYING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class WebSocketProtocol(asyncio.Protocol):
    """uvicorn's `ws` and a WebSocketTransport. It sends no pings: Engine.IO has a heartbeat of its own."""

    __slots__ = (
        "_abort_timer",
        "_accept",
        "_app",
        "_charge",
        "_denial",
        "_end",
        "_event",
        "_holder",
        "_loop",
        "_next_read",
        "_pong",
        "_reader",
        "_server",
        "_state",
        "_turn",
        "_waiter",
        "_writable",
        "is_paused",
        "on_lost",
        "on_resume",
        "transport",
    )

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """Take the arguments that uvicorn passes; the handshake's scope has a copy of `app_state`."""
        self._app = config.loaded_app
        self._loop = asyncio.get_running_loop()
        self._turn = turn_of(self._loop)
        self._server = server_state
        self._state = ReadyState.CONNECTING
        #: None once no more frames are read.
        self._reader: Reader | None = Reader(config.ws_max_size)
        #: The next ASGI message for the application, and the `websocket.disconnect` after the last one.
        self._event: dict[str, Any] | None = {"type": "websocket.connect"}
        self._end: dict[str, Any] | None = None
        self._next_read: asyncio.Handle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None
        #: Payload of the PONG for the last of the pings that arrived while writing was paused.
        self._pong: bytes | None = None
        #: The HTTP response that denies the connection, as far as the application has sent it.
        self._denial: Any = None
        self._abort_timer: asyncio.TimerHandle | None = None
        #: The bytes received and not yet passed on, as charged to their holder; None while they are few.
        self._charge: Charge | None = None
        self._holder: Hashable = None
        #: Sec-WebSocket-Accept; then the complete 101 response, until it is written with the first frame.
        self._accept = b""
        self.is_paused = False
        self.on_resume: Callable[[], None] = _do_nothing
        #: Called once the connection is lost.
        self.on_lost: Callable[[], None] = _do_nothing

    def open(self, transport: asyncio.Transport, http: dict[str, Any], url: bytes, accept: bytes, early: bytes) -> None:
        """Take over a connection after its handshake, and run the application.

        `http` is the handshake's scope, `accept` its Sec-WebSocket-Accept, `early` the bytes received after its head.
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
            "subprotocols": [name.strip() for name in protocols.decode("latin-1").split(",")] if protocols else [],
            "state": http["state"],
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }
        self._turn.start(partial(self._start, scope))
        if early:
            self.data_received(early)

    def _start(self, scope: dict[str, Any]) -> None:
        task = self._loop.create_task(self._run(scope))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _run(self, scope: dict[str, Any]) -> None:
        code = NORMAL
        try:
            await self._app(scope, self.receive, self.send)
            if self._state in (ReadyState.CONNECTING, ReadyState.DENYING):
                logger.error("ASGI callable returned without completing handshake.")
        except ClientDisconnected:
            pass
        except BaseException:
            logger.exception("Exception in ASGI application\n")
            code = SERVER_ERROR
        self._finish(code)

    def _finish(self, code: int) -> None:
        """Deny or close the connection, where the application has returned without doing so."""
        if self._state in (ReadyState.CONNECTING, ReadyState.DENYING):
            self._deny(500, (), b"Internal Server Error")
        elif self._state is ReadyState.OPEN:
            self._close(code, "")

    # Callbacks of uvicorn and the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)  # type: ignore[arg-type] # uvicorn names its own classes

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self.on_lost()
        self._state = ReadyState.CLOSED
        self._release()
        self._set_end(NO_CLOSE)
        if self._abort_timer:
            self._abort_timer.cancel()
        self.on_resume = _do_nothing  # the callback refers to the session, which refers to this object
        if self._writable:
            self._writable.set()

    def shutdown(self) -> None:
        """Close the connection; called by uvicorn when it stops."""
        if self._state is ReadyState.OPEN:
            self.write(close_frame(RESTART))
            self._set_end(RESTART)
        elif self._state in (ReadyState.CONNECTING, ReadyState.DENYING):
            self._deny(500, (), b"Internal Server Error")
        self._state = ReadyState.CLOSED
        self._drop_received()
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

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            return
        self._reader.feed(data)
        if self._event is None and self._state is not ReadyState.CONNECTING:
            self._read_on()
        else:
            self.transport.pause_reading()
        self._charge_received()

    def _charge_received(self) -> None:
        """Charge what was received and is kept; close the connection where that does not fit into the budget."""
        held = self._reader.held if self._reader else 0
        if held < UNCHARGED:
            self._release()
            return
        if self._charge is None:
            self._charge = held_bytes.charge(self._holder)
            self._charge.give_way = self._fail_for_room
        if not self._charge.hold(held):
            self._fail_for_room()

    def _fail_for_room(self) -> None:
        self._fail(TRY_LATER, str(held_bytes.refusal().detail))

    def _drop_received(self) -> None:
        """Keep nothing of what was received, or will be. The client may still stay for LIMIT_CLOSE_SECONDS."""
        self._reader = None
        self._release()

    def _release(self) -> None:
        if self._charge:
            self._charge.__exit__(None)
            self._charge = None

    def _read_on(self) -> None:
        """Read frames until there is a message for the application; none before it has accepted."""
        if self._next_read:
            self._next_read.cancel()
            self._next_read = None
        if self._state in (ReadyState.CONNECTING, ReadyState.DENYING):
            return
        try:
            left = FRAMES_PER_TURN
            while self._event is None and self._reader and (read := self._reader.read()):
                self._handle(*read)
                left -= 1
                if not left or self._turn.is_over:
                    self._read_soon()
                    return
        except ProtocolError as error:
            self._fail(error.code, str(error))
        if self._event is None:
            self._resume_reading()

    def _read_soon(self) -> None:
        self._next_read = self._next_read or self._loop.call_soon(self._read_on)
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()

    def _handle(self, opcode: int, payload: Any) -> None:
        if opcode == CLOSE:
            self._handle_close(payload)
        elif opcode == PING:
            if self.is_paused:
                self._pong = payload
            else:
                self.write(control_frame(PONG, payload))
        elif opcode in (TEXT, BINARY) and self._state is not ReadyState.CLOSING:
            self._event = {"type": "websocket.receive", "text" if opcode == TEXT else "bytes": payload}
            self._wake()

    def _handle_close(self, payload: bytes) -> None:
        code, reason = read_close(payload)
        self._drop_received()
        self.write(control_frame(CLOSE, payload))
        if self._state is not ReadyState.CLOSING:
            self._end = None  # the close frame came before the loss of the connection
            self._set_end(code, reason)
        self._state = ReadyState.CLOSED
        self.transport.close()
        if self.is_paused:
            self._abort_later()

    def _fail(self, code: int, reason: str) -> None:
        """Close with an error, and drop what the client still sends.

        Left unread, it would make TCP reset the connection, and the client would not receive the code.
        """
        self._drop_received()
        self.write(close_frame(code, reason))
        self._set_end(code, reason)
        self._state = ReadyState.CLOSED
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()
            self._abort_later()
        else:
            self.transport.close()

    def _set_end(self, code: int, reason: str = "") -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def limit_messages(self, size: int, holder: Hashable) -> None:
        """Set the bytes that a message may have from now on, and the holder of those that are kept."""
        self._holder = holder
        if self._reader:
            self._reader.max_size = size

    async def receive(self) -> dict[str, Any]:
        """Return the next message, as ASGI's `receive`. Raises RuntimeError where another call waits already."""
        if self._waiter:
            raise RuntimeError("Another call already waits for this websocket's messages")
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
            self._read_soon()  # not now: the next frame may end the connection before this message is handled
        else:
            self._resume_reading()
        return event

    # Sending

    def write(self, frames: bytes) -> None:
        """Send complete frames, the first ones together with the 101 response."""
        if self._state is ReadyState.OPEN and not self.transport.is_closing():
            if self._accept:
                frames, self._accept = self._accept + frames, b""
            self.transport.write(frames)

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the system has not taken."""
        return self.transport.get_write_buffer_size()

    def reset(self) -> None:
        """End the connection with RST: with SO_LINGER of 0 seconds a close is a reset."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError, ValueError):  # it is closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message, as ASGI's `send`. Raises ClientDisconnected, and RuntimeError for a message out of order."""
        while self.is_paused and self._state is not ReadyState.CLOSED:
            self._writable = self._writable or asyncio.Event()
            self._writable.clear()
            await self._writable.wait()
        kind = message["type"]
        if self._state is ReadyState.CLOSED:
            raise ClientDisconnected
        elif self._state is ReadyState.OPEN and kind == "websocket.send":
            data = message.get("bytes")
            self.write(frame(message["text"] if data is None else data))
        elif self._state is ReadyState.OPEN and kind == "websocket.close":
            self._close(message.get("code", NORMAL), message.get("reason") or "")
        elif self._state is ReadyState.CONNECTING and kind == "websocket.accept":
            self._open(message)
        elif self._state is ReadyState.CONNECTING and kind == "websocket.close":
            self._deny(403, (), b"")
        elif self._state is ReadyState.CONNECTING and kind == "websocket.http.response.start":
            self._state, self._denial = ReadyState.DENYING, message | {"body": b""}
        elif self._state is ReadyState.DENYING and kind == "websocket.http.response.body":
            self._add_denial_body(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}': the websocket is {self._state.name.lower()}.")

    def _open(self, message: dict[str, Any]) -> None:
        headers = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", self._accept)]
        if message.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode("latin-1")))
        self._accept = self._head(101, [*headers, *message.get("headers", ())])
        self._state = ReadyState.OPEN
        self._loop.call_soon(self._send_accept)
        self._read_on()

    def _send_accept(self) -> None:
        if self._accept:
            self.write(b"")

    def _close(self, code: int, reason: str) -> None:
        self.write(close_frame(code, reason))
        self._state = ReadyState.CLOSING
        self._set_end(code, reason)
        self._event = None
        self._abort_later()
        self._read_on()

    def _abort_later(self) -> None:
        if self._abort_timer:
            self._abort_timer.cancel()
        self._abort_timer = self._loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _add_denial_body(self, message: dict[str, Any]) -> None:
        self._denial["body"] += message.get("body", b"")
        if not message.get("more_body"):
            self._deny(self._denial["status"], self._denial.get("headers", ()), self._denial["body"])

    def _deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Respond to the handshake with HTTP, and close."""
        self._state = ReadyState.CLOSING
        self._drop_received()
        self._set_end(NO_CLOSE)
        if not self.transport.is_closing():
            kept = [header for header in headers if header[0].lower() not in (b"content-length", b"connection")]
            ours = [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
            self.transport.write(self._head(status, kept + ours) + body)
            self.transport.close()

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = [b"%b: %b\r\n" % header for header in (*self._server.default_headers, *headers)]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n"])
