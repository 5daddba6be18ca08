"""The bus from committing threads to the relay of the same process.

It carries hints, each a list of committed events. A late, repeated or lost hint does no harm: the relay reads the log
at intervals too, which is how it finds the events that other processes commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

#: A callback for committed events. The bus does not depend on their class.
Reader = Callable[[list[Any]], None]


class Bus:
    """A mailbox from committing threads to one event loop, which is woken once for all events that are pending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: Reader | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, reader: Reader) -> None:
        """Call `reader` on `loop` with the events that are committed from now on, in commit order."""
        with self._lock:
            self._loop, self._reader, self._pending = loop, reader, []

    def stop(self) -> None:
        """Drop pending hints and ignore further ones."""
        with self._lock:
            self._loop, self._reader, self._pending = None, None, []

    def hint(self, events: list[Any]) -> None:
        """Pass committed events to the reader, from any thread; without a reader they are ignored."""
        with self._lock:
            if self._loop is None:
                return
            if not self._pending:
                self._loop.call_soon_threadsafe(self._deliver)
            self._pending += events

    def _deliver(self) -> None:
        with self._lock:
            events, self._pending, reader = self._pending, [], self._reader
        if events and reader:
            reader(events)


bus = Bus()
