"""Engine.IO packets (https://socket.io/docs/v4/engine-io-protocol) as sessions send and receive them."""

from __future__ import annotations

from typing import Any

from engineio.packet import MESSAGE, Packet

from realtime.wire.outbox import frame, text_frame

#: Packets of one session, and bytes of them, that are handled before the event loop turns.
PACKETS_PER_TURN = 100
BYTES_PER_TURN = 16 * 1024


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

    encode_cache: str | None

    def __init__(self, namespace: str, before: Any, text: bytes) -> None:
        """`before` is the log position just before the event, `text` the complete packet with its type."""
        super().__init__(MESSAGE)
        self.namespace = namespace
        self.before = before
        self.text = text
        self.size = len(text)
        self.frame = text_frame(text)

    def encode(self, b64: bool = False) -> str:
        self.encode_cache = self.encode_cache or self.text.decode()
        return self.encode_cache


def packet_frame(packet: Packet) -> bytes:
    """Return the websocket frame of a packet."""
    return packet.frame if isinstance(packet, LoggedPacket) else frame(packet.encode())


class TurnBudget:
    """The number and bytes of packets that one session may still handle in this turn of the event loop."""

    __slots__ = ("_packets", "_size")

    def __init__(self) -> None:
        self._packets = self._size = 0

    def spend(self, size: int) -> bool:
        """Count a packet of `size` bytes. Returns True once the loop is to turn before the next packet."""
        self._packets += 1
        self._size += size
        if self._packets < PACKETS_PER_TURN and self._size < BYTES_PER_TURN:
            return False
        self._packets = self._size = 0
        return True
