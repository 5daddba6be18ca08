"""The bus carries hints: that an event was committed, and the event itself. Late, doubled or lost hints do no harm.

This one reaches the readers of its own process; what other processes commit is found by the relay's sweep.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

#: Called with committed events, of which the bus knows nothing.
Reader = Callable[[list[Any]], None]


class Bus:
    """A mailbox from the threads that commit to the event loop that tells: one wake-up of the loop for a batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: Reader | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, reader: Reader) -> None:
        """Have `reader` called on `loop` with what is committed from now on, in commit order."""
        with self._lock:
            self._loop, self._reader, self._waiting = loop, reader, []

    def stop(self) -> None:
        with self._lock:
            self._loop, self._reader, self._waiting = None, None, []

    def hint(self, events: list[Any]) -> None:
        """Say that these events are committed; from any thread, and without anybody listening too."""
        with self._lock:
            if self._loop is None:
                return
            if not self._waiting:
                self._loop.call_soon_threadsafe(self._deliver)
            self._waiting += events

    def _deliver(self) -> None:
        with self._lock:
            events, self._waiting, reader = self._waiting, [], self._reader
        if events and reader:
            reader(events)


bus = Bus()
