"""What uvicorn knows of a websocket's transport and ASGI does not tell. The only file that knows uvicorn's insides.

`manage.py serve` runs with it; under any other server the extension is missing, and a stuck client is dropped by
Engine.IO's heartbeat and TCP's own patience.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: The name of our extension in `scope["extensions"]`.
EXTENSION = "evoapi.transport"


class Link:
    """A websocket's transport, for the one thing that cannot be said in ASGI."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    def reset(self) -> None:
        """End the connection at once with RST. Without it the kernel keeps what it could not send for many minutes."""
        transport = self._protocol.transport
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError, ValueError):  # it is closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class LendingProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        lent: Any = {EXTENSION: Link(self)}
        self.scope["extensions"] = {**(self.scope["extensions"] or {}), **lent}
        await super().run_asgi()
