"""The open connections of this process, and which of them is closed where there are too many.

A connection is idle while no complete head of a request has come: it costs whoever opened it nothing, so it is the one
to give way. One with a request at work, and an open websocket, stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from instances.bounds import CONNECTIONS, IDLE_CONNECTIONS, UNPARSED_BYTES

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

#: Files that the process opens besides connections: the database's, those of webhooks, of the log and of libraries.
OWN_FILES = 256
#: Connections below which the system's limit of open files deserves a warning.
FEW_CONNECTIONS = 2000
#: Seconds between two log lines about connections that were closed.
LOG_INTERVAL = 60


class Connection(Protocol):
    def give_way(self) -> None:
        """Close at once, as there is no room; `Connections.close` is called later."""


def most_connections() -> int:
    """Return how many connections this process may have: LIMIT_CONNECTIONS, or what the limit of open files leaves."""
    if resource is None:
        return CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = CONNECTIONS if soft == resource.RLIM_INFINITY else max(soft // 2, soft - OWN_FILES)
    return min(CONNECTIONS, files)


class Connections:
    """The connections of a process, used on its event loop alone."""

    def __init__(self) -> None:
        #: Read with the first connection: the server raises the limit of open files before.
        self._most = 0
        self._count = 0
        #: Those that wait for a complete head, the one that has waited for the longest first.
        self._idle: dict[Connection, None] = {}
        #: Bytes of those that keep unparsed ones, or an incomplete head; the first to keep some first.
        self._unparsed: dict[Connection, int] = {}
        self._unparsed_bytes = 0
        self._closed = 0
        self._logged_at = -float("inf")

    def open(self, connection: Connection) -> bool:
        """Count a new connection, which is idle; returns False if there is no room for it, and it has to be closed."""
        self._most = self._most or most_connections()
        self._count += 1
        if self._count > self._most or len(self._idle) >= IDLE_CONNECTIONS:
            if not self._idle:
                self._log("all of them are at work")
                return False
            self._close_oldest(self._idle, "they wait for a request")
        self._idle[connection] = None
        return True

    def close(self, connection: Connection) -> None:
        """Forget a connection that is closed; once for each that was opened."""
        self._count -= 1
        self._forget(connection)

    def hand_over(self, connection: Connection) -> Callable[[], None]:
        """Note that the connection is a websocket from now on; returns a function to call when that is closed."""
        self._forget(connection)
        return self._close

    def _close(self) -> None:
        self._count -= 1

    def begin(self, connection: Connection) -> None:
        """Note that the connection has a request at work."""
        self._idle.pop(connection, None)

    def end(self, connection: Connection) -> None:
        """Note that the connection waits for its next request."""
        self._idle.pop(connection, None)
        self._idle[connection] = None
        if len(self._idle) > IDLE_CONNECTIONS:
            self._close_oldest(self._idle, "they wait for a request")

    def keep(self, connection: Connection, size: int) -> None:
        """Note how many bytes the connection keeps unparsed, or of an incomplete head."""
        before = self._unparsed.get(connection, 0)
        if size == before:
            return
        self._unparsed_bytes += size - before
        if size:
            self._unparsed[connection] = size
        else:
            del self._unparsed[connection]
        while self._unparsed_bytes > UNPARSED_BYTES:
            self._close_oldest(self._unparsed, "they keep too many bytes of incomplete requests")

    def _close_oldest(self, connections: dict[Connection, None] | dict[Connection, int], reason: str) -> None:
        oldest = next(iter(connections))
        self._forget(oldest)
        self._log(reason)
        oldest.give_way()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._unparsed_bytes -= self._unparsed.pop(connection, 0)

    def _log(self, reason: str) -> None:
        self._closed += 1
        now = time.monotonic()
        if now >= self._logged_at + LOG_INTERVAL:
            logger.warning(
                "Too many connections: %s closed since the last such line; the last one because %s. Open: %s of %s, "
                "%s of them idle; %.1f MiB of incomplete requests",
                self._closed,
                reason,
                self._count,
                self._most,
                len(self._idle),
                self._unparsed_bytes / 1024 / 1024,
            )
            self._closed, self._logged_at = 0, now


#: The connections of this process.
connections = Connections()
