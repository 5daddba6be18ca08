"""The relay: emits the log to the sockets of this process, each event once and in order.

The bus hints at events that this process committed; events without a hint are read from the log. A listener that is
behind is sent the log's pages by a task of its own until it is live: resuming, `since` and slow readers all work so.
Events that cannot be read are skipped, and sent late (`SkippedEvents`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Protocol
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import OperationalError

from instances.bounds import CONCURRENT_REPLAYS, INSTANCE_REPLAYS, REPLAY_PAGE_EVENTS
from realtime.database import Pool, database
from realtime.fanout.fair_slots import FairSlots
from realtime.fanout.feeds import Feed, GlobalFeed, InstanceFeed, Listener
from realtime.fanout.skipped import SkippedEvents, read_again
from realtime.log import cursor
from realtime.log.bus import bus
from realtime.log.models import Event
from realtime.log.paging import Page, UnreadableEvent
from realtime.log.stream import Stream
from realtime.wire.turn import turn_of

logger = logging.getLogger(__name__)

#: Seconds between two sweeps for events without a hint.
SWEEP_INTERVAL = 1.0
#: Seconds before each new sweep for commits that an older transaction of PostgreSQL still precedes.
RETRY_DELAYS = (0.01, 0.05, 0.2)


class Sockets(Protocol):
    """The part of the Socket.IO server that the relay uses. A `room` is a room's name, or the sid of one listener."""

    def emit_event(self, namespace: str, room: str, event: Event, position: Any, offset: str | None) -> None:
        """Send an event to the clients that are in the room when this is called."""

    def enter(self, listener: Listener, room: str) -> None: ...

    def leave(self, listener: Listener, room: str) -> None: ...

    async def drained(self, listener: Listener) -> None:
        """Wait until the listener's transport has taken the packets queued for it."""

    def takes_more(self, listener: Listener) -> bool:
        """Return whether `drained` would not wait."""

    async def disconnect_listener(self, listener: Listener) -> None:
        """Disconnect the listener from its namespace for good."""


class _ReplayRead:
    """A page that is read, or waits for a slot, and the listeners that wait for it."""

    task: asyncio.Task[Page | None]

    def __init__(self) -> None:
        self.listeners: list[Listener] = []


class Relay:
    """Emits committed events to the sockets of this process. All of it runs on the event loop."""

    #: The relays that have been started in this process.
    running: ClassVar[set[Relay]] = set()

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.feeds: dict[UUID, InstanceFeed] = {}
        self.global_feed = GlobalFeed("/", position=None)
        self._sweeping = asyncio.Lock()
        #: Set by hints while `/` has listeners, until the next sweep begins.
        self._is_sweep_due = asyncio.Event()
        #: Held while a page is sent, and never while a client is waited for.
        self._sending = asyncio.Lock()
        self._skipped = SkippedEvents()
        self._replays = FairSlots(CONCURRENT_REPLAYS, INSTANCE_REPLAYS)
        self._reads: dict[tuple[Any, ...], asyncio.Task[Page]] = {}
        #: The pages that are read, or wait for a slot, for listeners that are behind, by feed and position.
        self._replay_reads: dict[tuple[Feed, Any], _ReplayRead] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Seconds from recording an event to emitting it, at most since `take_lag`.
        self._lag = 0.0

    async def start(self) -> None:
        self.global_feed.epoch = (await database(Stream.objects.global_stream)).epoch
        self.global_feed.position = await database(Event.objects.head)
        bus.listen(asyncio.get_running_loop(), self.on_hint)
        self.running.add(self)

    async def stop(self) -> None:
        self.running.discard(self)
        bus.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a task that `stop` cancels."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Committed events

    def on_hint(self, events: list[Event]) -> None:
        """Emit events that this process has committed; the bus calls it."""
        for event in events:
            self._notice(event.instance_id, event.seq, event)
        if self.global_feed.listeners:
            self._is_sweep_due.set()

    def _notice(self, instance_id: UUID, seq: int, event: Event | None) -> None:
        """Emit a committed event if it is the next one, else have the feed catch up to it."""
        feed = self.feeds.get(instance_id)
        if feed is None or (feed.position is not None and seq <= feed.position):
            return
        feed.target = max(feed.target, seq)
        if event is not None and feed.is_next(event) and not feed.is_last(event):
            self._emit(feed, seq, event)
        elif event is not None and len(feed.pending) < REPLAY_PAGE_EVENTS:
            feed.pending[seq] = event  # those beyond are read from the log
        self._ensure_reader(feed)

    def _ensure_reader(self, feed: InstanceFeed) -> None:
        """Have one task catch up with the feed's target; where there is one, it sees the target that was raised."""
        if feed.reader is None and feed.position is not None and feed.position < feed.target:
            feed.reader = self.spawn(self._catch_up(feed))

    async def _catch_up(self, feed: InstanceFeed) -> None:
        """Emit up to the target in order, from the pending hints where there are any and else from the log."""
        try:
            while feed.position < feed.target:
                if feed.position + 1 not in feed.pending:
                    await asyncio.sleep(0)  # the commit hooks of two threads often swap: the next hint may be here soon
                event = feed.pending.pop(feed.position + 1, None)
                if event:
                    await self._emit_entry(feed, event.seq, event)
                else:
                    await self._emit_page(feed, await self._read_page(feed, feed.position, feed.target))
                    feed.pending = {seq: pending for seq, pending in feed.pending.items() if seq > feed.position}
        except DatabaseError:
            logger.exception("The log could not be read; the sweep tries again")
        finally:
            feed.reader = None  # nothing is awaited since the target was last compared, so no event is left behind

    async def _read_page(self, feed: Feed, after: Any, upto: Any) -> Page:
        """Read a page of the log; concurrent calls for the same page share one read."""
        key = (feed, after, upto)
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = self.spawn(database(feed.page, after, upto, pool=Pool.READS))
            read.add_done_callback(lambda done: _retrieve(done, self._reads.pop(key, None)))
        return await asyncio.shield(read)

    async def _emit_page(self, feed: Feed, page: Page) -> None:
        for position, event in page.entries:
            await self._emit_entry(feed, position, event)
        feed.advance(page.end)

    async def _emit_entry(self, feed: Feed, position: Any, event: Event | UnreadableEvent) -> None:
        """Emit an event, or skip it; after an instance's last one disconnect its live listeners."""
        if isinstance(event, UnreadableEvent):
            feed.advance(position)
            self._skipped.add(event, [listener for listener in feed.listeners.values() if listener.room])
        else:
            self._emit(feed, position, event)
        if feed.is_last(event):
            for listener in list(feed.listeners.values()):
                if listener.room:  # those behind are disconnected after their own last event
                    await self.sockets.disconnect_listener(listener)

    def _emit(self, feed: Feed, position: Any, event: Event) -> None:
        """Emit an event to the live listeners.

        The position moves in the same step that picks the recipients: no listener becomes live between.
        """
        feed.advance(position)
        if feed.includes(event):
            if feed.listeners:
                self._lag = max(self._lag, time.time() - event.created_at.timestamp())
            for audience, room in list(feed.rooms.items()):
                if audience.wants(event):
                    offset = feed.offset(audience, position)
                    room.sent += 1  # before it is emitted: what does not fit is dropped, and not counted
                    self.sockets.emit_event(feed.namespace, room.name, event, position, offset)

    def take_lag(self) -> int:
        """Return the milliseconds from recording an event to emitting it, at most since the last call."""
        lag, self._lag = self._lag, 0.0
        return round(lag * 1000)

    # The sweep

    async def sweep_forever(self) -> None:
        """Sweep at intervals and, while `/` has listeners, after hints: one sweep for all hints that came before it.

        A supervisor runs it. Raises django.db.Error.
        """
        retries: Iterator[float] = iter(())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(next(retries, SWEEP_INTERVAL)):
                    await self._is_sweep_due.wait()
                    retries = iter(RETRY_DELAYS)
            self._is_sweep_due.clear()
            if await self.sweep():
                retries = iter(())

    async def sweep(self) -> int:
        """Emit all events committed since the last sweep, to `/` and to the feeds that missed them.

        Returns the number of events. Raises django.db.Error.
        """
        async with self._sweeping:
            return await self._sweep()

    async def _sweep(self) -> int:
        count = 0
        while True:
            page = await self._read_page(self.global_feed, self.global_feed.position, None)
            for _, event in page.entries:
                if event.instance_id:
                    self._notice(event.instance_id, event.seq, None)
            await self._emit_page(self.global_feed, page)
            count += len(page.entries)
            if not page.has_more:
                break
        for feed in list(self.feeds.values()):
            self._ensure_reader(feed)  # a reader that failed left its target
        await self._send_skipped()
        return count

    async def _send_skipped(self) -> None:
        """Send the events that were skipped and can be read now to those that they were skipped for."""
        due = self._skipped.due(self._is_there)
        if not due:
            return
        turn = turn_of(asyncio.get_running_loop())
        for key, event in (await database(read_again, due, pool=Pool.READS)).items():
            for listener in self._skipped.pop(key):
                if turn.is_over:
                    await asyncio.sleep(0)
                self._send_late(listener, event)
            # skipped for nobody, where its instance was not known: its feed may not have come to it
            self._notice(event.instance_id, event.seq, None)

    def _is_there(self, listener: Listener) -> bool:
        feed = self._feed(listener)
        return feed is not None and feed.listeners.get(listener.sid) is listener

    def _send_late(self, listener: Listener, event: Event) -> None:
        """Send an event out of order; the listener's position, and so the offset that it goes on from, stays."""
        feed = self._feed(listener)
        if feed is None or not self._is_there(listener):
            return
        if not (feed.includes(event) and listener.audience.wants(event)):
            return
        if listener.late is not None:
            listener.late.append(event)
            feed.advance(feed.position)  # wakes it
            return
        if not self.sockets.takes_more(listener):
            self._skipped.add(UnreadableEvent(event.pk, event.instance_id, event.seq), [listener])
            return
        position = feed.position if listener.room else listener.position
        offset = feed.offset(listener.audience, position)
        listener.sent += 1
        # if it is dropped from the queue, the log is read again from the same position on
        self.sockets.emit_event(listener.namespace, listener.sid, event, cursor.after(position), offset)

    # Listeners

    async def add_listener(self, listener: Listener) -> Feed:
        """Add a listener to its feed and return the feed, opened and not behind the listener.

        Raises django.db.Error where the log cannot be read, Instance.DoesNotExist where the instance is gone without
        a stream. `remove_listener` undoes it.
        """
        if listener.instance_id is None:
            async with self._sweeping:
                await self._sweep()
                self.global_feed.listeners[listener.sid] = listener
            return self.global_feed
        feed = await self._open_feed(listener, listener.instance_id)
        if feed.position < listener.position:
            self._notice(feed.instance_id, listener.position, None)
            if feed.reader:
                await asyncio.shield(feed.reader)
            if feed.position < listener.position:
                raise OperationalError("The log could not be read")
        return feed

    async def _open_feed(self, listener: Listener, instance_id: UUID) -> InstanceFeed:
        """Return an instance's feed with the listener in it.

        A new feed is known before its position is read, so that no hint is lost meanwhile.
        """
        feed = self.feeds.get(instance_id)
        if feed is None:
            feed = self.feeds[instance_id] = InstanceFeed(instance_id, listener.namespace)
            feed.opening = self.spawn(self._load_position(feed))
        feed.listeners[listener.sid] = listener
        if feed.namespace != listener.namespace:
            await self._settle_name(feed, listener)
        feed.revision = max(feed.revision, listener.revision)
        if feed.opening:
            await asyncio.shield(feed.opening)
        return feed

    async def _load_position(self, feed: InstanceFeed) -> None:
        try:
            stream = await database(Stream.objects.state, feed.instance_id, pool=Pool.READS)
        except BaseException:
            self._close_feed(feed)
            raise
        feed.epoch, feed.position = stream.epoch, stream.last_seq
        feed.opening = None
        self._ensure_reader(feed)

    async def _settle_name(self, feed: InstanceFeed, newcomer: Listener) -> None:
        """Take the newest name for a feed's, and disconnect the listeners under a former one.

        The former name may be another instance's tomorrow. A listener that was authorized before the instance was
        renamed may come after one that was authorized since. Those disconnected receive nothing from here on, however
        long that takes.
        """
        if newcomer.revision >= feed.revision:
            feed.namespace = newcomer.namespace
        former = [listener for listener in feed.listeners.values() if listener.namespace != feed.namespace]
        for listener in former:
            self.remove_listener(listener)
        for listener in former:
            await self.sockets.disconnect_listener(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Take a listener out of its feed, and close an instance's feed that has none left."""
        feed = self._feed(listener)
        if feed is None or listener.sid not in feed.listeners:
            return
        self._end_live(feed, listener)
        del feed.listeners[listener.sid]
        if not feed.listeners and isinstance(feed, InstanceFeed):
            self._close_feed(feed)

    def _feed(self, listener: Listener) -> Feed | None:
        return self.global_feed if listener.instance_id is None else self.feeds.get(listener.instance_id)

    def feed_of(self, listener: Listener) -> Feed | None:
        """Return the feed that a listener is in; None before it has been added, and once it has left."""
        return self._feed(listener) if self._is_there(listener) else None

    def listeners_of(self, instance_id: UUID) -> int:
        """Return the number of listeners in an instance's namespace; from any thread."""
        feed = self.feeds.get(instance_id)
        return len(feed.listeners) if feed else 0

    def _close_feed(self, feed: InstanceFeed) -> None:
        if self.feeds.get(feed.instance_id) is feed:
            del self.feeds[feed.instance_id]

    # Listeners that are behind

    async def follow(self, listener: Listener) -> None:
        """Send a listener the log from its position on, page by page, until it has caught up with its feed and is live.

        Returns then, or when the listener has left. Raises django.db.Error, and Instance.DoesNotExist.
        """
        feed = await self.add_listener(listener)
        while listener.sid in feed.listeners:
            await self.sockets.drained(listener)
            after = listener.position
            if after == feed.position:
                self._make_live(feed, listener)
                return
            page = await self._read_replay(feed, listener)
            if page and await self._send_page(feed, listener, page, after):
                await self.sockets.disconnect_listener(listener)
                return

    async def _read_replay(self, feed: Feed, listener: Listener) -> Page | None:
        """Read the page after a listener's position, once for all that wait for it; None if none of them takes more."""
        key = (feed, listener.position)
        read = self._replay_reads.get(key)
        if read is None:
            read = self._replay_reads[key] = _ReplayRead()
            read.task = self.spawn(self._read_for(read, *key))
            read.task.add_done_callback(lambda done: _retrieve(done, self._replay_reads.pop(key, None)))
        read.listeners.append(listener)
        return await asyncio.shield(read.task)

    async def _read_for(self, read: _ReplayRead, feed: Feed, after: Any) -> Page | None:
        """Read a page in a slot, which is held while the log is read and never while a client is waited for."""
        async with self._replays.slot(feed.room_prefix):
            if not any(self.sockets.takes_more(listener) for listener in read.listeners):
                return None  # other namespaces have filled their connections
            return await self._read_page(feed, after, feed.position)

    async def _send_page(self, feed: Feed, listener: Listener, page: Page, after: Any) -> bool:
        """Send as much of a page as the listener's transport takes; it is not kept for the rest, but read again.

        Nothing is sent if the listener has left or was set back from the position `after` meanwhile. Pages are sent one
        after the other: thousands of listeners may wait for the same one. Returns whether the feed's last event was
        sent.
        """
        turn = turn_of(asyncio.get_running_loop())
        async with self._sending:
            for position, event in page.entries:
                if turn.is_over:
                    await asyncio.sleep(0)
                if listener.position != after or listener.sid not in feed.listeners:
                    return False
                if isinstance(event, UnreadableEvent):
                    listener.position = after = position
                    self._skipped.add(event, [listener])
                elif feed.includes(event) and listener.audience.wants(event):
                    if not self.sockets.takes_more(listener):
                        return False
                    offset = feed.offset(listener.audience, position)
                    listener.position = after = position  # before it is sent: what does not fit sets it back
                    self._skipped.discard(event, listener)
                    listener.sent += 1
                    self.sockets.emit_event(listener.namespace, listener.sid, event, position, offset)
                else:
                    listener.position = after = position
                if feed.is_last(event):
                    return True
            if listener.position == after:
                listener.position = page.end
            return False

    def _make_live(self, feed: Feed, listener: Listener) -> None:
        room = feed.enter(listener.audience)
        listener.room, listener.room_began = room.name, room.sent
        self.sockets.enter(listener, room.name)

    def _end_live(self, feed: Feed, listener: Listener) -> None:
        if listener.room is None:
            return
        self.sockets.leave(listener, listener.room)
        listener.sent = feed.sent(listener)
        listener.room = None
        feed.leave(listener.audience)

    def rewind(self, listener: Listener, position: Any, dropped: int = 0) -> bool:
        """Set a listener back to a position, as so many events after it were dropped.

        Returns whether it was live, so that the caller has to `follow` again.
        """
        feed = self._feed(listener)
        if feed is None or listener.sid not in feed.listeners:
            return False
        was_live = listener.room is not None
        self._end_live(feed, listener)
        listener.position = position
        listener.sent -= dropped
        listener.rewinds += 1
        return was_live

    async def replay(self, feed: Feed, listener: Listener) -> AsyncIterator[Event]:
        """Yield the late events of a listener that never becomes live, then those up to the position of its feed.

        Moves the listener's position along.
        """
        turn = turn_of(asyncio.get_running_loop())
        while listener.late:
            listener.sent += 1
            yield listener.late.popleft()
        while listener.position != feed.position:
            page = await self._read_replay(feed, listener)
            if page is None:
                continue
            for position, event in page.entries:
                while turn.is_over:  # noqa: ASYNC110 (nobody sets an event when the loop turns)
                    await asyncio.sleep(0)
                listener.position = position
                if isinstance(event, UnreadableEvent):
                    self._skipped.add(event, [listener])
                elif feed.includes(event) and listener.audience.wants(event):
                    self._skipped.discard(event, listener)
                    listener.sent += 1
                    yield event
            listener.position = page.end

    async def wait_beyond(self, feed: Feed, position: Any, seconds: float) -> bool:
        """Wait at most so many seconds for the feed to move beyond a position; return whether it has."""
        if feed.position == position:
            moved = asyncio.get_running_loop().create_future()
            feed.waiters.add(moved)
            await asyncio.wait((moved,), timeout=seconds)
            feed.waiters.discard(moved)
        return bool(feed.position != position)


def _retrieve(done: asyncio.Task[Any], _: object) -> None:
    """Mark the error of a read as retrieved: all that waited for it may have left."""
    if not done.cancelled():
        done.exception()
