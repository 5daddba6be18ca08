"""HTTP connections to receivers that may hang, send too much, or send responses that no request asked for.

Classes of aiohttp (3.14) are extended here where it has no option. What they use beyond its documentation:

- `TCPConnector._factory`, which makes the protocol of a connection: it makes a `Protocol`. Without it, no limit below
  applies, and a connection is reused with bytes on it that are no response to the next event.
- `ResponseHandler.set_response_params`, `read`, `data_received`, `is_connected`, `should_close` and `force_close`:
  aiohttp calls the first before each request, the second for each response of it, interim ones included, and the
  fourth before it reuses a connection.
- `ResponseHandler.feed_data`, which is called for each head once it is parsed, and `exception`, which is set once bytes
  are no HTTP. Without them, a success is lost with bytes that follow it in the same piece.
- `ClientResponse.start`, which is called when the request is under way, and `ClientResponse._writer`, the task that
  sends the body. Without it, a success counts that was sent before the event was received.

tests/realtime/delivery/transports/test_connections.py fails with a sentence for each that is not there any more.
"""

from __future__ import annotations

import asyncio
import functools
import select
import socket
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from instances.outbound import ssrf_guard

#: Seconds for which a connection waits for the next event. Many receivers close theirs after five, and one that is
#: closed while an event is sent on it costs an attempt.
KEEP_ALIVE = 4
#: Statuses of redirects that an endpoint may have followed: they ask for a GET of another URL.
FOLLOWED = frozenset((302, 303))
#: Responses that are read for one request, at most: the final one, and interim ones (1xx) before it.
MAX_RESPONSES = 16
#: Bytes that are received for one request, however few of them are the response's body.
MAX_RECEIVED = 2 * 1024 * 1024
#: Bytes that the kernel buffers of a connection (Linux doubles it); they are read, and parsed, in one piece.
RECEIVE_BUFFER = 16 * 1024

#: The argument of aiohttp's socket factories: family, type, protocol, canonical name and address.
AddressInfo = tuple[Any, ...]


#: Functions that make a connector: those of the SSRF guard.
NewConnector = Callable[..., aiohttp.TCPConnector]


def new_session(is_trusted: bool) -> aiohttp.ClientSession:
    """Return a session; unless `is_trusted`, it connects to public addresses only."""
    return session_with(ssrf_guard.trusting_connector if is_trusted else ssrf_guard.connector)


def session_with(connector: NewConnector) -> aiohttp.ClientSession:
    """Return a session that sends no cookies, and no proxies or passwords of the environment.

    It limits neither time nor the number of connections: the transport and the dispatcher do.
    """
    return aiohttp.ClientSession(
        connector=connector(Connector, limit=0, keepalive_timeout=KEEP_ALIVE),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        response_class=WebhookResponse,
        auto_decompress=False,
        trust_env=False,
    )


class Connector(aiohttp.TCPConnector):
    """Makes connections with a `Protocol` and a small receive buffer."""

    def __init__(self, socket_factory: Callable[[AddressInfo], socket.socket] | None = None, **options: Any) -> None:
        super().__init__(socket_factory=functools.partial(_with_small_buffer, socket_factory), **options)
        self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment]


def _with_small_buffer(factory: Callable[[AddressInfo], socket.socket] | None, info: AddressInfo) -> socket.socket:
    """Return a new socket with RECEIVE_BUFFER."""
    opened = factory(info) if factory else socket.socket(*info[:3])
    # before it connects: the size is announced to the peer then
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return opened


class Protocol(ResponseHandler):
    """A connection, which limits the responses to a request and is reused only if nothing else was received on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._is_used = False
        self._received = self._responses = 0
        #: The payload of the final response, once its head is parsed.
        self._content: aiohttp.StreamReader | None = None
        #: True once bytes were received after the head of a final response that are not what it announced.
        self.is_garbled = False
        #: The task that sends the body of the request; None if the body is sent, or there is none.
        self.upload: asyncio.Task[None] | None = None

    def set_response_params(self, **options: Any) -> None:
        """Start a request."""
        self._is_used, self._received, self._responses, self.upload = True, 0, 0, None
        self._content, self.is_garbled = None, False
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            cast(asyncio.Transport, self.transport).abort()  # the reader gets a ClientPayloadError
            return
        # line by line up to the end of the head: a piece that turns out to be no HTTP takes a head in it along
        while data and self._content is None and self.exception() is None:
            end = data.find(b"\n") + 1 or len(data)
            super().data_received(data[:end])
            data = data[end:]
        if data and self.exception() is None:
            super().data_received(data)
        if self._content is not None and isinstance(self.exception(), HttpProcessingError):
            self.is_garbled = True
            if not self._content.is_eof():  # aiohttp would let its reader wait
                self._content.feed_eof()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take the head of a response, and its payload."""
        message, content = data
        if message.code == 101 or not 100 <= message.code < 200:
            self._content = content
        announced = message.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in message.headers
        if message.code == 204 and announced:
            self.force_close()  # a body follows all the same, and must not become the next response
        super().feed_data(data, size)

    async def read(self) -> Any:
        """Return the next response, also an interim one, and its payload; a success or redirect when the body is sent.

        aiohttp stops sending when it has a final response, and a receiver may respond before it has read the event.
        Raises ClientPayloadError after MAX_RESPONSES.
        """
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise aiohttp.ClientPayloadError("Too many interim responses")
        message, payload = await super().read()
        is_success, is_interim = 200 <= message.code < 300, 100 <= message.code < 200 and message.code != 101
        if self.upload is not None and (is_success or message.code in FOLLOWED):
            await asyncio.wait([self.upload])
        if not is_success and not is_interim:
            # a success that is sent after it must not become the response to the next event
            self.force_close()
        return message, payload

    def is_connected(self) -> bool:
        """True if the connection can be used; bytes received after a response are no response to the next event."""
        return super().is_connected() and not (self._is_used and (self.should_close or self._is_readable()))

    def _is_readable(self) -> bool:
        """True if the kernel has bytes, or the end, that the event loop has not read yet."""
        poll = select.poll()
        poll.register(cast(asyncio.Transport, self.transport).get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


class WebhookResponse(aiohttp.ClientResponse):
    """A response, whose connection waits for the body of the request to be sent."""

    _received_by: Protocol

    @property
    def is_garbled(self) -> bool:
        """True once bytes were received after its head that are not what it announced."""
        return self._received_by.is_garbled

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        self._received_by = connection.protocol
        self._received_by.upload = self._writer
        return await super().start(connection)
