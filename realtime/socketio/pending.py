"""Engine.IO sessions that are in no namespace yet: anybody can open them, so they are bounded in number and time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container

from instances.bounds import JOIN_SECONDS, PENDING_SESSIONS, PENDING_SESSIONS_PER_ADDRESS


class PendingSessions:
    """The sessions without a namespace, oldest first: beyond a bound the oldest ends, and any after JOIN_SECONDS."""

    def __init__(self, end: Callable[[str], None], joining: Container[str]) -> None:
        """`end` ends a session by its id; `joining` has those whose CONNECT is being handled."""
        self._end = end
        self._joining = joining
        #: The time by which each has to join, by the loop's clock, and its client's address.
        self.sessions: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._by_address: defaultdict[str, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, sid: str, address: str) -> None:
        """Add a session; those that are too many end."""
        self.discard(sid)
        loop = asyncio.get_running_loop()
        self.sessions[sid] = loop.time() + JOIN_SECONDS, address
        of_address = self._by_address[address]
        of_address[sid] = None
        if len(of_address) > PENDING_SESSIONS_PER_ADDRESS:
            self._drop(next(iter(of_address)))
        if len(self.sessions) > PENDING_SESSIONS:
            self._drop(next(iter(self.sessions)))
        if self._timer is None:
            self._timer = loop.call_later(JOIN_SECONDS, self._end_late)

    def discard(self, sid: str) -> None:
        """Remove a session that has joined or ended."""
        if sid in self.sessions:
            _, address = self.sessions.pop(sid)
            of_address = self._by_address[address]
            del of_address[sid]
            if not of_address:
                del self._by_address[address]

    def _drop(self, sid: str) -> None:
        self.discard(sid)
        self._end(sid)

    def _end_late(self) -> None:
        """End the sessions whose time is over; a client that the server lets wait for its reply gets as much again."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self.sessions:
            sid, (deadline, address) = next(iter(self.sessions.items()))
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._end_late)
                break
            self._drop(sid) if sid not in self._joining else self.add(sid, address)
