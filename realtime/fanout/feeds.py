"""Feeds, and the listeners of each.

A `Feed` is an ordered stream of events and this process's position in it: a seq in an instance's stream, a cursor in
that of all instances. A listener is *live*, in a room of its feed, or *behind* at a position of its own, from which a
task of the relay replays the log.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from instances.events import EventType
from realtime.fanout.recovery import Offset
from realtime.log.cursor import Cursor
from realtime.log.models import Event, Page

#: Events read from the log at a time.
PAGE = 200


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
    #: The number of times that its position was set back: a replay that began before the last one must stop.
    rewinds: int = 0


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
        #: The number of live listeners of each audience.
        self.audiences: Counter[Audience] = Counter()
        self._rooms: dict[Audience, str] = {}

    @abstractmethod
    def page(self, after: Any, upto: Any) -> Page:
        """Return the next events of the log with after < position <= upto, at most PAGE; runs in a database thread."""

    def includes(self, event: Event) -> bool:
        """Return whether the event is for this feed's listeners."""
        return True

    def is_last(self, event: Event) -> bool:
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

    def room_of(self, audience: Audience) -> str:
        """Return the name of the room that the audience's live listeners are in."""
        room = self._rooms.get(audience)
        if room is None:
            kind = "offsets" if audience.wants_offsets else "plain"
            room = self._rooms[audience] = " ".join((self.room_prefix, kind, *sorted(audience.events or ())))
        return room

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
        events = list(Event.objects.between(self.instance_id, after, upto)[:PAGE])
        # events that are missing were pruned: the page ends after them
        return Page([(event.seq, event) for event in events], events[-1].seq if len(events) == PAGE else upto)

    def includes(self, event: Event) -> bool:
        return event.is_heard

    def is_last(self, event: Event) -> bool:
        return event.type == EventType.REMOVE_INSTANCE


class GlobalFeed(Feed):
    """The events of all instances, for the namespace `/`. The sweep reads it too, as every event passes through it."""

    room_prefix = "all"

    def page(self, after: Cursor, upto: Cursor | None) -> Page:
        # mostly `/` has no listeners: then the sweep needs no more of an event than its instance and seq
        numbers = Event.objects.values_list("pk", "instance_id", "seq", "type", named=True)
        events = Event.objects.all() if self.listeners else numbers
        return events.page_after(after, PAGE, upto)
