"""Requests of many strangers at once, or many requests of one connection: the event loop turns between them."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.faults.floods import Bystander

pytestmark = pytest.mark.any_database

GET = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /webhook/meta HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

#: What each of many connections sends in one piece.
FLOODS = {
    "pipelined requests": SHORT * 4000,
    "pipelined handshakes": GET * 1500,
    "chunks of one byte": CHUNKED + b"1\r\n \r\n" * 16_000,
    "chunk extensions": CHUNKED + (b"1;" + b"a" * 100 + b"\r\n \r\n") * 600,
    "lines": b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 199,
    "a long path": b"GET /" + b"a" * 65_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_many_connections_delay_nobody(server, kind):
    def flood(_):
        with socket.create_connection(("127.0.0.1", server.port), 20) as client, suppress(OSError):
            client.settimeout(2)
            client.sendall(FLOODS[kind])
            deadline = time.monotonic() + 2
            while client.recv(65536) and time.monotonic() < deadline:
                pass

    with Bystander(server) as bystander, ThreadPoolExecutor(40) as threads:
        list(threads.map(flood, range(40)))
    assert bystander.growth < 50_000_000


@pytest.mark.bound("LIMIT_STARTS_PER_TURN")
@pytest.mark.parametrize("request_", [GET, UPGRADE], ids=["polling", "websocket"])
def test_requests_that_are_complete_at_the_same_time_delay_nobody(server, request_):
    clients = []
    for _ in range(600):
        clients.append(socket.create_connection(("127.0.0.1", server.port), 20))
        clients[-1].sendall(request_[:-1])
    time.sleep(0.5)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: [client.sendall(request_[-1:]) for client in clients]).result()
    for client in clients:
        assert client.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 101")
        client.close()
