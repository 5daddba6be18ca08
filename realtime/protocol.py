"""What uvicorn knows of a websocket's transport and ASGI does not tell. The only file that knows uvicorn's insides.

`manage.py serve` runs with it. Under any other server the extension is missing: then all goes the way of ASGI, more
slowly, and a stuck client is dropped by Engine.IO's heartbeat and TCP's own patience.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: The name of our extension in `scope["extensions"]`.
EXTENSION = "evoapi.transport"


class Link:
    """A websocket's transport, for what cannot be said in ASGI."""

    __slots__ = ("_protocol", "is_paused", "on_resume")

    def __init__(self, protocol: LendingProtocol) -> None:
        self._protocol = protocol
        #: Whether the transport holds more than it likes to.
        self.is_paused = False
        #: Called when it does not any more.
        self.on_resume: Callable[[], None] = lambda: None

    def write(self, frames: bytes) -> None:
        """Send whole frames (RFC 6455); without effect once the connection closes."""
        protocol = self._protocol
        if not protocol.close_sent and not protocol.transport.is_closing():
            protocol.transport.write(frames)

    def reset(self) -> None:
        """End the connection at once with RST. Without it the kernel keeps what it could not send for many minutes."""
        transport = self._protocol.transport
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError, ValueError):  # it is closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class LendingProtocol(WebSocketsSansIOProtocol):
    link: Link | None = None

    async def run_asgi(self) -> None:
        if not self.conn.extensions:  # one that compresses frames must see them all
            self.link = Link(self)
            lent: Any = {EXTENSION: self.link}
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), **lent}
        await super().run_asgi()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.link:
            self.link.is_paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.link:
            self.link.is_paused = False
            self.link.on_resume()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.link:
            self.link.on_resume = lambda: None  # it holds the session, which holds the link
