"""Feeds and who listens to them.

A `Feed` is one ordered stream and our place in it: an instance's, by seq, or that of all instances, by cursor. A
listener is *live*, in a room of its feed, or *behind*, and then a task of the relay tells it from its own place on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from realtime.fanout.recovery import Offset
from realtime.log.cursor import Cursor
from realtime.log.models import Event, Page

#: Events read from the log at a time.
PAGE = 200


@dataclass(frozen=True)
class Audience:
    """Listeners of a feed who get the same packets: with or without offsets, all events or some."""

    wants_offsets: bool = False
    #: Wire names; None is all of them.
    events: frozenset[str] | None = None

    def wants(self, event: Event) -> bool:
        return self.events is None or event.type in self.events


@dataclass(eq=False)
class Listener:
    """A socket in a namespace, and how far it has been told."""

    sid: str
    namespace: str
    #: None for `/`.
    instance_id: UUID | None
    position: Any
    audience: Audience = field(default_factory=Audience)
    #: The room that it is in while it is live.
    room: str | None = None
    #: Grows when its position was set back: whoever tells it from an earlier reading must stop.
    rewinds: int = 0


class Feed(ABC):
    """Base of both kinds. Listeners come by `Relay.follow` and are told from their own place on."""

    #: Begins the names of its rooms.
    room: str

    def __init__(self, namespace: str, position: Any) -> None:
        self.namespace = namespace
        self.position = position
        self.epoch = ""
        self.listeners: dict[str, Listener] = {}
        #: Those who wait for the place to move.
        self.waiting: set[asyncio.Future[None]] = set()
        #: How many live listeners each audience has.
        self.audiences: Counter[Audience] = Counter()
        self._rooms: dict[Audience, str] = {}

    @abstractmethod
    def page(self, after: Any, upto: Any) -> Page:
        """The next events of the log after one place and not after another; runs in a database thread."""

    def is_heard(self, event: Event) -> bool:
        return True

    def move(self, place: Any) -> None:
        self.position = place
        if self.waiting:
            for one in self.waiting:
                if not one.done():
                    one.set_result(None)
            self.waiting.clear()

    def room_of(self, audience: Audience) -> str:
        room = self._rooms.get(audience)
        if room is None:
            kind = "offsets" if audience.wants_offsets else "plain"
            room = self._rooms[audience] = " ".join((self.room, kind, *sorted(audience.events or ())))
        return room

    def offset(self, audience: Audience, place: Any) -> str | None:
        return str(Offset(self.epoch, place)) if audience.wants_offsets else None


class InstanceFeed(Feed):
    def __init__(self, instance_id: UUID, namespace: str) -> None:
        super().__init__(namespace, position=None)  # opening: hints are kept until the place is known
        self.instance_id = instance_id
        self.room = str(instance_id)
        self.opened: asyncio.Task[None] | None = None
        self.target = 0
        self.held: dict[int, Event] = {}
        self.reader: asyncio.Task[None] | None = None

    def is_next(self, event: Event) -> bool:
        """Whether it comes after the last one told, and nobody is about to tell it."""
        return self.reader is None and self.position is not None and event.seq == self.position + 1

    def page(self, after: int, upto: int) -> Page:
        events = list(Event.objects.between(self.instance_id, after, upto)[:PAGE])
        # what is not there any more was pruned: past is past
        return Page([(event.seq, event) for event in events], events[-1].seq if len(events) == PAGE else upto)

    def is_heard(self, event: Event) -> bool:
        return event.is_heard


class GlobalFeed(Feed):
    """All instances, for the namespace `/`. It is also the sweep, which passes every event there is."""

    room = "all"

    def page(self, after: Cursor, upto: Cursor | None) -> Page:
        # most of the time nobody listens here: then what the sweep needs of an event is who has which number
        passed = Event.objects.values_list("pk", "instance_id", "seq", "type", named=True)
        events = Event.objects.all() if self.listeners else passed
        return events.page_after(after, PAGE, upto)
