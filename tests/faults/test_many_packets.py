"""As many packets as fit into one request: the event loop turns meanwhile, and nothing after a bad one is handled."""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from tests.faults.stuck import StuckReader

pytestmark = pytest.mark.any_database

#: Seconds that others may wait on a slow machine. Handled in one piece, all of these take longer on a fast one.
PATIENCE = 0.8

TEXT, PING = 1, 9

#: The first octet of one; no other that the server sends here has it.
CLOSE_FRAME = b"\x88"


@contextmanager
def others_served(server):
    """Requests that are answered on the event loop, one after another; none may wait for long."""
    is_over, waits = threading.Event(), []

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not (waits and is_over.wait(0.005)):
            began_at = time.monotonic()
            connection.request("GET", "/socket.io/?EIO=4&transport=none")
            assert connection.getresponse().read()
            waits.append(time.monotonic() - began_at)
        connection.close()

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask)
        try:
            yield
        finally:
            is_over.set()
            asking.result(60)
    assert max(waits) < PATIENCE


def frames(opcode, *payloads):
    """A client's frames, to be sent in one piece."""
    return b"".join(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload.encode() for payload in payloads)


# The loop turns


@pytest.mark.parametrize(("opcode", "payload"), [(PING, "")], ids=["ping"])
def test_frames_that_come_together_hold_up_nobody(server, opcode, payload):
    sent = frames(opcode, *[payload] * 30_000) + frames(TEXT, "9")

    def send(client):
        with suppress(OSError):  # it is closed after a bad one
            client.socket.sendall(sent)
            while (data := client.socket.recv(65536)) and CLOSE_FRAME not in data:
                pass
        client.close()

    clients = [StuckReader(server.port) for _ in range(4)]
    with others_served(server), ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(send, clients))
