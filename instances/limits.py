"""Bodies are read whole, up to a limit, before they take a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from instances import errors

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

#: The headers without which a request has no body.
LENGTHS = {b"content-length", b"transfer-encoding"}


class BodyLimit:
    """ASGI middleware: answers 413 to a body over MAX_BODY_BYTES, and hands on any other one in one piece.

    WSGI behind it learns the length of a chunked body this way; without one Django would read nothing.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if LENGTHS.isdisjoint(name for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        body = await self._read(scope, receive)
        if body is None:
            await self._refuse(send)
            return
        headers = [
            (name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")
        ]
        headers.append((b"content-length", str(len(body)).encode()))
        message = {"type": "http.request", "body": body, "more_body": False}
        messages = iter([message])

        async def receive_whole() -> dict[str, Any]:
            return next(messages, None) or await receive()

        await self.app(scope | {"headers": headers}, receive_whole, send)

    async def _read(self, scope: dict[str, Any], receive: Receive) -> bytes | None:
        """The body, or None when it is too large."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > settings.MAX_BODY_BYTES:
            return None
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > settings.MAX_BODY_BYTES:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    async def _refuse(self, send: Send) -> None:
        answer = errors.answer(413, ["request entity too large"])
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})
