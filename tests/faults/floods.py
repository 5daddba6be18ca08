"""A client that sends without end, and a bystander that measures the server meanwhile."""

from __future__ import annotations

import http.client
import select
import socket
import statistics
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server import Server


class Bystander:
    """Repeats a request that the event loop answers, while the `with` block runs."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        assert server.process
        self._status = Path(f"/proc/{server.process.pid}/status")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        #: Seconds that each response took.
        self.waits: list[float] = []
        #: Bytes of the server's memory at first, and at most.
        self.memory_before = self.memory = self._memory()

    def _memory(self) -> int:
        (line,) = (line for line in self._status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def _measure(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self._is_over.is_set():
            began = time.monotonic()
            connection.request("GET", "/socket.io/socket.io.js")
            connection.getresponse().read()
            self.waits.append(time.monotonic() - began)
            self.memory = max(self.memory, self._memory())
            time.sleep(0.005)
        connection.close()

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def longest_wait(self) -> float:
        return max(self.waits)

    @property
    def usual_wait(self) -> float:
        return statistics.median(self.waits)

    @property
    def growth(self) -> int:
        """Bytes by which the server's memory grew at most."""
        return self.memory - self.memory_before


@dataclass
class Flood:
    sent: int = 0
    #: The first bytes of the response.
    response: bytes = b""
    #: True once the server closed the connection.
    is_closed: bool = False


def flood(port: int, first: bytes, more: bytes, size: int = 30_000_000, seconds: float = 30) -> Flood:
    """Send `first`, then `more` repeatedly, up to `size` bytes; read until the server closes, for at most `seconds`."""
    seen, deadline = Flood(), time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), 60) as client, suppress(ConnectionError):
        client.sendall(first)
        client.setblocking(False)
        rest = memoryview(b"")
        while (left := deadline - time.monotonic()) > 0:
            readable, writable, _ = select.select([client], [client] if seen.sent < size else [], [], left)
            if readable:
                data = client.recv(65536)
                seen.response = (seen.response + data)[:1000]
                if not data:
                    seen.is_closed = True
                    break
            if writable:
                rest = rest or memoryview(more)
                taken = client.send(rest)
                rest = rest[taken:]
                seen.sent += taken
        return seen
    seen.is_closed = True  # by a reset
    return seen
