"""Bodies are read whole, up to a limit, before they take a thread."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from instances import errors

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

#: The headers without which a request has no body.
LENGTHS = {b"content-length", b"transfer-encoding"}


#: A charset that Python knows and that is none (`hex`) would fail inside Django; JSON and forms come in UTF-8 anyway.
_CHARSET = re.compile(rb";\s*charset=[^;]*", re.IGNORECASE)


class TooLarge(Exception):
    """Raised for a body over MAX_BODY_BYTES."""


class BodyLimit:
    """ASGI middleware: answers 413 to a body over MAX_BODY_BYTES, and hands on any other one in one piece.

    WSGI behind it learns the length of a chunked body this way; without one Django would read nothing.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        scope = scope | {"headers": [_without_charset(*header) for header in scope["headers"]]}
        if LENGTHS.isdisjoint(name for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except TooLarge:
            await self._refuse(send)
            return
        if body is None:
            return
        headers = [header for header in scope["headers"] if header[0] not in LENGTHS]
        headers.append((b"content-length", str(len(body)).encode()))
        message = {"type": "http.request", "body": body, "more_body": False}
        messages = iter([message])

        async def receive_whole() -> dict[str, Any]:
            return next(messages, None) or await receive()

        await self.app(scope | {"headers": headers}, receive_whole, send)

    async def _read(self, scope: dict[str, Any], receive: Receive) -> bytes | None:
        """The body, or None when its sender left in the middle of it. Raises TooLarge."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > settings.MAX_BODY_BYTES:
            raise TooLarge
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > settings.MAX_BODY_BYTES:
                raise TooLarge
            if not message.get("more_body", False):
                return bytes(body)

    async def _refuse(self, send: Send) -> None:
        answer = errors.answer(413, ["request entity too large"])
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if settings.CORS_ALLOW_ALL_ORIGINS:
            headers.append((b"access-control-allow-origin", b"*"))
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})


def _without_charset(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, _CHARSET.sub(b"", value) if name == b"content-type" else value
