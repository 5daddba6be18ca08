"""Resuming where a client left off: Socket.IO's connection state recovery, without keeping state.

On the wire (https://socket.io/docs/v4/connection-state-recovery, socket.io-protocol 5): CONNECT carries a `pid`, each
event ends in a text, the offset, and a client that comes back sends both in its CONNECT. Here the pid is a signed note
of where the session began, and the offset is a place in the log, so any process resumes any session, after hours too.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.signing import BadSignature, Signer

from instances.events import EventType
from instances.models import Instance
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.random_bytes import random_bytes

#: A longer text is none of ours.
MAX_LENGTH = 300


@dataclass(frozen=True)
class Offset:
    """A position in one counting of a stream: a seq, or a cursor where the stream is that of all instances."""

    epoch: str
    position: int | Cursor

    def __str__(self) -> str:
        numbers = self.position if isinstance(self.position, Cursor) else (self.position,)
        return f"{self.epoch}.{'-'.join(map(str, numbers))}"

    @classmethod
    def parse(cls, text: Any) -> Offset | None:
        """The place that an offset names; None for anything that `str(place)` does not give."""
        if not isinstance(text, str) or len(text) > MAX_LENGTH:
            return None
        epoch, _, position = text.partition(".")
        numbers = position.split("-")
        if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
            return None
        values = [int(number) for number in numbers]
        if len(values) == 1:
            return cls(epoch, values[0])
        return cls(epoch, Cursor(*values)) if len(values) == 3 else None


@dataclass(frozen=True)
class RecoveryToken:
    """What a pid says: whose events, and from where on."""

    stream: str
    begin: Offset

    def pid(self) -> str:
        return _signer().sign(f"{self.stream}:{self.begin}:{random_bytes(8).hex()}")

    @classmethod
    def parse(cls, pid: Any) -> RecoveryToken | None:
        if not isinstance(pid, str) or len(pid) > MAX_LENGTH:
            return None
        try:
            stream, begin, _ = _signer().unsign(pid).split(":")
        except (BadSignature, ValueError):
            return None
        place = Offset.parse(begin)
        return cls(stream, place) if place else None


def _signer() -> Signer:
    return Signer(salt="evoapi.session", sep="~")


@dataclass(frozen=True)
class ResumeRequest:
    """What a client asks for in `auth`, besides being let in. Whatever makes no sense is not asked for."""

    recover: bool = False
    pid: Any = None
    offset: Any = None
    since: Any = None
    events: frozenset[str] | None = None

    @classmethod
    def of(cls, auth: Any) -> ResumeRequest:
        if not isinstance(auth, dict):
            return cls()
        names = auth.get("events")
        return cls(
            recover=auth.get("recover") is True,
            pid=auth.get("pid"),
            offset=auth.get("offset"),
            since=auth.get("since"),
            events=event_types(names) if isinstance(names, list) else None,
        )


@dataclass(frozen=True)
class ReplayRange:
    """The part of a stream that can still be told: what comes after `floor`, up to `head`."""

    stream: str
    epoch: str
    #: A seq, or for all instances (transaction, row): the last event that is gone.
    floor: Any
    head: int | Cursor

    @classmethod
    def of_instances(cls, ids: Iterable[UUID]) -> dict[UUID, ReplayRange]:
        """By id; an instance that is gone, with all of its stream, has none."""
        wanted = set(ids)
        states = Stream.objects.states(wanted)
        for missing in wanted - states.keys():
            with suppress(Instance.DoesNotExist):
                stream = Stream.objects.state(missing)
                states[missing] = (stream.epoch, stream.first_seq, stream.last_seq)
        return {pk: cls(pk.hex, epoch, first - 1, last) for pk, (epoch, first, last) in states.items()}

    @classmethod
    def of_all(cls) -> ReplayRange:
        return cls("all", Stream.objects.global_stream().epoch, Stream.objects.global_floor(), Event.objects.head())

    def holds(self, position: Any) -> bool:
        """Whether nothing after that position is missing, and it is one of ours."""
        if isinstance(self.head, Cursor):
            return isinstance(position, Cursor) and self._holds_cursor(position, self.head)
        return isinstance(position, int) and self.floor <= position <= self.head

    def _holds_cursor(self, cursor: Cursor, head: Cursor) -> bool:
        transaction, row = self.floor
        is_kept = transaction < cursor.low or (transaction < cursor.high and row <= cursor.row)
        is_past = cursor.high < head.high or (cursor.high == head.high and (head.row == 0 or cursor.row <= head.row))
        return is_kept and is_past and cursor.low <= cursor.high

    def begin(self, resume: ResumeRequest) -> StartPosition:
        """Where a client's telling begins: where it left off, where it asks to, or now."""
        if resume.recover:
            position = self._resumed(resume)
            if position is not None:
                return StartPosition(position, resume.pid)
        position = self._since(resume.since)
        place = Offset(self.epoch, self.head if position is None else position)
        return StartPosition(place.position, RecoveryToken(self.stream, place).pid() if resume.recover else None)

    def _resumed(self, resume: ResumeRequest) -> Any:
        session = RecoveryToken.parse(resume.pid)
        if session is None or (session.stream, session.begin.epoch) != (self.stream, self.epoch):
            return None
        position = session.begin.position
        if resume.offset is not None:
            offset = Offset.parse(resume.offset)
            if offset is None or offset.epoch != self.epoch or type(offset.position) is not type(position):
                return None
            # a client keeps the offset of an earlier session until this one's first event
            position = max(position, offset.position)
        return position if self.holds(position) else None

    def _since(self, since: Any) -> Any:
        """A seq, or a place as offsets spell it; from below what is kept, all that is."""
        if isinstance(since, int) and not isinstance(since, bool) and isinstance(self.head, int):
            return max(since, self.floor) if 0 <= since <= self.head else None
        place = Offset.parse(since)
        return place.position if place and place.epoch == self.epoch and self.holds(place.position) else None


@dataclass(frozen=True)
class StartPosition:
    position: Any
    #: What CONNECT tells a client that wants to resume: its own pid if it does, else a new one.
    pid: str | None


def event_types(names: list[Any]) -> frozenset[str]:
    """The wire names that a list stands for, which may hold them or the names of the settings; others are left out."""
    wanted = {name for name in names if isinstance(name, str)}
    return frozenset(one.value for one in EventType if one.value in wanted or one.is_wanted_by(wanted))
