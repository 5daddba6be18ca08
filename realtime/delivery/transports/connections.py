"""HTTP connections to receivers, of which some hang, lie, or never end. What aiohttp leaves open is closed here."""

from __future__ import annotations

import asyncio
import functools
import select
import socket
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from instances.outbound import ssrf_guard

#: Seconds for which a connection waits for the next event. Many receivers close theirs after five, and one that is
#: closed while an event goes out on it costs an attempt.
KEEP_ALIVE = 4
#: Interim answers ("still at it", 1xx) that are read before the one that counts.
MAX_INTERIM = 16
#: Bytes that are read for one answer, however little of them is its body.
MAX_RECEIVED = 2 * 1024 * 1024
#: Bytes that a connection receives while nobody reads (Linux doubles it). They are read, and parsed, in one piece.
RECEIVE_BUFFER = 16 * 1024

#: What aiohttp makes a socket of: family, type, protocol, name and address.
Info = tuple[Any, ...]


def new_session(is_trusted: bool) -> aiohttp.ClientSession:
    """Nothing but what is given goes out: no cookies, no proxies and no passwords from the environment.

    How many connections there are is for those to say who send.
    """
    connector = ssrf_guard.trusting_connector if is_trusted else ssrf_guard.connector
    return aiohttp.ClientSession(
        connector=connector(Connector, limit=0, keepalive_timeout=KEEP_ALIVE),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # whoever sends has one for all of it
        response_class=Response,
        auto_decompress=False,
        trust_env=False,
    )


class Connector(aiohttp.TCPConnector):
    def __init__(self, socket_factory: Callable[[Info], socket.socket] | None = None, **options: Any) -> None:
        super().__init__(socket_factory=functools.partial(_with_small_buffer, socket_factory), **options)
        self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment]


def _with_small_buffer(factory: Callable[[Info], socket.socket] | None, info: Info) -> socket.socket:
    """Makes a socket with RECEIVE_BUFFER."""
    opened = factory(info) if factory else socket.socket(*info[:3])
    # before it connects, because then its size is told to the other side
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return opened


class Protocol(ResponseHandler):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._is_used = False
        self._received = 0

    def set_response_params(self, **options: Any) -> None:
        self._is_used, self._received = True, 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= MAX_RECEIVED:
            ResponseHandler.data_received(self, data)  # not by super(): it is called for every answer
        else:
            cast(asyncio.Transport, self.transport).abort()  # whoever reads is told that it broke off

    def is_connected(self) -> bool:
        """Asked before it is used again: whatever came after an answer is no answer to the next event."""
        return super().is_connected() and not (self._is_used and (self.should_close or self._is_readable()))

    def _is_readable(self) -> bool:
        """Whether the kernel has something, or the end, that the event loop has not seen yet."""
        poll = select.poll()
        poll.register(cast(asyncio.Transport, self.transport).get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


class Response(aiohttp.ClientResponse):
    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """As aiohttp's, but not for as many interim answers as a receiver likes to send.

        A success is looked at when the event was sent whole: aiohttp's ends the sending with the answer.
        """
        protocol = cast(Protocol, connection.protocol)
        read, left = protocol.read, MAX_INTERIM

        async def read_few() -> Any:
            nonlocal left
            if (left := left - 1) < 0:
                raise aiohttp.ClientPayloadError("Too many interim responses")
            message, payload = await read()
            if 200 <= message.code < 300 and self._writer is not None:
                await asyncio.wait([self._writer])
            return message, payload

        protocol.read = read_few  # type: ignore[method-assign]
        try:
            started = await super().start(connection)
        finally:
            del protocol.read
        if not 200 <= started.status < 300:
            # a success that it sends after that must not become the answer to the next event
            protocol.force_close()
        return started
