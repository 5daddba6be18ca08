"""WebSocket frames, and the outbox that joins a turn's frames for each connection into one write.

The kernel's send is most of what a broadcast costs, so all frames that one turn of the event loop brings to a
connection are one write. Connections with the same pending frames share them: joining costs no bytes per connection.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

logger = logging.getLogger(__name__)

TEXT, BINARY = 1, 2

#: Seconds of a flush beyond which the next one is delayed.
LONG_FLUSH = 0.002
#: Seconds that a flush is delayed at most.
MAX_GAP = 0.005
#: Seconds of one turn of the event loop for a flush; the connections that are left are written to in the next turn.
MAX_FLUSH = 0.02
#: Connections that are written to between two looks at the clock, which take as long as a small write.
WRITES_AT_ONCE = 16


def frame(payload: str | bytes) -> bytes:
    """Return a complete message in one unmasked frame (RFC 6455, section 5.2): text for str, binary for bytes."""
    opcode = BINARY if isinstance(payload, bytes) else TEXT
    return _framed(opcode, payload if isinstance(payload, bytes) else payload.encode())


def text_frame(payload: bytes) -> bytes:
    """Return a text message, given in UTF-8, in one unmasked frame."""
    return _framed(TEXT, payload)


def _framed(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


class FrameChain:
    """A frame and the frames before it: a linked list that all connections with the same frames share."""

    __slots__ = ("_joined", "frame", "previous", "size")

    def __init__(self, previous: FrameChain | None, frame: bytes) -> None:
        self.previous = previous
        self.frame = frame
        #: Bytes of all its frames.
        self.size: int = len(frame) + (previous.size if previous else 0)
        self._joined: bytes | None = None

    def join(self) -> bytes:
        """Return all frames, oldest first, in one bytes object that is made once."""
        if self._joined is None:
            frames = []
            chain: FrameChain | None = self
            while chain is not None:
                frames.append(chain.frame)
                chain = chain.previous
            self._joined = b"".join(reversed(frames)) if len(frames) > 2 else self.frame
        return self._joined


#: The chain without frames: the pending frames of an idle connection.
EMPTY = FrameChain(None, b"")


class Writable(Protocol):
    """A connection that the outbox writes to."""

    pending: FrameChain

    def write(self, data: bytes) -> None: ...


class WebSocketTransport(Protocol):
    """The transport of a websocket, for the operations that ASGI has no message for."""

    #: True while the transport buffers more than its high-water mark.
    is_paused: bool
    #: Callback for when it buffers less again.
    on_resume: Callable[[], None]

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the system has not taken."""

    def write(self, frames: bytes) -> None:
        """Send complete frames (RFC 6455); without effect once the connection closes."""

    def limit_messages(self, size: int, holder: Hashable) -> None:
        """Set the bytes that a message of the client's may have from now on, and whom those are charged to."""

    def reset(self) -> None:
        """End the connection at once with RST; without it the kernel keeps unsent bytes for many minutes."""


class Outbox:
    """Collects the frames of one turn of the event loop and writes them, one write per connection, at its end.

    After a long flush the next one is delayed for as long again, at most MAX_GAP: past saturation only fewer and larger
    writes raise the throughput.
    """

    def __init__(self) -> None:
        #: The connections with pending frames that the next flush writes, and those that are left of a flush under way.
        self._dirty: list[Writable] = []
        self._left: list[Writable] = []
        #: The earliest time of the next flush, by the monotonic clock.
        self._next_at = 0.0
        #: Seconds that a flush has taken in the turns before this one.
        self._took = 0.0

    def push(self, connections: Iterable[Writable], frame: bytes) -> None:
        """Append a frame to the pending frames of these connections."""
        is_idle = not self._dirty and not self._left
        enqueue = self._dirty.append
        extended: dict[FrameChain, FrameChain] = {}
        last = chain = None
        for connection in connections:
            pending = connection.pending
            if pending is not last:
                last, chain = pending, extended.get(pending)
                if chain is None:
                    chain = extended[pending] = FrameChain(pending, frame)
            if pending is EMPTY:
                enqueue(connection)
            connection.pending = chain  # type: ignore[assignment]
        if is_idle and self._dirty:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        loop = asyncio.get_running_loop()
        gap = self._next_at - time.monotonic()
        if gap > 0:
            loop.call_later(gap, self.flush)
        else:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write all pending frames, in several turns where that takes long.

        Connections that have been written to meanwhile wait for the next flush: it joins more frames.
        """
        began_at = time.monotonic()
        if self._left:
            connections, self._left = self._left, []
        else:
            connections, self._dirty = self._dirty, []
        for start in range(0, len(connections), WRITES_AT_ONCE):
            if start and time.monotonic() > began_at + MAX_FLUSH:
                self._left = connections[start:]
                self._took += time.monotonic() - began_at
                asyncio.get_running_loop().call_soon(self.flush)
                return
            for connection in connections[start : start + WRITES_AT_ONCE]:
                pending, connection.pending = connection.pending, EMPTY
                try:
                    connection.write(pending.join())
                except Exception:
                    logger.exception("A connection could not be written to")
        ended_at = time.monotonic()
        took, self._took = self._took + ended_at - began_at, 0.0
        self._next_at = ended_at + min(took, MAX_GAP) if took > LONG_FLUSH else 0.0
        if self._dirty:
            self._schedule_flush()
