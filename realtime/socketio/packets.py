"""Engine.IO packets (https://socket.io/docs/v4/engine-io-protocol) as sessions send and receive them."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from engineio.packet import MESSAGE, Packet

from instances.bounds import BYTES_PER_TURN, PACKETS_PER_TURN
from realtime.wire.outbox import frame, text_frame
from realtime.wire.turn import turn_of


class EngineError(Exception):
    """Raised for what the protocol does not allow; the text is for the client, with a response of this status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class NoJson:
    """A JSON module that parses nothing."""

    @staticmethod
    def loads(text: str) -> Any:
        raise ValueError


class ClientPacket(Packet):
    """A packet from a client, its data left as text: python-engineio would parse JSON, which is Socket.IO's to read."""

    json = NoJson


class LoggedPacket(Packet):
    """An event of the log, one object for all its recipients; when it is dropped, the log is read again from there."""

    def __init__(self, namespace: str, before: Any, text: bytes) -> None:
        """`before` is the log position just before the event, `text` the complete packet with its type."""
        super().__init__(MESSAGE)
        self.namespace = namespace
        self.before = before
        self.text = text
        self.size = len(text)
        self.frame = text_frame(text)

    def encode(self, b64: bool = False) -> str:
        return self.text.decode()


class Dropped(NamedTuple):
    """Queued events of a namespace that a session has dropped: the position before the first one, and their number."""

    before: Any
    events: int


def packet_frame(packet: Packet) -> bytes:
    """Return the websocket frame of a packet."""
    return packet.frame if isinstance(packet, LoggedPacket) else frame(packet.encode())


def packet_text(packet: Packet) -> bytes:
    """Return a packet as the body of a poll's response has it; binary data in base64."""
    return packet.text if isinstance(packet, LoggedPacket) else packet.encode(b64=True).encode()


class TurnBudget:
    """The packets of one session that are still handled in this turn of the event loop."""

    __slots__ = ("_packets", "_size", "_turn")

    def __init__(self) -> None:
        self._turn = turn_of(asyncio.get_running_loop())
        self._packets = self._size = 0

    def spend(self, size: int) -> bool:
        """Count a packet of `size` bytes. Returns True once the loop is to turn before the next packet."""
        self._packets += 1
        self._size += size
        if self._packets < PACKETS_PER_TURN and self._size < BYTES_PER_TURN and not self._turn.is_over:
            return False
        self._packets = self._size = 0
        return True
