"""Packets that clients send, and the bodies of POSTs that hold them: https://socket.io/docs/v4/engine-io-protocol.

python-engineio decodes a body in one piece, and 1 MB holds 500,000 packets. Here they are split off one by one, so that
the event loop can turn between them, and nothing after a bad packet is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from engineio import exceptions
from engineio.packet import Packet

from instances import asgi

SEPARATOR = "\x1e"

#: Seconds that a client may take to send a body.
BODY_TIMEOUT = 30

#: Packets of one session, and bytes of them, that are handled before the event loop turns.
PACKETS_PER_TURN = 100
BYTES_PER_TURN = 16 * 1024


class NoJson:
    @staticmethod
    def loads(text: str) -> Any:
        raise ValueError


class ClientPacket(Packet):
    """A packet of a client; its data stay text. python-engineio would parse JSON, which is for Socket.IO to read."""

    json = NoJson


class TurnBudget:
    """The packets of one session that may be handled in this turn of the event loop."""

    __slots__ = ("_packets", "_size")

    def __init__(self) -> None:
        self._packets = self._size = 0

    def spend(self, size: int) -> bool:
        """Count a packet of `size` bytes. Returns True once the loop is to turn before the next one."""
        self._packets += 1
        self._size += size
        if self._packets < PACKETS_PER_TURN and self._size < BYTES_PER_TURN:
            return False
        self._packets = self._size = 0
        return True


async def read_body(environ: dict[str, Any], max_size: int) -> bytes:
    """Read a request's body. Raises ContentTooLongError beyond `max_size` bytes, TimeoutError, and EngineIOError where
    its sender has left."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await asgi.read_body(environ["asgi.receive"], environ["evoapi.message"], max_size)
    except asgi.ClientDisconnected:
        raise exceptions.EngineIOError from None
    except asgi.BodyTooLarge:
        raise exceptions.ContentTooLongError from None


async def decode_body(body: bytes) -> str:
    """Decode the text of a body. Raises UnicodeDecodeError.

    JSONP clients post a form; its field `d` comes first and holds the packets.
    """
    if not body.startswith(b"d="):
        return body.decode()
    quoted = body[2:].partition(b"&")[0].replace(b"+", b" ")
    pieces, start = [], 0
    while start < len(quoted):
        end = start + BYTES_PER_TURN
        cut = quoted.rfind(b"%", end - 2, end)  # an escape is not cut in two
        end = end if cut < 0 else cut
        pieces.append(unquote_to_bytes(quoted[start:end]))
        start = end
        await asyncio.sleep(0)
    return b"".join(pieces).decode(errors="replace")


def split(text: str) -> Iterator[str]:
    """Yield the encoded packets of a body one by one."""
    start = 0
    while (end := text.find(SEPARATOR, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
