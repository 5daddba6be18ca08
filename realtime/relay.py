"""From the log to the sockets of this process: every event once, in order, whatever wakes us or fails to.

A `Feed` is one ordered stream and our place in it: an instance's (by seq), or that of all instances (by cursor, in
commit order). Hints say that something was committed; what they do not bring is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from instances.events import EventType
from realtime.bus import bus
from realtime.database import Pool, database
from realtime.models import Cursor, Event, Stream

logger = logging.getLogger(__name__)

#: Events read from the log at a time.
PAGE = 200
#: Seconds between two looks for what no hint reported.
SWEEP_INTERVAL = 1.0
#: Seconds after which commits that an older transaction of PostgreSQL's still held back are looked for again.
RETRY_DELAYS = (0.01, 0.05, 0.2)


@dataclass(eq=False)
class Listener:
    """A socket in a namespace, and how far it has been told."""

    sid: str
    namespace: str
    position: Any


#: How the relay reaches sockets: `tell` everybody in a namespace's room, or one listener; `cut` a listener's namespace.
Tell = Callable[[str, str, Event], Awaitable[None]]


class Feed(ABC):
    """Base of both kinds. Listeners come by `Relay.follow` and are told from their own place on."""

    #: The Socket.IO room of those who are level.
    room: str

    def __init__(self, namespace: str, position: Any) -> None:
        self.namespace = namespace
        self.position = position
        self.listeners: dict[str, Listener] = {}

    @abstractmethod
    def page(self, after: Any, upto: Any) -> list[Event]:
        """The next events of the log after one place and not after another; runs in a database thread."""

    @abstractmethod
    def place(self, event: Event) -> Any: ...

    def is_heard(self, event: Event) -> bool:
        return True


class InstanceFeed(Feed):
    def __init__(self, instance_id: UUID, namespace: str) -> None:
        super().__init__(namespace, position=None)  # opening: hints are kept until the place is known
        self.instance_id = instance_id
        self.room = str(instance_id)
        self.opened: asyncio.Task[None] | None = None
        self.target = 0
        self.held: dict[int, Event] = {}
        self.reader: asyncio.Task[None] | None = None

    def page(self, after: int, upto: int) -> list[Event]:
        return list(Event.objects.between(self.instance_id, after, upto)[:PAGE])

    def place(self, event: Event) -> int:
        return event.seq

    def is_heard(self, event: Event) -> bool:
        return event.is_heard


class WholeFeed(Feed):
    """All instances, for the namespace `/`. It is also the sweep: its cursor passes every event there is."""

    room = "all"

    def page(self, after: Cursor, upto: Cursor | None) -> list[Event]:
        events = Event.objects.committed_after(after)
        if not self.listeners:
            events = events.defer("envelope")
        page = list(events[:PAGE])
        return page if upto is None else [event for event in page if event.cursor <= upto]

    def place(self, event: Event) -> Cursor:
        return event.cursor


class Relay:
    """Tells this process's sockets. Everything in it runs on the event loop."""

    def __init__(self, tell: Tell, cut: Callable[[Listener], Awaitable[None]]) -> None:
        self.tell = tell
        self.cut = cut
        self.feeds: dict[UUID, InstanceFeed] = {}
        self.whole = WholeFeed("/", position=None)
        self._sweeping = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self.whole.position = await database(Event.objects.head)
        bus.listen(asyncio.get_running_loop(), self.hinted)
        self._spawn(self._sweep_for_ever())

    async def stop(self) -> None:
        bus.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What was committed

    def hinted(self, events: list[Event]) -> None:
        """The bus's reader: these events of our own process are committed."""
        for event in events:
            self._notice(event.instance_id, event.seq, event)
        if self.whole.listeners:
            self._spawn(self._sweep_soon())

    def _notice(self, instance_id: UUID, seq: int, event: Event | None) -> None:
        feed = self.feeds.get(instance_id)
        if feed is None or (feed.position is not None and seq <= feed.position):
            return
        feed.target = max(feed.target, seq)
        if event is not None:
            feed.held[seq] = event
        self._wake(feed)

    def _wake(self, feed: InstanceFeed) -> None:
        """One reader at a time; a later wake-up only raises its target."""
        if feed.reader is None and feed.position is not None and feed.position < feed.target:
            feed.reader = self._spawn(self._catch_up(feed))

    async def _catch_up(self, feed: InstanceFeed) -> None:
        """Emit up to the target, in order: from hints where they are whole, from the log where they are not."""
        try:
            while feed.position < feed.target:
                event = feed.held.pop(feed.position + 1, None)
                if event is None:
                    await asyncio.sleep(0)  # the hooks of two threads often swap: give the other one a turn
                    event = feed.held.pop(feed.position + 1, None)
                events = [event] if event else await self._read(feed, feed.target)
                for event in events:
                    await self._emit(feed, event)
                if not events:
                    feed.position = feed.target  # pruned: past is past
                for seq in [seq for seq in feed.held if seq <= feed.position]:
                    del feed.held[seq]
        except DatabaseError:
            logger.exception("The log could not be read; the sweep tries again")
        finally:
            feed.reader = None  # no wait since the last look at the target, so nothing is left behind

    async def _read(self, feed: Feed, upto: Any) -> list[Event]:
        return await database(feed.page, feed.position, upto, pool=Pool.READS)

    async def _emit(self, feed: Feed, event: Event) -> None:
        """Tell those who are level. Their place moves in the step that picks the recipients, so nobody joins between."""
        if feed.place(event) <= feed.position:
            return
        feed.position = feed.place(event)
        if feed.listeners and feed.is_heard(event):
            await self.tell(feed.namespace, feed.room, event)
        if event.type == EventType.REMOVE_INSTANCE and isinstance(feed, InstanceFeed):
            for listener in list(feed.listeners.values()):
                await self.cut(listener)

    # The sweep

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.sweep()
            except DatabaseError:
                logger.exception("The sweep could not read the log; it tries again")

    async def _sweep_soon(self) -> None:
        with suppress(DatabaseError):  # the next regular sweep reports it
            if not await self.sweep():
                for delay in RETRY_DELAYS:
                    await asyncio.sleep(delay)
                    if await self.sweep():
                        break

    async def sweep(self) -> int:
        """Pass all events committed since the last one, to `/` and to the feeds that missed them. Returns how many."""
        async with self._sweeping:
            return await self._sweep()

    async def _sweep(self) -> int:
        passed = 0
        while True:
            events = await self._read(self.whole, None)
            for event in events:
                self._notice(event.instance_id, event.seq, None)
                await self._emit(self.whole, event)
            passed += len(events)
            if len(events) < PAGE:
                break
        for feed in list(self.feeds.values()):
            self._wake(feed)  # a reader that failed left its target
        return passed

    # Listeners

    async def follow(self, listener: Listener, instance_id: UUID | None) -> bool:
        """Tell a listener from its place in the log, page by page, until it is level with its feed; then it is live.

        `instance_id` is None for `/`. Returns False when the listener left meanwhile.
        """
        feed = await self._open(listener, instance_id)
        while listener.sid in feed.listeners:
            if listener.position >= feed.position:
                return True  # the caller joins the room in this same step
            events = await database(feed.page, listener.position, feed.position, pool=Pool.READS)
            for event in events:
                listener.position = feed.place(event)
                if feed.is_heard(event):
                    await self.tell(listener.namespace, listener.sid, event)
            if not events:
                listener.position = max(listener.position, feed.position)
        return False

    async def _open(self, listener: Listener, instance_id: UUID | None) -> Feed:
        """The feed, which knows its place. It exists before that is read, so no hint falls between."""
        if instance_id is None:
            async with self._sweeping:
                # while nobody listens the sweep may be a second behind: this listener's time begins later
                await self._sweep()
                self.whole.listeners[listener.sid] = listener
            return self.whole
        feed = self.feeds.get(instance_id)
        if feed is None:
            feed = self.feeds[instance_id] = InstanceFeed(instance_id, listener.namespace)
            feed.opened = self._spawn(self._find_place(feed))
        feed.listeners[listener.sid] = listener
        if feed.namespace != listener.namespace:
            await self._rename(feed, listener.namespace)
        if feed.opened:
            await asyncio.shield(feed.opened)
        return feed

    async def _rename(self, feed: InstanceFeed, namespace: str) -> None:
        """Whoever still listens under the former name is sent away: it may be another instance's tomorrow."""
        feed.namespace = namespace
        for listener in [one for one in feed.listeners.values() if one.namespace != namespace]:
            await self.cut(listener)

    async def _find_place(self, feed: InstanceFeed) -> None:
        try:
            feed.position = await database(Stream.objects.last_seq, feed.instance_id, pool=Pool.READS)
        except DatabaseError:
            self.feeds.pop(feed.instance_id, None)
            raise
        feed.opened = None
        self._notice(feed.instance_id, feed.target, None)

    def leave(self, listener: Listener, instance_id: UUID | None) -> None:
        feed = self.whole if instance_id is None else self.feeds.get(instance_id)
        if feed is None:
            return
        feed.listeners.pop(listener.sid, None)
        if not feed.listeners and isinstance(feed, InstanceFeed):
            self.feeds.pop(feed.instance_id, None)

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
