"""Requests that never end and answers that nobody takes: uvicorn would keep such connections for ever.

`manage.py serve` runs with it; under any other server, a proxy in front has to set such limits. It hands what asks for
a websocket over to realtime/protocol.py.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from instances import errors
from instances.limits import BODY_PATIENCE, Transfer
from realtime import websocket
from realtime.protocol import WebSocketProtocol

#: Seconds that the head of a request may take: from the opening of the connection, or its first byte.
HEAD_TIMEOUT = 10

#: Seconds that the client may take nothing of an answer, and that it may take besides what the bytes need at MIN_RATE.
ANSWER_PATIENCE = 30

#: Seconds between two looks at a connection, and that the application has to answer before the connection ends.
CHECK_INTERVAL = 1


class LimitedProtocol(HttpToolsProtocol):
    """Answers 408 to a request that comes too slowly, and closes; it aborts where no answer can be given."""

    #: Since when a head is awaited; None while there is a body, or nothing, to wait for.
    _head_since: float | None = None
    _body: Transfer | None = None
    #: What the application has written and the client is to take; None while that is little.
    _answer: Transfer | None = None
    #: Bytes that waited to be sent when `_answer` began.
    _unsent = 0
    _checking: asyncio.TimerHandle | None = None
    #: What came last, while it is read.
    _received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        # all that uvicorn does here, but it asks for the addresses by way of a copy of the socket, which costs more
        # than the rest
        self.connections.add(self)
        self.transport, self.flow = transport, FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._head_since = self.loop.time()
        self._checking = self.loop.call_later(CHECK_INTERVAL, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_checking()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """uvicorn would write the request out again, for the websocket's protocol to read it from there."""
        if not self._is_answered:
            self.transport.abort()  # this one's answer would come before the other's
            return
        try:
            accept = websocket.accept(self.scope["method"], self.scope["http_version"], self.headers)
        except websocket.Refused as refusal:
            version = (b"sec-websocket-version: 13",) if refusal.status == 426 else ()
            self._answer_and_close(refusal.status, str(refusal), version)
            return
        self._stop_checking()
        self.connections.discard(self)
        begins_at = sys.exception().args[0]  # type: ignore[union-attr] # HttpParserUpgrade: where the request has ended
        protocol = WebSocketProtocol(self.config, self.server_state, self.app_state)
        self.transport.set_protocol(protocol)
        protocol.open(self.transport, cast(dict[str, Any], self.scope), self.url, accept, self._received[begins_at:])
        self.parser = None  # type: ignore[assignment] # it holds this one, which nobody needs any more

    def _stop_checking(self) -> None:
        if self._checking:
            self._checking.cancel()

    # What comes in

    def data_received(self, data: bytes) -> None:
        # uvicorn's limit for idle connections ends with any byte, also with one that begins no request
        if self._head_since is None and self._body is None and self._is_answered:
            self._head_since = self.loop.time()
        self._received = data
        super().data_received(data)
        self._received = b""

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since, self._body = None, Transfer(self.loop.time(), BODY_PATIENCE)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._body:
            self._body.move(len(body), self.loop.time())
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body = None
        super().on_message_complete()

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
        if self.transport.is_closing() and not self._answer:
            self._await_reader()  # the connection ends once the client has taken what is left
        if self._answer and self._is_taken_too_slowly(self._answer, now):
            self.transport.abort()
        elif not self.transport.is_closing() and self._comes_too_slowly(now):
            self._refuse()

    def _is_taken_too_slowly(self, answer: Transfer, now: float) -> bool:
        taken = self._unsent - self.transport.get_write_buffer_size()
        if taken > answer.moved:
            answer.move(taken - answer.moved, now)
        return now > answer.deadline

    def _comes_too_slowly(self, now: float) -> bool:
        if self._body and self.flow.read_paused:
            self._body = Transfer(now, BODY_PATIENCE)  # the application lets the client wait
        if self._body:
            return now > self._body.deadline + CHECK_INTERVAL
        return self._head_since is not None and now > self._head_since + HEAD_TIMEOUT

    def _refuse(self) -> None:
        """408, where nothing else is written: it would seem a part of another answer, or the answer to what is next."""
        is_begun = self._body is not None and self.cycle.response_started
        if self.pipeline or is_begun or not (self._body or self._is_answered):
            self.transport.abort()
        elif self._body or self._has_begun:
            self._answer_and_close(408, "The request was not complete in time")
        else:
            self.transport.close()

    def _answer_and_close(self, status: int, message: str, more: tuple[bytes, ...] = ()) -> None:
        body = errors.answer(status, [message]).content
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", *more]
        self.transport.write(STATUS_LINE[status] + b"\r\n".join([*headers, b"", body]))
        self.transport.close()

    @property
    def _has_begun(self) -> bool:
        """Whether a part of a head has come: uvicorn makes a scope at its first byte, and a cycle at its end."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)


def _address(info: Any) -> tuple[str, int] | None:
    """Of IPv4 and IPv6; a Unix socket has none."""
    return (info[0], info[1]) if isinstance(info, tuple) else None
