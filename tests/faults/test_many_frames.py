"""Websocket frames that cost a client nothing, by the hundred thousand: the event loop turns between them."""

from __future__ import annotations

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.faults.floods import Bystander
from tests.faults.stuck import StuckReader
from tests.server import Server

pytestmark = pytest.mark.any_database

CONTINUATION, TEXT, PING, PONG, FIN = 0, 1, 9, 10, 0x80


def frame(first, payload=b""):
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([first]) + size + b"\0\0\0\0" + payload


#: What a flood begins with, and what it repeats.
FLOODS = {
    "empty continuations": (frame(TEXT), frame(CONTINUATION)),
    "continuations of one byte": (frame(TEXT), frame(CONTINUATION, b"a")),
    "pings": (b"", frame(FIN | PING)),
    "pongs": (b"", frame(FIN | PONG, b"a" * 125)),
    "pings between continuations": (frame(TEXT), frame(CONTINUATION) + frame(FIN | PING)),
    "heartbeats": (b"", frame(FIN | TEXT, b"3")),
    "acknowledgements": (b"", frame(FIN | TEXT, b"43/x,1[]")),
}


@pytest.fixture(scope="module")
def watched_server(environment):
    server = Server(environment)
    server.start()
    yield server
    server.stop()


def flood(port, first, more, size):
    client = StuckReader(port)
    with suppress(OSError):  # it may be closed meanwhile, and is not read
        client.socket.sendall(first + more * (size // len(more)))
        client.socket.shutdown(socket.SHUT_WR)
        while client.socket.recv(65536):
            pass
    client.close()


@pytest.mark.slow
@pytest.mark.bound("LIMIT_FRAMES_PER_TURN")
@pytest.mark.bound("LIMIT_TURN_MILLISECONDS")
@pytest.mark.parametrize("kind", FLOODS)
def test_frames_in_one_piece_delay_nobody(watched_server, kind):
    """Neither those of a single client nor those of many at once."""
    sizes, stalls = [600_000] + [60_000] * 20, watched_server.stalls()
    with Bystander(watched_server) as bystander, ThreadPoolExecutor(len(sizes)) as threads:
        for done in [threads.submit(flood, watched_server.port, *FLOODS[kind], size) for size in sizes]:
            done.result()
    assert bystander.growth < 50_000_000
    assert watched_server.stalls() == stalls


def test_megabytes_of_empty_frames_delay_nobody(watched_server):
    """So many that the kernel has the next piece before the last one is read."""
    flood(watched_server.port, *FLOODS["empty continuations"], 4_000_000)
