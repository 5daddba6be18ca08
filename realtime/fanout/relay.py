"""From the log to the sockets of this process: every event once, in order, whatever wakes us or fails to.

Hints say that something was committed; what they do not bring is read from the log. A listener that is behind is told
by a task of its own until it is level: resuming, `since` and slow readers are this alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, Protocol
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import OperationalError

from instances.events import EventType
from realtime.database import Pool, database
from realtime.fanout.feeds import PAGE, Feed, GlobalFeed, InstanceFeed, Listener
from realtime.log.bus import bus
from realtime.log.models import Event, Page
from realtime.log.stream import Stream

logger = logging.getLogger(__name__)

#: Seconds between two looks for what no hint reported.
SWEEP_INTERVAL = 1.0
#: Seconds after which commits that an older transaction of PostgreSQL's still held back are looked for again.
RETRY_DELAYS = (0.01, 0.05, 0.2)
#: Listeners that are told from the log at the same time; the others wait for their turn.
RESUMES = 32


class Sockets(Protocol):
    """What the relay asks of the Socket.IO server. `room` is the name of a room, or one listener's sid."""

    def emit_event(self, namespace: str, room: str, event: Event, place: Any, offset: str | None) -> None:
        """Send an event; the recipients are picked in this step."""

    def enter(self, listener: Listener, room: str) -> None: ...

    def leave(self, listener: Listener, room: str) -> None: ...

    async def drained(self, listener: Listener) -> None:
        """Wait until the listener's transport has taken what it is owed."""

    async def disconnect_listener(self, listener: Listener) -> None:
        """Send it away from its namespace for good."""


class Relay:
    """Tells this process's sockets. Everything in it runs on the event loop."""

    #: Those that have been started in this process.
    running: ClassVar[set[Relay]] = set()

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.feeds: dict[UUID, InstanceFeed] = {}
        self.global_feed = GlobalFeed("/", position=None)
        self._sweeping = asyncio.Lock()
        self._resumes = asyncio.Semaphore(RESUMES)
        self._reads: dict[tuple[Any, ...], asyncio.Task[Page]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self.global_feed.epoch = (await database(Stream.objects.global_stream)).epoch
        self.global_feed.position = await database(Event.objects.head)
        bus.listen(asyncio.get_running_loop(), self.on_hint)
        self.spawn(self._sweep_for_ever())
        self.running.add(self)

    async def stop(self) -> None:
        self.running.discard(self)
        bus.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What was committed

    def on_hint(self, events: list[Event]) -> None:
        """The bus's reader: these events of our own process are committed."""
        for event in events:
            self._notice(event.instance_id, event.seq, event)
        if self.global_feed.listeners:
            self.spawn(self._sweep_soon())

    def _notice(self, instance_id: UUID, seq: int, event: Event | None) -> None:
        feed = self.feeds.get(instance_id)
        if feed is None or (feed.position is not None and seq <= feed.position):
            return
        feed.target = max(feed.target, seq)
        if event is not None and feed.is_next(event) and event.type != EventType.REMOVE_INSTANCE:
            self._tell(feed, seq, event)
        elif event is not None:
            feed.held[seq] = event
        self._wake(feed)

    def _wake(self, feed: InstanceFeed) -> None:
        """One reader at a time; a later wake-up only raises its target."""
        if feed.reader is None and feed.position is not None and feed.position < feed.target:
            feed.reader = self.spawn(self._catch_up(feed))

    async def _catch_up(self, feed: InstanceFeed) -> None:
        """Emit up to the target, in order: from hints where they are whole, from the log where they are not."""
        try:
            while feed.position < feed.target:
                if feed.position + 1 not in feed.held:
                    await asyncio.sleep(0)  # the hooks of two threads often swap: give the other one a turn
                event = feed.held.pop(feed.position + 1, None)
                if event:
                    await self._emit(feed, event.seq, event)
                else:
                    await self._emit_page(feed, await self._read(feed, feed.position, feed.target))
                    feed.held = {seq: held for seq, held in feed.held.items() if seq > feed.position}
        except DatabaseError:
            logger.exception("The log could not be read; the sweep tries again")
        finally:
            feed.reader = None  # there is no wait since the last look at the target, so nothing is left behind

    async def _read(self, feed: Feed, after: Any, upto: Any) -> Page:
        """A page of the log; those who ask for the same one at the same time share it."""
        wanted = (feed, after, upto)
        reading = self._reads.get(wanted)
        if reading is None:
            reading = self._reads[wanted] = self.spawn(database(feed.page, after, upto, pool=Pool.READS))
            reading.add_done_callback(lambda _: self._reads.pop(wanted, None))
        return await asyncio.shield(reading)

    async def _emit_page(self, feed: Feed, page: Page) -> None:
        for place, event in page.entries:
            await self._emit(feed, place, event)
        feed.move(page.end)

    def _tell(self, feed: Feed, place: Any, event: Event) -> None:
        """Tell those who are level. The place moves in the step that picks the recipients: nobody joins between."""
        feed.move(place)
        if feed.is_heard(event):
            for audience in list(feed.audiences):
                if audience.wants(event):
                    offset = feed.offset(audience, place)
                    self.sockets.emit_event(feed.namespace, feed.room_of(audience), event, place, offset)

    async def _emit(self, feed: Feed, place: Any, event: Event) -> None:
        """The same; after its last event all leave an instance."""
        self._tell(feed, place, event)
        if event.type == EventType.REMOVE_INSTANCE and isinstance(feed, InstanceFeed):
            for listener in list(feed.listeners.values()):
                if listener.room:  # who is behind is sent away in its turn
                    await self.sockets.disconnect_listener(listener)

    # The sweep

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.sweep()
            except DatabaseError as error:
                logger.error("The sweep could not read the log; it tries again: %s", error)

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
            page = await self._read(self.global_feed, self.global_feed.position, None)
            for _, event in page.entries:
                self._notice(event.instance_id, event.seq, None)
            await self._emit_page(self.global_feed, page)
            passed += len(page.entries)
            if len(page.entries) < PAGE:
                break
        for feed in list(self.feeds.values()):
            self._wake(feed)  # a reader that failed left its target
        return passed

    # Listeners

    async def follow(self, listener: Listener) -> None:
        """Tell a listener from its place in the log, page by page, until it is level with its feed: then it is live.

        Returns when it is, or has left.
        """
        feed = await self.open(listener)
        while listener.sid in feed.listeners:
            await self.sockets.drained(listener)
            if listener.position == feed.position:
                self._enter(feed, listener)
                return
            async with self._resumes:
                await self._send_page(feed, listener, await self._read(feed, listener.position, feed.position))

    async def _send_page(self, feed: Feed, listener: Listener, page: Page) -> None:
        rewinds = listener.rewinds
        for place, event in page.entries:
            await self.sockets.drained(listener)
            if listener.rewinds != rewinds or listener.sid not in feed.listeners:
                return
            if feed.is_heard(event) and listener.audience.wants(event):
                offset = feed.offset(listener.audience, place)
                self.sockets.emit_event(listener.namespace, listener.sid, event, place, offset)
            listener.position = place
            if event.type == EventType.REMOVE_INSTANCE and isinstance(feed, InstanceFeed):
                await self.sockets.disconnect_listener(listener)
                return
        listener.position = page.end

    async def missed(self, feed: Feed, listener: Listener) -> AsyncIterator[Event]:
        """What a listener that never becomes live has not been told yet; its position moves along."""
        while listener.position != feed.position:
            page = await self._read(feed, listener.position, feed.position)
            for place, event in page.entries:
                listener.position = place
                if feed.is_heard(event) and listener.audience.wants(event):
                    yield event
            listener.position = page.end

    async def news(self, feed: Feed, position: Any, seconds: float) -> bool:
        """Wait until the feed is beyond a place, at most so long; returns whether it is."""
        if feed.position == position:
            moved = asyncio.get_running_loop().create_future()
            feed.waiting.add(moved)
            await asyncio.wait((moved,), timeout=seconds)
            feed.waiting.discard(moved)
        return bool(feed.position != position)

    def _enter(self, feed: Feed, listener: Listener) -> None:
        listener.room = feed.room_of(listener.audience)
        feed.audiences[listener.audience] += 1
        self.sockets.enter(listener, listener.room)

    def _exit(self, feed: Feed, listener: Listener) -> None:
        if listener.room is None:
            return
        self.sockets.leave(listener, listener.room)
        listener.room = None
        feed.audiences[listener.audience] -= 1
        if not feed.audiences[listener.audience]:
            del feed.audiences[listener.audience]

    def rewind(self, listener: Listener, position: Any) -> bool:
        """What a listener was told after this place will not reach it. Returns whether it was live, and must follow."""
        feed = self._feed(listener)
        if feed is None or listener.sid not in feed.listeners:
            return False
        was_live = listener.room is not None
        self._exit(feed, listener)
        listener.position = position
        listener.rewinds += 1
        return was_live

    async def open(self, listener: Listener) -> Feed:
        """The listener's feed, which knows its place, and is not behind the listener's. `leave` ends it."""
        if listener.instance_id is None:
            async with self._sweeping:
                await self._sweep()
                self.global_feed.listeners[listener.sid] = listener
            return self.global_feed
        feed = await self._open_instance(listener, listener.instance_id)
        if feed.position < listener.position:
            self._notice(feed.instance_id, listener.position, None)
            if feed.reader:
                await asyncio.shield(feed.reader)
            if feed.position < listener.position:
                raise OperationalError("The log could not be read")
        return feed

    async def _open_instance(self, listener: Listener, instance_id: UUID) -> InstanceFeed:
        """The feed exists before its place is read, so no hint falls between."""
        feed = self.feeds.get(instance_id)
        if feed is None:
            feed = self.feeds[instance_id] = InstanceFeed(instance_id, listener.namespace)
            feed.opened = self.spawn(self._find_place(feed))
        feed.listeners[listener.sid] = listener
        if feed.namespace != listener.namespace:
            await self._rename(feed, listener.namespace)
        if feed.opened:
            await asyncio.shield(feed.opened)
        return feed

    async def _find_place(self, feed: InstanceFeed) -> None:
        try:
            stream = await database(Stream.objects.state, feed.instance_id, pool=Pool.READS)
        except BaseException:
            self._close(feed)
            raise
        feed.epoch, feed.position = stream.epoch, stream.last_seq
        feed.opened = None
        self._wake(feed)

    async def _rename(self, feed: InstanceFeed, namespace: str) -> None:
        """Whoever still listens under the former name is sent away: it may be another instance's tomorrow."""
        feed.namespace = namespace
        for listener in [one for one in feed.listeners.values() if one.namespace != namespace]:
            await self.sockets.disconnect_listener(listener)

    def _feed(self, listener: Listener) -> Feed | None:
        return self.global_feed if listener.instance_id is None else self.feeds.get(listener.instance_id)

    def leave(self, listener: Listener) -> None:
        feed = self._feed(listener)
        if feed is None or listener.sid not in feed.listeners:
            return
        self._exit(feed, listener)
        del feed.listeners[listener.sid]
        if not feed.listeners and isinstance(feed, InstanceFeed):
            self._close(feed)

    def _close(self, feed: InstanceFeed) -> None:
        if self.feeds.get(feed.instance_id) is feed:
            del self.feeds[feed.instance_id]

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
