"""WebSocket frames, and what each connection is owed in this turn of the event loop.

The kernel's send is most of what a broadcast costs, so everything that a turn brings to a connection is one write.
Those who are owed the same share it: merging costs no bytes per connection.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Iterable
from typing import Protocol

logger = logging.getLogger(__name__)

TEXT, BINARY = 1, 2

#: Seconds that writing to all may take before the next time is put off.
LONG_FLUSH = 0.002
#: Seconds that it is put off at most.
MAX_GAP = 0.005


def frame(payload: str | bytes) -> bytes:
    """A whole message in one unmasked frame, as servers send it (RFC 6455, section 5.2): text or binary by its type."""
    opcode = BINARY if isinstance(payload, bytes) else TEXT
    return _framed(opcode, payload if isinstance(payload, bytes) else payload.encode())


def text_frame(payload: bytes) -> bytes:
    """The same for a text in UTF-8."""
    return _framed(TEXT, payload)


def _framed(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


class FrameChain:
    """Frames in their order: a link of a chain that all connections with the same frames share."""

    __slots__ = ("_joined", "before", "frame", "size")

    def __init__(self, before: FrameChain | None, frame: bytes) -> None:
        self.before = before
        self.frame = frame
        #: Bytes in all.
        self.size: int = len(frame) + (before.size if before else 0)
        self._joined: bytes | None = None

    def join(self) -> bytes:
        if self._joined is None:
            frames = []
            batch: FrameChain | None = self
            while batch is not None:
                frames.append(batch.frame)
                batch = batch.before
            self._joined = b"".join(reversed(frames)) if len(frames) > 2 else self.frame
        return self._joined


#: Nothing.
EMPTY = FrameChain(None, b"")


class Writable(Protocol):
    """Whoever can be pushed to."""

    batch: FrameChain

    def write(self, data: bytes) -> None: ...


class WebSocketTransport(Protocol):
    """A websocket's transport, for what cannot be said in ASGI."""

    #: Whether the transport holds more than it likes to.
    is_paused: bool
    #: Called when it does not any more.
    on_resume: Callable[[], None]

    def write(self, frames: bytes) -> None:
        """Send whole frames (RFC 6455); without effect once the connection closes."""

    def reset(self) -> None:
        """End the connection at once with RST. Without it the kernel keeps what it could not send for many minutes."""


class Outbox:
    """What this turn of the loop brings: each connection gets it in one write at the end of the turn.

    After a flush that took long the next one waits for as long again, at most MAX_GAP: past saturation fewer and larger
    writes are the only way to more.
    """

    def __init__(self) -> None:
        self._owed: list[Writable] = []
        self._next_at = 0.0

    def push(self, connections: Iterable[Writable], frame: bytes) -> None:
        """Owe these connections a frame, after what they are owed already."""
        was_empty = not self._owed
        enqueue = self._owed.append
        steps: dict[FrameChain, FrameChain] = {}
        last = step = None
        for connection in connections:
            batch = connection.batch
            if batch is not last:
                last, step = batch, steps.get(batch)
                if step is None:
                    step = steps[batch] = FrameChain(batch, frame)
            if batch is EMPTY:
                enqueue(connection)
            connection.batch = step  # type: ignore[assignment]
        if was_empty and self._owed:
            self._plan()

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        gap = self._next_at - time.monotonic()
        if gap > 0:
            loop.call_later(gap, self.flush)
        else:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write all that is owed."""
        began_at = time.monotonic()
        owed, self._owed = self._owed, []
        for connection in owed:
            batch, connection.batch = connection.batch, EMPTY
            try:
                connection.write(batch.join())
            except Exception:
                logger.exception("A connection could not be written to")
        ended_at = time.monotonic()
        took = ended_at - began_at
        self._next_at = ended_at + min(took, MAX_GAP) if took > LONG_FLUSH else 0.0
