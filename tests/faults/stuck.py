"""A websocket client that reads only when it is asked to, on a socket with hardly any buffer."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from typing import Any


class StuckReader:
    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.socket.recv(4096)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def send(self, text: str) -> None:
        payload = text.encode()
        assert len(payload) < 65536
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + payload)

    def join(self, namespace: str, **auth: Any) -> None:
        self.send(f"40{namespace},{json.dumps(auth)}")
        while not self.packet().startswith("40"):
            pass

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def packet(self) -> str:
        """Return the next Engine.IO packet that is no heartbeat."""
        while True:
            opcode, size = self._take(2)
            if size == 126:
                (size,) = struct.unpack("!H", self._take(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._take(8))
            payload = self._take(size)
            if opcode & 0xF == 8:
                raise ConnectionError("closed")
            if payload == b"2":
                self.send("3")
            else:
                return payload.decode()

    def event(self) -> Any:
        """Return the next event's first argument."""
        while not (packet := self.packet()).startswith("42"):
            pass
        return json.loads(packet[packet.index("[") :])[1]

    def close(self) -> None:
        self.socket.close()
