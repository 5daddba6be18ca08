"""A Socket.IO client that sends raw packets over a websocket, for packets that no library sends."""

from __future__ import annotations

import json
import struct
from contextlib import ExitStack
from typing import Any

from websockets.sync.client import connect


class Raw:
    """An Engine.IO session over a websocket."""

    def __init__(self, url: str, **options: Any) -> None:
        address = f"{url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
        self._open = ExitStack()
        self.socket = self._open.enter_context(connect(address, **options))
        self.handshake = json.loads(self._receive()[1:])

    def _receive(self, timeout: float = 10) -> str:
        while (packet := self.socket.recv(timeout)) == "2":
            self.socket.send("3")
        assert isinstance(packet, str)
        return packet

    def join(self, namespace: str, auth: Any = None) -> tuple[str, Any]:
        """Send a CONNECT packet; returns the type ("0" CONNECT, "4" CONNECT_ERROR) and data of the reply."""
        body = "" if auth is None else json.dumps(auth)
        self.socket.send(f"40{namespace},{body}" if namespace != "/" else f"40{body}")
        packet = self._receive()
        return packet[1], json.loads(packet[packet.index("{") :])

    def event(self, timeout: float = 10) -> list[Any]:
        """Wait for the next event; returns its name and arguments."""
        packet = self._receive(timeout)
        assert packet.startswith("42"), packet
        return json.loads(packet[packet.index("[") :])

    def begin_message(self, size: int, data: bytes) -> None:
        """Send the head of a message of so many bytes, and its first ones."""
        self.socket.socket.sendall(b"\x81\xff" + struct.pack("!Q", size) + bytes(4) + data)

    def close(self) -> None:
        self._open.close()
