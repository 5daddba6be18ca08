"""Socket.IO's connection state recovery, without keeping state.

On the wire (https://socket.io/docs/v4/connection-state-recovery, socket.io-protocol 5): CONNECT carries a `pid`, the
last argument of each event is its offset, and a client that reconnects sends both in its CONNECT. Here the pid is a
signed token of the session's start, and the offset is a position in the log: any process resumes any session, even
hours later.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from uuid import UUID

from django.core.signing import BadSignature, Signer

from instances.models import Instance
from realtime.fanout.offset import MAX_LENGTH, Offset
from realtime.fanout.options import (
    GLOBAL_SINCE_FORM,
    SINCE_FORM,
    InvalidOption,
    parse_event_filter,
    parse_flag,
    parse_since,
)
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.wire.random_bytes import random_bytes


@dataclass(frozen=True)
class RecoveryToken:
    """The content of a pid: a stream, and the session's start in it."""

    stream: str
    start: Offset

    def pid(self) -> str:
        """Return a pid with this content, signed; no two are equal."""
        return _signer().sign(f"{self.stream}:{self.start}:{random_bytes(8).hex()}")

    @classmethod
    def parse(cls, pid: Any) -> RecoveryToken | None:
        """Return the content of a pid; None for anything that this server did not sign."""
        if not isinstance(pid, str) or len(pid) > MAX_LENGTH:
            return None
        try:
            stream, start, _ = _signer().unsign(pid).split(":")
        except (BadSignature, ValueError):
            return None
        offset = Offset.parse(start)
        return cls(stream, offset) if offset else None


def _signer() -> Signer:
    return Signer(salt="evoapi.session", sep="~")


@dataclass(frozen=True)
class ResumeRequest:
    """The options that a client sends in `auth` beside its keys."""

    recover: bool = False
    #: The pid and the offset that official clients send back by themselves. Those of another server are no mistake: the
    #: session then begins anew, and the client is told by its new pid.
    pid: Any = None
    offset: Any = None
    #: The position after which the client wants all events; None to begin now.
    since: int | Offset | None = None
    #: The values of the event types that the client wants; None for all.
    events: frozenset[str] | None = None

    @classmethod
    def from_auth(cls, auth: Any) -> ResumeRequest:
        """Return the options in `auth`, whose other members are the application's. Raises InvalidOption."""
        if not isinstance(auth, dict):
            return cls()
        return cls(
            recover=parse_flag("auth.recover", auth.get("recover")),
            pid=auth.get("pid"),
            offset=auth.get("offset"),
            since=parse_since("auth.since", auth.get("since")),
            events=parse_event_filter("auth.events", auth.get("events")),
        )


@dataclass(frozen=True)
class ReplayRange:
    """The part of a stream that can still be replayed: the events after `floor`, up to `head`."""

    stream: str
    epoch: str
    #: The last event that was pruned: its seq, or for all instances its (transaction, row).
    floor: Any
    head: int | Cursor

    @classmethod
    def of_instances(cls, ids: Iterable[UUID]) -> dict[UUID, ReplayRange]:
        """Return the range of each instance, by id, but of none that is gone together with its stream."""
        wanted = set(ids)
        states = Stream.objects.states(wanted)
        for missing in wanted - states.keys():
            with suppress(Instance.DoesNotExist):
                stream = Stream.objects.state(missing)
                states[missing] = (stream.epoch, stream.first_seq, stream.last_seq)
        return {pk: cls(pk.hex, epoch, first - 1, last) for pk, (epoch, first, last) in states.items()}

    @classmethod
    def of_all(cls) -> ReplayRange:
        """Return the range of the stream of all instances."""
        return cls("all", Stream.objects.global_stream().epoch, Stream.objects.global_floor(), Event.objects.head())

    def contains(self, position: Any) -> bool:
        """Return whether the position is one of this stream, and no event after it was pruned."""
        return self._has_been(position) and self._is_kept(position)

    def _has_been(self, position: Any) -> bool:
        """Return whether the position is one of this stream, up to its head."""
        head = self.head
        if not isinstance(head, Cursor):
            return isinstance(position, int) and 0 <= position <= head
        if not isinstance(position, Cursor) or position.low > position.high:
            return False
        is_in_window = head.row == 0 or position.row <= head.row
        return position.high < head.high or (position.high == head.high and is_in_window)

    def _is_kept(self, position: Any) -> bool:
        """Return whether no event after a position of this stream was pruned."""
        if not isinstance(position, Cursor):
            return bool(self.floor <= position)
        transaction, row = self.floor
        return bool(transaction < position.low or (transaction < position.high and row <= position.row))

    def start(self, resume: ResumeRequest) -> StartPosition:
        """Return the position to send a client's events from: where it left off, where it asks to start, or now."""
        if resume.recover:
            position = self._resume_position(resume)
            if position is not None:
                return StartPosition(position, resume.pid)
        since, position = self.find(resume.since)
        offset = Offset(self.epoch, position)
        pid = RecoveryToken(self.stream, offset).pid() if resume.recover else None
        return StartPosition(offset.position, pid, since)

    def _resume_position(self, resume: ResumeRequest) -> Any:
        token = RecoveryToken.parse(resume.pid)
        if token is None or (token.stream, token.start.epoch) != (self.stream, self.epoch):
            return None
        position = token.start.position
        if resume.offset is not None:
            offset = Offset.parse(resume.offset)
            if offset is None or offset.epoch != self.epoch or type(offset.position) is not type(position):
                return None
            # a client keeps the offset of an earlier session until this one's first event
            position = max(position, offset.position)
        return position if self.contains(position) else None

    def find(self, since: int | Offset | None) -> tuple[Since, Any]:
        """Look up the position after which a client wants events; returns the result and the position to start from."""
        if since is None:
            return Since.FOUND, self.head
        offset = since if isinstance(since, Offset) else Offset(self.epoch, since)
        if type(offset.position) is not type(self.head):
            return Since.OTHER, self.head
        if offset.epoch != self.epoch:  # of an instance that was deleted, or of the database before a backup
            return Since.PRUNED, self.oldest
        if not self._has_been(offset.position):
            return Since.AHEAD, self.head
        return (Since.FOUND, offset.position) if self._is_kept(offset.position) else (Since.PRUNED, self.oldest)

    @property
    def oldest(self) -> int | Cursor:
        """The position before the oldest event that is kept."""
        return Cursor(0, self.head.high, 0) if isinstance(self.head, Cursor) else self.floor


class Since(Enum):
    """The result of looking up the position that a client asks to start from."""

    #: A position from which on all events are kept; or the client named none, and starts now.
    FOUND = auto()
    #: One from which on events are missing: the client starts with the oldest that is kept.
    PRUNED = auto()
    #: One beyond the last event of this stream: the client starts now.
    AHEAD = auto()
    #: One of another kind of stream, an instance's or that of all: the client is refused.
    OTHER = auto()


@dataclass(frozen=True)
class StartPosition:
    """The position from which a client's events are sent, and its pid."""

    position: Any
    #: The pid for CONNECT: the client's own if it resumes, a new one if it may later, else None.
    pid: str | None
    since: Since = Since.FOUND


def require_position(member: str, start: StartPosition) -> None:
    """Raise InvalidOption where the option `member` named a position of another kind of stream."""
    if start.since is Since.OTHER:
        is_global = isinstance(start.position, Cursor)
        form = GLOBAL_SINCE_FORM if is_global else f"{SINCE_FORM} of this instance"
        raise InvalidOption(f"{member} is a position in another kind of stream: here it is {form}")


def beyond(member: str, start: StartPosition) -> str:
    """Return the sentence about a position beyond the last event (Since.AHEAD) in the option `member`."""
    last = "" if isinstance(start.position, Cursor) else f", whose seq is {start.position}"
    return f"{member} is beyond the last event{last}: only events from now on are sent"
