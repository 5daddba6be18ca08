"""Requests that are too large or never end, and answers that nobody takes: uvicorn would keep all that for ever.

`manage.py serve` runs with it; under any other server, a proxy in front has to set such limits. It hands what asks for
a websocket over to realtime/wire/websocket.py.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from instances import errors
from instances.ingress.body_limit import BODY_PATIENCE, Transfer
from realtime.wire import rfc6455
from realtime.wire.websocket import WebSocketProtocol

#: Seconds that the head of a request may take: from the opening of the connection, or its first byte.
HEAD_TIMEOUT = 10

#: Bytes and lines of a request's head. Its trailers and the extensions of its chunks may have as many again.
MAX_HEAD_SIZE, MAX_HEAD_LINES = 64 * 1024, 200

#: Bytes that are parsed at once. A head that begins within a piece is counted from the next piece on.
PIECE_SIZE = 16 * 1024

#: Chunks that are parsed in one turn of the loop, about: an honest client's are far larger.
CHUNKS_A_TURN = 200

#: Bytes of a chunk, besides its data, that do not count as its extension: the digits of its size and two line ends.
CHUNK_FRAMING = 16

#: Seconds and bytes that a refused client may go on sending, all of which is dropped. To close with unread data resets
#: the connection, and the client might lose the answer.
LINGER_TIME, LINGER_SIZE = 2, 16 * 1024 * 1024

#: Seconds that the client may take nothing of an answer, and that it may take besides what the bytes need at MIN_RATE.
ANSWER_PATIENCE = 30

#: Seconds between two looks at a connection, and that the application has to answer before the connection ends.
CHECK_INTERVAL = 1


class TooManyLines(Exception):
    """Raised within the parser, to stop it."""


class Flow(FlowControl):
    """Reads nothing while it is held, whoever asks for more."""

    is_deferred = False

    def resume_reading(self) -> None:
        if not self.is_deferred:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """Answers 408 to a request that comes too slowly and 431 to one whose head, trailers or chunk extensions are too
    large, and closes; it aborts where no answer can be given.
    """

    #: Since when a head is awaited; None while there is a body, or nothing, to wait for.
    _head_since: float | None = None
    _body: Transfer | None = None
    #: What the application has written and the client is to take; None while that is little.
    _answer: Transfer | None = None
    #: Bytes that waited to be sent when `_answer` began.
    _unsent = 0
    _checking: asyncio.TimerHandle | None = None
    #: Bytes and lines of the current head or, after it, of the trailers and chunk extensions.
    _head_size = _head_lines = 0
    flow: Flow
    #: The request that the application answers, or has answered last.
    _running: RequestResponseCycle | None = None
    #: Bytes that are parsed later: once requests before them are answered, or in another turn of the loop.
    _unparsed = b""
    #: Chunks in this turn of the loop.
    _chunks = 0
    #: When a refused client is disconnected, by the loop's clock, and bytes that it has sent since it was refused.
    _lingers_until: float | None = None
    _dropped = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        # all that uvicorn does here, but it asks for the addresses by way of a copy of the socket, which costs more
        # than the rest
        self.connections.add(self)
        self.transport, self.flow = transport, Flow(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._head_since = self.loop.time()
        self._checking = self.loop.call_later(CHECK_INTERVAL, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_checking()
        super().connection_lost(exc)
        if self._running:  # uvicorn lets only the last of pipelined requests know
            self._running.disconnected = True
            self._running.message_event.set()

    def shutdown(self) -> None:
        if self._lingers_until is None:
            super().shutdown()
        else:
            self.transport.close()

    def _open_websocket(self, early: bytes) -> None:
        """Hand the connection over, with what came after the handshake's head.

        uvicorn would write the request out again, for the websocket's protocol to read it from there.
        """
        if not self._is_answered:
            self.transport.abort()  # this one's answer would come before the other's
            return
        try:
            accept = rfc6455.accept(self.scope["method"], self.scope["http_version"], self.headers)
        except rfc6455.HandshakeError as refusal:
            version = (b"sec-websocket-version: 13",) if refusal.status == 426 else ()
            self._answer_and_close(refusal.status, str(refusal), version)
            return
        self._stop_checking()
        self.connections.discard(self)
        protocol = WebSocketProtocol(self.config, self.server_state, self.app_state)
        self.transport.set_protocol(protocol)
        protocol.open(self.transport, cast(dict[str, Any], self.scope), self.url, accept, early)
        self.parser = None  # type: ignore[assignment] # it holds this one, which nobody needs any more

    def _stop_checking(self) -> None:
        if self._checking:
            self._checking.cancel()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._lingers_until is not None:
            self._drop(data)
            return
        if self._unparsed:
            self._unparsed += data
            return
        self._unset_keepalive_if_required()
        # uvicorn's limit for idle connections ends with any byte, also with one that begins no request
        if self._head_since is None and self._body is None and self._is_answered:
            self._head_since = self.loop.time()
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse piece by piece. The rest waits as bytes while requests are pipelined, or for a turn if chunks are many.

        A request that waits for its turn takes some eighty times the memory of its bytes.
        """
        start = self._chunks = 0
        while start < len(data) and not self.pipeline and self._chunks < CHUNKS_A_TURN:
            start = self._parse_piece(data, start)
        self._unparsed = data[start:]
        if self._unparsed:
            self.flow.pause_reading()
            self.flow.is_deferred = True
            if not self.pipeline:
                self.loop.call_soon(self._parse_on)

    def _parse_piece(self, data: bytes, start: int) -> int:
        """Parse the next piece; returns where it ended, or the end of the data where nothing more is to be parsed."""
        # of a head no byte too many is parsed; in a body pieces as small as what is left for trailers would be many
        size = min(PIECE_SIZE, MAX_HEAD_SIZE - self._head_size) if self._body is None else PIECE_SIZE
        piece = data if start == 0 and len(data) <= size else memoryview(data)[start : start + size]
        self._head_size += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[start + upgrade.args[0] :])
            return len(data)
        except httptools.HttpParserError:
            self._refuse_malformed()
            return len(data)
        self._head_size = max(0, self._head_size)
        if self._head_size >= MAX_HEAD_SIZE:
            self._refuse_large()
            return len(data)
        return start + len(piece)

    def _upgrade(self, early: bytes) -> None:
        if self._should_upgrade():
            self._open_websocket(early)
        else:
            self._unsupported_upgrade_warning()

    def _refuse_malformed(self) -> None:
        if self._head_lines > MAX_HEAD_LINES:
            self._refuse_large()
        else:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _parse_on(self) -> None:
        if self._unparsed and not self.transport.is_closing():
            data, self._unparsed = self._unparsed, b""
            self.flow.is_deferred = False
            self.flow.resume_reading()
            self.data_received(data)

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > LINGER_SIZE:
            self.transport.abort()

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines += 1
        if self._head_lines > MAX_HEAD_LINES:
            raise TooManyLines
        if self._body is None:  # a trailer is no header: RFC 9110, section 6.5.1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_size = self._head_lines = 0
        self._head_since, self._body = None, Transfer(self.loop.time(), BODY_PATIENCE)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_size -= len(body)
        if self._body:
            self._body.move(len(body), self.loop.time())
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        self._chunks += 1
        self._head_size -= CHUNK_FRAMING

    def on_message_complete(self) -> None:
        self._head_size = self._head_lines = 0
        self._body = None
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unparsed and not self.pipeline:
            self.loop.call_soon(self._parse_on)

    # What goes out

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self._answer = None
        super().resume_writing()

    def _await_reader(self) -> None:
        self._answer = Transfer(self.loop.time(), ANSWER_PATIENCE)
        self._unsent = self.transport.get_write_buffer_size()

    # Limits

    def _check(self) -> None:
        self._checking = self.loop.call_later(CHECK_INTERVAL, self._check)
        now = self.loop.time()
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.transport.abort()
            return
        if self.transport.is_closing() and not self._answer:
            self._await_reader()  # the connection ends once the client has taken what is left
        if self._answer and self._is_taken_too_slowly(self._answer, now):
            self.transport.abort()
        elif not self.transport.is_closing() and self._comes_too_slowly(now):
            self._refuse(408, "The request was not complete in time")

    def _is_taken_too_slowly(self, answer: Transfer, now: float) -> bool:
        taken = self._unsent - self.transport.get_write_buffer_size()
        if taken > answer.moved:
            answer.move(taken - answer.moved, now)
        return now > answer.deadline

    def _comes_too_slowly(self, now: float) -> bool:
        if self.flow.read_paused:  # the application lets the client wait
            self._body = Transfer(now, BODY_PATIENCE) if self._body else None
            self._head_since = now if self._head_since is not None else None
        if self._body:
            return now > self._body.deadline + CHECK_INTERVAL
        return self._head_since is not None and now > self._head_since + HEAD_TIMEOUT

    def _refuse_large(self) -> None:
        too_large = "head is" if self._body is None else "trailers and chunk extensions are"
        self._refuse(431, f"The request's {too_large} over {MAX_HEAD_SIZE // 1024} KiB or {MAX_HEAD_LINES} lines")

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close; abort where it would seem a part of another answer, or the answer to what comes next."""
        is_begun = self._body is not None and self.cycle.response_started
        if self.pipeline or is_begun or not (self._body or self._is_answered):
            self.transport.abort()
        elif self._body or self._has_begun:
            self._answer_and_close(status, message)
        else:
            self.transport.close()

    def _answer_and_close(self, status: int, message: str, more: tuple[bytes, ...] = ()) -> None:
        body = errors.error_response(status, [message]).content
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", *more]
        self.transport.write(STATUS_LINE[status] + b"\r\n".join([*headers, b"", body]))
        if self._body:
            self.cycle.disconnected = True  # the application would answer, too
            self.cycle.message_event.set()
        self._lingers_until = self.loop.time() + LINGER_TIME
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    @property
    def _has_begun(self) -> bool:
        """Whether a part of a head has come: uvicorn makes a scope at its first byte, and a cycle at its end."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)


def _address(info: Any) -> tuple[str, int] | None:
    """Of IPv4 and IPv6; a Unix socket has none."""
    return (info[0], info[1]) if isinstance(info, tuple) else None
