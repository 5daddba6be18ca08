"""ASGI's types, and helpers for ASGI applications: https://asgi.readthedocs.io/en/latest/specs/www.html."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
#: Names in lower case, as ASGI requires, and values.
Headers = Iterable[tuple[bytes, bytes]]


class ClientDisconnected(Exception):
    """Raised when a client has disconnected before its request was complete."""


#: Bytes of a piece of a body below which the next one is added to it, and of a body from which its pieces are joined in
#: a thread.
SMALL, LARGE = 16 * 1024, 1024 * 1024


class BodyTooLarge(Exception):
    """Raised for a request body over the limit."""


async def read_body(receive: Receive, first: Message | None = None, max_size: int | None = None) -> bytes:
    """Return the complete body of a request; `first` is a message that was received already.

    Raises ClientDisconnected, and BodyTooLarge beyond `max_size` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    message = first or await receive()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        piece = message.get("body", b"")
        size += len(piece)
        if pieces and len(pieces[-1]) < SMALL:  # an object for each byte would take 40 times its memory
            pieces[-1] += piece
        else:
            pieces.append(piece)
        if max_size is not None and size > max_size:
            raise BodyTooLarge
        if not message.get("more_body", False):
            if len(pieces) == 1 or size < LARGE:
                return b"".join(pieces)
            # many large bodies may be complete in one turn of the event loop; `join` releases the GIL from 1 MB on
            return await asyncio.to_thread(b"".join, pieces)
        message = await receive()


def peer_of(scope: Scope) -> str:
    """Return the IP address of the TCP peer, "" where the server does not know it."""
    return scope["client"][0] if scope.get("client") else ""


#: Bytes of a response that are sent at a time: the server lets a slow reader have the rest later.
PIECE = 64 * 1024


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a complete response. Returns once the client has taken all but the last PIECE, or has disconnected."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    start = 0
    while len(body) - start > PIECE:
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
        start += PIECE
    await send({"type": "http.response.body", "body": body[start:]})


def header_variables(headers: Headers, encoding: str = "latin-1") -> dict[str, str]:
    """Return headers by their names in a WSGI `environ` (PEP 3333), the values of one name joined by commas.

    Headers that do not decode in this encoding are left out. So are names with an underscore, as in most servers:
    `X_Forwarded_For` would become the variable of `X-Forwarded-For`, which a proxy sets.
    """
    values: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        if b"_" in raw_name:
            continue
        try:
            name, value = raw_name.decode(encoding).upper().replace("-", "_"), raw_value.decode(encoding)
        except UnicodeDecodeError:
            continue
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        values.setdefault(name, []).append(value)
    return {name: ",".join(each) for name, each in values.items()}


@lru_cache(maxsize=256)
def _encoded(name: str) -> bytes:
    """Return the name of a header as ASGI has it."""
    return name.lower().encode("latin-1", "replace")


class AsgiHeaders(Mapping[str, str]):
    """The headers of an ASGI scope, by case-insensitive name; only a few are read, so none is parsed in advance."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        wanted = _encoded(name)  # Mapping's method would raise and catch an exception for each absent header
        values = [value for each, value in self._pairs if each == wanted]
        if not values:
            return default
        return (values[0] if len(values) == 1 else b",".join(values)).decode("latin-1")

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})
