"""Limits of request bodies: each is read completely, up to a size and in bounded time, before it takes a thread."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from django.conf import settings

from instances import errors
from instances.asgi import (
    Application,
    BodyTooLarge,
    ClientDisconnected,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
)

#: Headers that announce a body; a request with neither has none (RFC 9112, section 6.3).
BODY_HEADERS = {b"content-length", b"transfer-encoding"}

#: Seconds that a body may pause, and that it may take in addition to the time for its bytes at MIN_RATE.
BODY_PATIENCE = 10

#: Average bytes per second, at least: 16 MB may take a bit more than an hour.
MIN_RATE = 4096

#: Fields of a query string, at most, as in Django (DATA_UPLOAD_MAX_NUMBER_FIELDS): a field costs more than its bytes.
MAX_QUERY_FIELDS = 1000

#: Bytes of a Content-Type, at most: Django's time for its parameters grows with the square of their number.
MAX_CONTENT_TYPE_SIZE = 1024

#: The charset of a Content-Type. It is removed: Django fails on a Python codec that is no charset (`hex`), and JSON and
#: forms are UTF-8 anyway.
_CHARSET = re.compile(rb";\s*charset=[^;]*", re.IGNORECASE)


class Transfer:
    """The progress of bytes in one direction, and the deadline of the next ones. Times are in seconds."""

    def __init__(self, now: float, patience: float) -> None:
        #: Seconds that it may pause, and that it may take in addition to the time for its bytes at MIN_RATE.
        self.patience = patience
        self.began = self.moved_at = now
        #: Bytes transferred so far.
        self.moved = 0

    def move(self, size: int, now: float) -> None:
        self.moved += size
        self.moved_at = now

    @property
    def deadline(self) -> float:
        return self.patience + min(self.moved_at, self.began + self.moved / MIN_RATE)


class BodyLimit:
    """ASGI middleware: responds 413 to a body over MAX_BODY_BYTES, 408 to a body that is too slow and 431 to a
    Content-Type over MAX_CONTENT_TYPE_SIZE, and passes on any other request with its body in one message.

    It adds the length of a chunked body: without a Content-Length Django, behind WSGI, would read nothing.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if sum(len(value) for name, value in scope["headers"] if name == b"content-type") > MAX_CONTENT_TYPE_SIZE:
            await self._refuse(send, 431, f"Content-Type is over {MAX_CONTENT_TYPE_SIZE} bytes")
            return
        scope = scope | {"headers": [_without_charset(*header) for header in scope["headers"]]}
        if BODY_HEADERS.isdisjoint(name for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ClientDisconnected:
            return
        except BodyTooLarge:
            await self._refuse(send, 413, "request entity too large")
            return
        except TimeoutError:
            await self._refuse(send, 408, "The request was not complete in time")
            return
        headers = [header for header in scope["headers"] if header[0] not in BODY_HEADERS]
        headers.append((b"content-length", str(len(body)).encode()))
        message = {"type": "http.request", "body": body, "more_body": False}
        messages = iter([message])

        async def receive_body() -> dict[str, Any]:
            return next(messages, None) or await receive()

        await self.app(scope | {"headers": headers}, receive_body, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body. Raises BodyTooLarge, TimeoutError and ClientDisconnected."""
        # without leading zeros: Python converts no more than 4,300 digits
        announced = dict(scope["headers"]).get(b"content-length", b"0").lstrip(b"0")
        if announced.isdigit() and (len(announced) > 18 or int(announced) > settings.MAX_BODY_BYTES):
            raise BodyTooLarge
        clock = asyncio.get_running_loop().time
        transfer = Transfer(clock(), BODY_PATIENCE)

        async def receive_in_time() -> Message:
            async with asyncio.timeout_at(transfer.deadline):
                message = await receive()
            transfer.move(len(message.get("body", b"")), clock())
            return message

        return await read_body(receive_in_time, max_size=settings.MAX_BODY_BYTES)

    async def _refuse(self, send: Send, status: int, message: str) -> None:
        response = errors.error_response(status, [message])
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await respond(send, status, headers, response.content)


def _without_charset(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, _CHARSET.sub(b"", value) if name == b"content-type" else value
