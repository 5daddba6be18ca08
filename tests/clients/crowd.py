"""Many lightweight websocket clients in one thread; each reconnects and recovers, as the stock client does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

#: Minimum and maximum of the seconds before a client reconnects, as of the stock client.
RECONNECTION_DELAY = (0.5, 1.5)


class CrowdClient(asyncio.Protocol):
    """A Socket.IO client of one namespace, with all of its connections in turn."""

    transport: asyncio.Transport

    def __init__(self, crowd: Crowd, namespace: str, auth: dict[str, Any]) -> None:
        self.crowd, self.namespace, self.auth = crowd, namespace, auth
        #: The `number` in the data of each received event.
        self.received: list[int] = []
        #: For each CONNECT, True if the server recovered the connection state.
        self.recovered: list[bool] = []
        self.connect_errors: list[str] = []
        self.is_joined = False
        self._pid: str | None = None
        self._offset: str | None = None
        self._buffer = bytearray()
        self._is_upgraded = False

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        address = urlsplit(self.crowd.url)
        self._buffer.clear()
        self._is_upgraded = False
        try:
            await loop.create_connection(lambda: self, address.hostname, address.port)
        except OSError:
            self._reconnect_later()

    def _reconnect_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(random.uniform(*RECONNECTION_DELAY), lambda: self.crowd.spawn(self.connect()))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.is_joined = False
        if not self.crowd.is_leaving:
            self._reconnect_later()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert b" 101 " in head, head
            self._buffer, self._is_upgraded = rest, True
        while (packet := self._next_frame()) is not None:
            self._handle(packet)

    def _next_frame(self) -> str | None:
        """Return the next complete text frame; servers never mask frames, and this one never fragments them."""
        if len(self._buffer) < 4:
            return None
        size, at = self._buffer[1], 2
        if size == 126:
            (size,), at = struct.unpack_from("!H", self._buffer, 2), 4
        elif size == 127:
            if len(self._buffer) < 10:
                return None
            (size,), at = struct.unpack_from("!Q", self._buffer, 2), 10
        if len(self._buffer) < at + size:
            return None
        is_text = self._buffer[0] & 0xF == 1
        payload = bytes(self._buffer[at : at + size])
        del self._buffer[: at + size]
        return payload.decode() if is_text else ""

    def _handle(self, packet: str) -> None:
        if packet == "2":
            self._send("3")
        elif packet.startswith("0"):
            recovery = {"pid": self._pid, "offset": self._offset} if self._pid else {}
            self._send(f"40{self.namespace},{json.dumps(self.auth | recovery)}")
        elif packet.startswith("40"):
            pid = json.loads(packet[packet.index("{") :]).get("pid")
            self.recovered.append(pid is not None and pid == self._pid)
            self._pid, self.is_joined = pid, True
        elif packet.startswith("42"):
            _, event, *offset = json.loads(packet[packet.index("[") :])
            self._offset = offset[0] if offset else None
            self.received.append(event["data"].get("number"))
        elif packet.startswith("44"):
            self.connect_errors.append(packet)

    def _send(self, packet: str) -> None:
        payload = packet.encode()
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self.transport.write(b"\x81" + size + b"\0\0\0\0" + payload)


class Crowd:
    """A context manager of clients: `count` of each namespace, all with the same `auth`."""

    def __init__(self, url: str, namespaces: str | Sequence[str], count: int, **auth: Any) -> None:
        self.url = url
        names = [namespaces] if isinstance(namespaces, str) else namespaces
        self.clients = [CrowdClient(self, name, auth) for name in names for _ in range(count)]
        self.is_leaving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._connect(), self._loop)
        return self

    def __exit__(self, *error: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _connect(self) -> None:
        for client in self.clients:
            self.spawn(client.connect())

    def spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self) -> None:
        self.is_leaving = True
        for task in list(self._tasks):
            task.cancel()
        for client in self.clients:
            if hasattr(client, "transport"):
                client.transport.abort()
        await asyncio.sleep(0)  # lets the transports call connection_lost

    def count(self, condition: Callable[[CrowdClient], Any]) -> int:
        return sum(1 for client in self.clients if condition(client))

    def wait_for(self, condition: Callable[[CrowdClient], Any], count: int | None = None, timeout: float = 40) -> None:
        """Wait until the condition is true of `count` clients, by default of all."""
        wanted = len(self.clients) if count is None else count
        deadline = time.monotonic() + timeout
        while (true := self.count(condition)) < wanted:
            assert time.monotonic() < deadline, f"True of {true} clients out of {wanted}"
            time.sleep(0.02)
