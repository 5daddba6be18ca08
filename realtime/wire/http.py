"""The HTTP protocol class for uvicorn, with limits for requests and for responses that clients do not read.

uvicorn alone would keep such requests and responses for ever. `manage.py serve` runs with this class; under any other
server, a proxy in front has to set these limits. Requests to open a websocket are handed over to
realtime/wire/websocket.py.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from instances import errors
from instances.access.gate import response_headers
from instances.asgi import AsgiHeaders
from instances.bounds import (
    BODY_PATIENCE,
    HEAD_BYTES,
    HEAD_LINES,
    HEAD_SECONDS,
    LINGER_BYTES,
    LINGER_SECONDS,
    RESPONSE_SECONDS,
)
from instances.ingress.transfer import Transfer
from realtime.wire import rfc6455
from realtime.wire.connections import connections
from realtime.wire.turn import turn_of
from realtime.wire.websocket import WebSocketProtocol

#: Bytes that are parsed at once: of a body, and of heads and chunks, which cost far more. A head that begins within a
#: piece is counted from the next piece on.
PIECE_SIZE, SMALL_PIECE_SIZE = 16 * 1024, 2 * 1024

#: Bytes of a chunk, besides its data, that do not count as its extension: the digits of its size and two line ends.
CHUNK_FRAMING = 16

#: Headers that are dropped with an Upgrade that is ignored.
_UPGRADE_HEADERS = {b"upgrade", b"http2-settings"}

#: Seconds between two checks of a connection, and that the application has to respond before the connection ends.
CHECK_INTERVAL = 1


class TooManyLines(Exception):
    """Raised within the parser's callback for headers, to stop the parser."""


class Flow(FlowControl):
    """uvicorn's flow control, which also resumes no reading while bytes are still to be parsed."""

    is_deferred = False

    def resume_reading(self) -> None:
        if not self.is_deferred:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """Responds 408 to a request that is sent too slowly and 431 to one whose head, trailers or chunk extensions are too
    large, and closes; aborts the connection where no response can be sent.
    """

    #: Start of the wait for a head, by the loop's clock; None while a body, or nothing, is expected.
    _head_since: float | None = None
    _body: Transfer | None = None
    #: The transfer of buffered bytes to the client; None while the buffer is small.
    _response: Transfer | None = None
    #: Bytes in the write buffer when `_response` began.
    _unsent = 0
    _check_timer: asyncio.TimerHandle | None = None
    #: Bytes and lines of the current head or, after it, of the trailers and chunk extensions.
    _head_size = _head_lines = 0
    flow: Flow
    #: The latest request that was passed to the application.
    _running: RequestResponseCycle | None = None
    #: Bytes that are parsed later: once earlier requests have their responses, or in another turn of the loop.
    _unparsed: bytes | memoryview = b""
    #: True once the body has a chunk.
    _is_chunked = False
    #: Time at which a refused client is disconnected, by the loop's clock, and bytes received since it was refused.
    _lingers_until: float | None = None
    _dropped = 0
    #: True if the head is a websocket's handshake; None before that was looked at, once all of it has come.
    _is_handshake: bool | None = None
    #: False before the connection is open, once it is lost, and once it is a websocket's.
    _is_counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        # does all that uvicorn's method does, but that reads the addresses from a copy of the socket, which costs more
        # than the rest
        self.connections.add(self)
        self.transport, self.flow = transport, Flow(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._turn = turn_of(self.loop)
        self._head_since = self.loop.time()
        self._check_timer = self.loop.call_later(CHECK_INTERVAL, self._check)
        self._is_counted = True
        if not connections.open(self):
            transport.abort()

    def give_way(self) -> None:
        """Close at once: this process has no room for the connection."""
        self._unparsed = b""  # a request at work may keep this object for a while
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_counted:
            self._is_counted = False
            connections.close(self)
        self._stop_checks()
        super().connection_lost(exc)
        if self._running:  # uvicorn notifies only the last of pipelined requests
            self._running.disconnected = True
            self._running.message_event.set()

    def shutdown(self) -> None:
        if self._lingers_until is None:
            super().shutdown()
        else:
            self.transport.close()

    def _open_websocket(self, early: bytes) -> None:
        """Hand the connection over, with the bytes received after the handshake's head.

        uvicorn would serialize the request again, for the websocket's protocol to parse it a second time.
        """
        if not self._is_idle:
            self.transport.abort()  # the handshake's response would overtake the one before it
            return
        try:
            accept = rfc6455.accept(self.scope["method"], self.scope["http_version"], self.headers)
        except rfc6455.HandshakeError as error:
            version = (b"sec-websocket-version: 13",) if error.status == 426 else ()
            self._respond_and_close(error.status, str(error), version)
            return
        self._stop_checks()
        self.connections.discard(self)
        protocol = WebSocketProtocol(self.config, self.server_state, self.app_state)
        self.transport.set_protocol(protocol)
        self._is_counted, protocol.on_lost = False, connections.hand_over(self)
        protocol.open(self.transport, cast(dict[str, Any], self.scope), self.url, accept, early)
        self.parser = None  # type: ignore[assignment] # it refers to this object, which is to be freed

    def _stop_checks(self) -> None:
        if self._check_timer:
            self._check_timer.cancel()

    # Receiving

    def data_received(self, data: bytes | memoryview) -> None:
        if self._lingers_until is not None:
            self._drop(data)
            return
        if self._unparsed:
            self._unparsed = b"".join((self._unparsed, data))
            self._note_kept()
            return
        self._unset_keepalive_if_required()
        # uvicorn's limit for idle connections ends with any byte, even one that begins no request
        if self._head_since is None and self._body is None and self._is_idle:
            self._head_since = self.loop.time()
        self._parse(data)
        self._note_kept()

    def _note_kept(self) -> None:
        """Note the bytes of an incomplete head, and those that wait for the response to an earlier request."""
        if self._is_counted:
            is_body = self._body is not None and not self.pipeline  # it is charged to the request, once it is parsed
            connections.keep(self, 0 if is_body else self._head_size + len(self._unparsed))

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse piece by piece; keep the rest as bytes while requests are pipelined, or for another turn of the loop.

        A parsed request that waits for its turn takes some eighty times the memory of its bytes.
        """
        start = self._parse_piece(data, 0)
        while start < len(data) and not self.pipeline and not self._turn.is_over:
            start = self._parse_piece(data, start)
        # a copy in each turn would be quadratic; an empty view would keep all of the data
        self._unparsed = memoryview(data)[start:] if start < len(data) else b""
        if self._unparsed:
            self.flow.pause_reading()
            self.flow.is_deferred = True
            if not self.pipeline:
                self.loop.call_soon(self._parse_rest)

    def _parse_piece(self, data: bytes | memoryview, start: int) -> int:
        """Parse the next piece. Returns its end or, where no more is to be parsed, the end of the data."""
        # no byte of a head beyond its limit is parsed; in a body, pieces as small as the limit leaves would be too many
        size = min(SMALL_PIECE_SIZE, HEAD_BYTES - self._head_size)
        if self._body is not None:
            size = SMALL_PIECE_SIZE if self._is_chunked else PIECE_SIZE
        piece = data if start == 0 and len(data) <= size else memoryview(data)[start : start + size]
        self._head_size += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            return self._end_head(data, start + upgrade.args[0])
        except httptools.HttpParserError:
            self._refuse_malformed()
            return len(data)
        self._head_size = max(0, self._head_size)
        if self._head_size >= HEAD_BYTES:
            self._refuse_large()
            return len(data)
        return start + len(piece)

    def _end_head(self, data: bytes | memoryview, end: int) -> int:
        """Open a websocket, or ignore the Upgrade header of the head that ends at `end`.

        Returns the end of what is parsed.
        """
        if self._should_upgrade():
            self._open_websocket(bytes(data[end:]))
            return len(data)
        try:
            self._parse_without_upgrade()
        except httptools.HttpParserError:
            self._refuse_malformed()
            return len(data)
        return end

    def _parse_without_upgrade(self) -> None:
        """Parse the head again as if it had no Upgrade: httptools reads no body after one."""
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%b: %b" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        self.parser = new_parser(self)
        self.parser.feed_data(b"\r\n".join([first, *lines, b"", b""]))

    def _refuse_malformed(self) -> None:
        if self._head_lines > HEAD_LINES:
            self._refuse_large()
        else:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(400, "The request is not valid HTTP/1.1: see RFC 9112")

    def _parse_rest(self) -> None:
        if self._unparsed and not self.transport.is_closing():
            data, self._unparsed = self._unparsed, b""
            self.flow.is_deferred = False
            self.flow.resume_reading()
            self.data_received(data)

    def _drop(self, data: bytes | memoryview) -> None:
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self.transport.abort()

    @property
    def _is_idle(self) -> bool:
        """True while no request waits for its response."""
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        self._head_since, self._is_handshake = self.loop.time(), None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines += 1
        if self._head_lines > HEAD_LINES:
            raise TooManyLines
        if self._body is None:  # a trailer is no header: RFC 9110, section 6.5.1
            super().on_header(name, value)

    def _should_upgrade(self) -> bool:
        """Return whether the head is a websocket's handshake, be it a valid one; any other Upgrade is ignored.

        RFC 9110, section 7.8: a server may ignore the header. Proxies add it to requests that are no handshakes.
        """
        if self._is_handshake is None:
            names = {name for name, _ in self.headers}
            self._is_handshake = (
                not names.isdisjoint((b"sec-websocket-key", b"sec-websocket-version"))
                and b"websocket" in _tokens(self.headers, b"upgrade")
                and b"upgrade" in _tokens(self.headers, b"connection")
            )
        return self._is_handshake

    @property
    def _is_parsed_again(self) -> bool:
        """True for a head with an Upgrade that is ignored; one for CONNECT is refused by uvicorn: it has no path."""
        is_connect = self.parser.get_method() == b"CONNECT"
        return self.parser.should_upgrade() and not is_connect and not self._should_upgrade()

    def on_headers_complete(self) -> None:
        self._head_size = self._head_lines = 0
        if self._is_parsed_again:
            return
        super().on_headers_complete()  # raises an exception for a malformed URL: then no body is expected
        self._head_since, self._body = None, Transfer(self.loop.time(), BODY_PATIENCE)
        if not self._has_begun:
            self.url = b""  # it is in the scope, where the application can drop it

    def on_body(self, body: bytes) -> None:
        self._head_size -= len(body)
        if self._body:
            self._body.move(len(body), self.loop.time())
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        self._is_chunked = True
        self._head_size -= CHUNK_FRAMING

    def on_message_complete(self) -> None:
        if self._is_parsed_again:
            return
        self._head_size = self._head_lines = 0
        self._body, self._is_chunked = None, False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        connections.begin(self)
        self._turn.start(partial(super()._start_asgi_task, cycle, app))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_idle and self._is_counted:
            connections.end(self)
        if self._unparsed and not self.pipeline:
            self.loop.call_soon(self._parse_rest)

    # Sending

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_response_transfer()

    def resume_writing(self) -> None:
        self._response = None
        super().resume_writing()

    def _start_response_transfer(self) -> None:
        self._response = Transfer(self.loop.time(), RESPONSE_SECONDS)
        self._unsent = self.transport.get_write_buffer_size()

    # Limits

    def _check(self) -> None:
        self._check_timer = self.loop.call_later(CHECK_INTERVAL, self._check)
        now = self.loop.time()
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.transport.abort()
            return
        if self.transport.is_closing() and not self._response:
            self._start_response_transfer()  # the connection ends once the client has read the rest
        if self._response and self._is_read_too_slowly(self._response, now):
            self.transport.abort()
        elif not self.transport.is_closing() and self._is_sent_too_slowly(now):
            self._refuse(408, "The request was not complete in time")

    def _is_read_too_slowly(self, response: Transfer, now: float) -> bool:
        sent = self._unsent - self.transport.get_write_buffer_size()
        if sent > response.moved:
            response.move(sent - response.moved, now)
        return now > response.deadline

    def _is_sent_too_slowly(self, now: float) -> bool:
        if self.flow.read_paused:  # the application makes the client wait
            self._body = Transfer(now, BODY_PATIENCE) if self._body else None
            self._head_since = now if self._head_since is not None else None
        if self._body:
            return now > self._body.deadline + CHECK_INTERVAL
        return self._head_since is not None and now > self._head_since + HEAD_SECONDS

    def _refuse_large(self) -> None:
        too_large = "head is" if self._body is None else "trailers and chunk extensions are"
        self._refuse(431, f"The request's {too_large} over {HEAD_BYTES // 1024} KiB or {HEAD_LINES} lines")

    def _refuse(self, status: int, message: str) -> None:
        """Respond and close; abort where it would seem a part of another response, or one to a later request."""
        is_begun = self._body is not None and self.cycle.response_started
        if self.pipeline or is_begun or not (self._body or self._is_idle):
            self.transport.abort()
        elif self._body or self._has_begun:
            self._respond_and_close(status, message)
        else:
            self.transport.close()

    def _respond_and_close(self, status: int, message: str, more: tuple[bytes, ...] = ()) -> None:
        body = errors.error_response(status, [message]).content
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", *more]
        origin = AsgiHeaders(self.headers or ()).get("origin")  # as far as the head was received
        headers += [b"%b: %b" % header for header in response_headers("GET", "/", origin)]
        self.transport.write(STATUS_LINE[status] + b"\r\n".join([*headers, b"", body]))
        if self._body:
            self.cycle.disconnected = True  # or the application would respond, too
            self.cycle.message_event.set()
        if self._is_counted:
            connections.end(self)
        # closing with unread data would reset the connection, and the client might lose the response
        self._lingers_until = self.loop.time() + LINGER_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    @property
    def _has_begun(self) -> bool:
        """True once a part of a head was received: uvicorn makes a scope at its first byte, and a cycle at its end."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """Return a parser with the leniency that uvicorn sets: data after a request with `Connection: close` is ignored."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _tokens(headers: list[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    """Return the comma-separated tokens of all headers of a name, in lower case."""
    values = (value.lower() for given, value in headers if given == name)
    return {token.strip() for value in values for token in value.split(b",")}


def _address(info: Any) -> tuple[str, int] | None:
    """Return host and port, for IPv4 and IPv6; None for a Unix socket."""
    return (info[0], info[1]) if isinstance(info, tuple) else None
