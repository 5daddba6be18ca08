"""Feeds, and the listeners of each.

A `Feed` is an ordered stream of events and this process's position in it: a seq in an instance's stream, a cursor in
that of all instances. A listener is *live*, in a room of its feed, or *behind* at a position of its own, from which a
task of the relay replays the log.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from instances.events import EventType
from realtime.fanout.offset import Offset
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.paging import Page, UnreadableEvent, page_of_all, page_of_instance


@dataclass(frozen=True)
class Audience:
    """Listeners of a feed that get the same packets: with or without offsets, all events or some."""

    wants_offsets: bool = False
    #: Wire names; None is all of them.
    events: frozenset[str] | None = None

    def wants(self, event: Event) -> bool:
        return self.events is None or event.type in self.events


@dataclass(eq=False)
class Listener:
    """A client in a namespace, and its position in the feed."""

    sid: str
    namespace: str
    #: None for `/`.
    instance_id: UUID | None
    #: The position of the last event sent; not updated while the listener is live.
    position: Any
    audience: Audience = field(default_factory=Audience)
    #: The room that it is in while it is live; None while it is behind.
    room: str | None = None
    #: The number of times that its position was set back.
    rewinds: int = 0
    #: The access revision under which it was authorized, and under which the instance had the namespace's name.
    revision: int = 0
    #: Events to send out of order, of a listener that is sent everything by `Relay.replay`; None for one of a socket.
    late: deque[Event] | None = None
    #: The events sent to it alone and, as a member of rooms that it has left, to all of a room.
    sent: int = 0
    #: The events that its room had been sent when it entered.
    room_began: int = 0


@dataclass
class Room:
    """The live listeners of one audience: its name, and how many they are."""

    name: str
    listeners: int = 0
    #: The events sent to it: one count for all of its listeners.
    sent: int = 0


class Feed(ABC):
    """Base of both kinds of feed."""

    #: The first word of its rooms' names.
    room_prefix: str

    def __init__(self, namespace: str, position: Any) -> None:
        self.namespace = namespace
        self.position = position
        self.epoch = ""
        self.listeners: dict[str, Listener] = {}
        #: Futures to resolve when the position moves.
        self.waiters: set[asyncio.Future[None]] = set()
        #: The rooms of the live listeners, by audience. A room ends with its last listener: filters are ever new.
        self.rooms: dict[Audience, Room] = {}

    @abstractmethod
    def page(self, after: Any, upto: Any) -> Page:
        """Return the next events of the log with after < position <= upto; runs in a database thread."""

    def includes(self, event: Event) -> bool:
        """Return whether the event is for this feed's listeners."""
        return True

    def is_last(self, event: Event | UnreadableEvent) -> bool:
        """Return whether the feed ends with the event."""
        return False

    def advance(self, position: Any) -> None:
        """Set the position and wake the tasks that wait for it to move."""
        self.position = position
        if self.waiters:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self.waiters.clear()

    def enter(self, audience: Audience) -> Room:
        """Count one more live listener of an audience; returns their room."""
        room = self.rooms.get(audience)
        if room is None:
            kind = "offsets" if audience.wants_offsets else "plain"
            room = self.rooms[audience] = Room(" ".join((self.room_prefix, kind, *sorted(audience.events or ()))))
        room.listeners += 1
        return room

    def leave(self, audience: Audience) -> None:
        """Count one live listener of an audience less."""
        room = self.rooms[audience]
        room.listeners -= 1
        if not room.listeners:
            del self.rooms[audience]

    def sent(self, listener: Listener) -> int:
        """Return the number of events that were sent to a listener, without those that were dropped again."""
        room = self.rooms.get(listener.audience) if listener.room else None
        return listener.sent + (room.sent - listener.room_began if room else 0)

    def offset(self, audience: Audience, position: Any) -> str | None:
        """Return the offset to send with the event at this position; None for an audience that wants none."""
        return str(Offset(self.epoch, position)) if audience.wants_offsets else None


class InstanceFeed(Feed):
    """One instance's events, for the namespace of its name.

    The position is None until it is read from the log; hints that arrive before are kept in `pending`.
    """

    def __init__(self, instance_id: UUID, namespace: str) -> None:
        super().__init__(namespace, position=None)
        self.instance_id = instance_id
        #: The access revision under which the instance was seen to have the namespace's name.
        self.revision = 0
        self.room_prefix = str(instance_id)
        #: The task that reads the first position; None once that is known.
        self.opening: asyncio.Task[None] | None = None
        #: The highest seq known to be committed.
        self.target = 0
        #: Events from hints that cannot be emitted yet, by seq.
        self.pending: dict[int, Event] = {}
        #: The task that emits up to the target, while there is one.
        self.reader: asyncio.Task[None] | None = None

    def is_next(self, event: Event) -> bool:
        """Return whether the event follows the last one emitted, and no reader is about to emit it."""
        return self.reader is None and self.position is not None and event.seq == self.position + 1

    def page(self, after: int, upto: int) -> Page:
        return page_of_instance(self.instance_id, after, upto)

    def includes(self, event: Event) -> bool:
        return event.is_heard

    def is_last(self, event: Event | UnreadableEvent) -> bool:
        return event.type == EventType.REMOVE_INSTANCE


class GlobalFeed(Feed):
    """The events of all instances, for the namespace `/`. The sweep reads it too, as every event passes through it."""

    room_prefix = "all"

    def page(self, after: Cursor, upto: Cursor | None) -> Page:
        # mostly `/` has no listeners: then the sweep needs no envelopes
        return page_of_all(after, upto, with_envelopes=bool(self.listeners))
