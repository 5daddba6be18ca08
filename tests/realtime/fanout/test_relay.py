"""The relay with the real log: it emits each event once and in order, to sockets that only record what it emits."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction

from instances.bounds import REPLAY_PAGE_BYTES
from instances.events import EventType
from instances.models import Instance
from realtime.database import Pool, database
from realtime.fanout import relay as relay_module
from realtime.fanout.feeds import Audience, Listener
from realtime.fanout.relay import Relay
from realtime.log import paging
from realtime.log.bus import bus
from realtime.log.models import Event
from realtime.log.paging import page_of_instance
from realtime.log.stream import Stream

pytestmark = pytest.mark.django_db(transaction=True)


ALL_EVENTS = Audience()


class Sockets:
    """A stand-in for the Socket.IO server: its rooms, and the events that each listener received."""

    def __init__(self):
        self.relay = Relay(self)
        self.rooms = {}
        self.received = {}
        self.disconnected = []
        self.on_emit = lambda: None
        self.emitted = asyncio.Event()
        self.is_drained = asyncio.Event()
        self.is_drained.set()

    def emit_event(self, namespace, room, event, position, offset):
        for sid in self.rooms.get((namespace, room), [room]):
            self.received.setdefault(sid, []).append((event.name, event.seq, offset))
        self.emitted.set()
        self.on_emit()

    def enter(self, listener, room):
        self.rooms.setdefault((listener.namespace, room), set()).add(listener.sid)

    def leave(self, listener, room):
        self.rooms[listener.namespace, room].remove(listener.sid)
        if not self.rooms[listener.namespace, room]:
            del self.rooms[listener.namespace, room]

    async def drained(self, listener):
        await self.is_drained.wait()

    def takes_more(self, listener):
        return self.is_drained.is_set()

    async def disconnect_listener(self, listener):
        self.disconnected.append(listener.sid)
        self.relay.remove_listener(listener)

    async def join(self, sid, instance=None, position=None, audience=ALL_EVENTS):
        if position is None:
            position = (await database(Stream.objects.state, instance.pk)).last_seq if instance else await head()
        namespace, instance_id = (f"/{instance.name}", instance.pk) if instance else ("/", None)
        listener = Listener(sid, namespace, instance_id, position, audience)
        await self.relay.follow(listener)
        return listener

    def seqs(self, sid):
        return [seq for _, seq, _ in self.received.get(sid, [])]

    async def until(self, sid, seqs):
        await self._until(lambda: self.seqs(sid)[: len(seqs)] == seqs)

    async def until_last(self, sid, seq):
        await self._until(lambda: self.seqs(sid)[-1:] == [seq])

    async def _until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.emitted.clear()
                try:
                    await asyncio.wait_for(self.emitted.wait(), 0.5)
                except TimeoutError:
                    # a transaction in another database of this PostgreSQL may delay `/` for a moment
                    await self.relay.sweep()


async def head():
    """The cursor after all committed events, which another transaction on this PostgreSQL may delay for a moment."""
    while True:
        cursor = await database(Event.objects.head)
        beyond = Event.objects.exclude(pk__in=Event.objects.past(cursor).values("pk"))
        if not await database(beyond.exists):
            return cursor
        await asyncio.sleep(0.02)


@pytest.fixture
async def sockets(monkeypatch):
    monkeypatch.setattr(relay_module, "SWEEP_INTERVAL", 3600)  # tests sweep when they mean to
    sockets = Sockets()
    await sockets.relay.start()
    sweeping = asyncio.create_task(sockets.relay.sweep_forever())
    yield sockets
    sweeping.cancel()
    await sockets.relay.stop()


@pytest.fixture
def instance():
    return Instance.objects.create(name="loja")


def record(instance, count=1):
    return [Event.objects.record(instance, EventType.CALL, {"n": n}) for n in range(count)]


@pytest.fixture
async def unhinted(sockets):
    """record() while the relay does not listen to the bus, as if another process recorded; returns the events."""
    loop = asyncio.get_running_loop()

    def record_unhinted(instance, count=1):
        bus.stop()
        try:
            return record(instance, count)
        finally:
            bus.listen(loop, sockets.relay.on_hint)

    return record_unhinted


async def test_a_committed_event_is_emitted_at_once(sockets, instance):
    await sockets.join("a", instance)
    await database(record, instance, 3)

    await sockets.until("a", [2, 3, 4])


async def test_swapped_hints_are_emitted_in_order_without_reading_the_log(sockets, instance, unhinted):
    await sockets.join("a", instance)
    first, second = await database(unhinted, instance, 2)
    await database(Event.objects.all().delete)  # only the hints have the events now

    sockets.relay.on_hint([second])
    await asyncio.sleep(0)  # the reader has begun, and finds a gap
    sockets.relay.on_hint([first])

    await sockets.until("a", [2, 3])


async def test_the_next_hint_makes_up_for_a_lost_one(sockets, instance, unhinted):
    await sockets.join("a", instance)
    _, _, third = await database(unhinted, instance, 3)

    sockets.relay.on_hint([third])

    await sockets.until("a", [2, 3, 4])


async def test_late_and_repeated_hints_emit_nothing_again(sockets, instance):
    await sockets.join("a", instance)
    events = await database(record, instance, 3)
    await sockets.until("a", [2, 3, 4])

    sockets.relay.on_hint([*events, *reversed(events)])
    await database(record, instance, 1)

    await sockets.until("a", [2, 3, 4, 5])
    assert not sockets.relay.feeds[instance.pk].pending


async def test_an_event_that_is_rolled_back_is_never_emitted(sockets, instance):
    await sockets.join("a", instance)
    await sockets.join("all")

    def change_of_mind():
        with transaction.atomic():
            record(instance)
            transaction.set_rollback(True)

    await database(change_of_mind)
    await sockets.relay.sweep()
    assert sockets.received == {}

    await database(record, instance)
    await sockets.until("a", [2])
    await sockets.until("all", [2])


@pytest.mark.parametrize("is_global", [False, True])
async def test_a_listener_that_joins_between_two_events_of_one_turn_gets_each_once(sockets, instance, is_global):
    owner = None if is_global else instance
    position = await head() if is_global else 1
    await sockets.join("first", owner)
    joining = []

    def join_once():
        if not joining:
            joining.append(asyncio.create_task(sockets.join("late", owner, position=position)))

    sockets.on_emit = join_once
    await database(record, instance, 5)
    await sockets.until("first", [2, 3, 4, 5, 6])
    await joining[0]
    await database(record, instance)

    await sockets.until("late", [2, 3, 4, 5, 6, 7])
    assert sockets.seqs("late") == [2, 3, 4, 5, 6, 7]


async def test_a_rewound_listener_gets_the_events_after_that_position_again(sockets, instance):
    listener = await sockets.join("slow", instance)
    await sockets.join("quick", instance)
    await database(record, instance, 3)
    await sockets.until("slow", [2, 3, 4])
    sockets.received["slow"].clear()
    sockets.is_drained.clear()

    assert sockets.relay.rewind(listener, 2), "3 and 4 were dropped"
    following = asyncio.create_task(sockets.relay.follow(listener))
    await database(record, instance)
    await sockets.until("quick", [2, 3, 4, 5])
    assert sockets.seqs("slow") == []

    sockets.is_drained.set()
    await following
    await database(record, instance)
    await sockets.until("slow", [3, 4, 5, 6])
    assert sockets.seqs("quick") == [2, 3, 4, 5, 6]


async def test_offsets_are_sent_only_to_listeners_that_want_them(sockets, instance):
    await sockets.join("plain", instance)
    await sockets.join("resuming", instance, audience=Audience(wants_offsets=True))
    await database(record, instance)
    await sockets.until("resuming", [2])

    epoch = (await database(Stream.objects.state, instance.pk)).epoch
    assert sockets.received == {"plain": [("loja", 2, None)], "resuming": [("loja", 2, f"{epoch}.2")]}


@pytest.mark.parametrize("position", [1, None])
async def test_a_filter_narrows_the_events_of_one_listener(sockets, instance, position):
    audience = Audience(events=frozenset({"labels.edit"}))
    if position is None:
        await sockets.join("some", instance, audience=audience)
    await database(record, instance, 2)
    await database(Event.objects.record, instance, EventType.LABELS_EDIT, {})
    if position is not None:
        await sockets.join("some", instance, position, audience)
    await database(record, instance)
    await database(Event.objects.record, instance, EventType.LABELS_EDIT, {})

    await sockets.until("some", [4, 6])


async def test_the_sweep_finds_events_without_a_hint(sockets, instance, unhinted):
    await sockets.join("a", instance)
    await sockets.join("all")
    await database(unhinted, instance, 2)

    await sockets.relay.sweep()

    await sockets.until("a", [2, 3])
    await sockets.until("all", [2, 3])


async def test_more_than_a_page_is_emitted_in_order(sockets, instance, unhinted, monkeypatch):
    monkeypatch.setattr(paging, "REPLAY_PAGE_EVENTS", 4)
    await sockets.join("a", instance)
    await sockets.join("all")
    await database(unhinted, instance, 11)

    await sockets.relay.sweep()

    await sockets.until("a", list(range(2, 13)))
    await sockets.until("all", list(range(2, 13)))


async def test_a_listener_starts_from_its_own_position(sockets, instance):
    await database(record, instance, 5)
    await sockets.join("new", instance)
    await sockets.join("old", instance, position=3)
    await database(record, instance, 1)

    await sockets.until("old", [4, 5, 6, 7])
    assert sockets.seqs("new") == [7]


async def test_a_listener_ahead_of_the_feed_gets_nothing_again(sockets, instance, unhinted):
    await sockets.join("a", instance)
    await database(unhinted, instance, 2)  # this process does not know them yet
    await sockets.join("b", instance)
    await database(record, instance, 1)

    await sockets.until("a", [2, 3, 4])
    assert sockets.seqs("b") == [4]


async def test_no_event_is_lost_between_authorization_and_joining(sockets, instance):
    """Ten listeners join while events are recorded: each gets all that follow its position, once and in order."""
    stop = threading.Event()

    def record_continuously():
        try:
            while not stop.is_set():
                record(instance)
        finally:
            connection.close()

    writer = threading.Thread(target=record_continuously)
    writer.start()
    try:
        starts = {}
        for number in range(10):
            for sid, owner in ((f"i{number}", instance), (f"w{number}", None)):
                listener = await sockets.join(sid, owner)
                starts[sid] = listener
            await asyncio.sleep(0.02)
    finally:
        stop.set()
        writer.join()
    last = (await database(Stream.objects.state, instance.pk)).last_seq
    await sockets.relay.sweep()

    for sid in starts:
        await sockets.until_last(sid, last)
        first = sockets.seqs(sid)[0]
        assert sockets.seqs(sid) == list(range(first, last + 1)), sid


@asynccontextmanager
async def wrapped_reads(wrapper):
    """Run `wrapper` around each query of the threads that read the log (Django's `execute_wrapper`)."""
    all_threads = threading.Barrier(4)

    async def in_all_threads(change):
        await asyncio.gather(*[database(in_one_thread, change, pool=Pool.READS) for _ in range(all_threads.parties)])

    def in_one_thread(change):
        all_threads.wait(10)
        change(connection.execute_wrappers)

    await in_all_threads(lambda wrappers: wrappers.append(wrapper))
    yield
    await in_all_threads(lambda wrappers: wrappers.remove(wrapper))


async def test_a_burst_of_hints_makes_one_sweep_due(sockets, instance, unhinted):
    """`/` has a listener, and the log cannot be read for a while."""
    await sockets.join("all")
    events = await database(unhinted, instance, 3)
    may_continue = threading.Event()
    reading = [asyncio.ensure_future(database(may_continue.wait, 10, pool=Pool.READS)) for _ in range(4)]
    before = len(asyncio.all_tasks())

    for _ in range(200):
        sockets.relay.on_hint(events)
        await asyncio.sleep(0)
    tasks = len(asyncio.all_tasks()) - before
    may_continue.set()
    await asyncio.gather(*reading)

    await sockets.until("all", [2, 3, 4])
    assert tasks < 10


async def test_filters_that_nobody_has_any_more_are_forgotten(sockets, instance):
    await sockets.join("stays", instance)
    types = [event_type.value for event_type in EventType]

    async def join_and_leave(numbers):
        for number in numbers:
            events = frozenset(name for bit, name in enumerate(types) if number >> bit & 1)
            listener = await sockets.join("comes and goes", instance, position=1, audience=Audience(events=events))
            sockets.relay.remove_listener(listener)

    await join_and_leave(range(2**30, 2**30 + 500))
    tracemalloc.start()
    try:
        await join_and_leave(range(2**31, 2**31 + 5000))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000


async def test_a_joiner_from_before_a_rename_does_not_take_the_name_back(sockets, instance):
    """It was authorized first, and arrives after one that was authorized under the new name."""
    late = Listener("late", "/loja", instance.pk, 1, revision=7)
    await sockets.relay.follow(Listener("new", "/loja nova", instance.pk, 1, revision=8))
    await sockets.relay.follow(late)
    await database(record, instance)

    await sockets.until("new", [2])
    assert sockets.disconnected == ["late"]
    assert sockets.seqs("late") == []


@pytest.mark.bound("LIMIT_REPLAY_PAGE_BYTES")
async def test_large_events_are_read_a_few_at_a_time(sockets, instance, unhinted):
    await sockets.join("a", instance)
    await sockets.join("all")
    size = REPLAY_PAGE_BYTES // 3

    def record_large():
        return [Event.objects.record(instance, EventType.CALL, {"padding": "x" * size}) for _ in range(10)]

    await database(record_large)
    pages, after = [], 1
    while after < 11:
        page = await database(page_of_instance, instance.pk, after, 11)
        pages.append(len(page.entries))
        after = page.end

    assert pages == [2, 2, 2, 2, 2]
    await sockets.join("late", instance, position=1)
    await sockets.relay.sweep()
    for sid in ("a", "late", "all"):
        await sockets.until(sid, list(range(2, 12)))


async def test_hints_during_the_opening_of_a_feed_are_not_lost(sockets, instance):
    position_is_read, may_continue = threading.Event(), threading.Event()

    def slow(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if Stream._meta.db_table in sql:
            position_is_read.set()
            assert may_continue.wait(10)
        return result

    async with wrapped_reads(slow):
        joining = asyncio.create_task(sockets.join("a", instance, position=1))
        assert await asyncio.to_thread(position_is_read.wait, 10)
        await database(record, instance, 2)
        may_continue.set()
        await joining

    await sockets.until("a", [2, 3])


async def test_a_feed_without_listeners_is_closed(sockets, instance):
    listener = await sockets.join("a", instance)
    assert instance.pk in sockets.relay.feeds

    sockets.relay.remove_listener(listener)

    assert instance.pk not in sockets.relay.feeds


async def test_pruned_events_count_as_past(sockets, instance, unhinted):
    await sockets.join("a", instance)
    events = await database(unhinted, instance, 4)
    await database(Event.objects.filter(seq__lte=4).delete)

    sockets.relay.on_hint([events[-1]])
    await database(record, instance, 1)

    await sockets.until("a", [5, 6])


async def test_listeners_of_a_deleted_instance_are_disconnected(sockets, instance):
    await sockets.join("a", instance)
    await database(instance.delete)

    await sockets.until("a", [2, 3])
    assert sockets.disconnected == ["a"]


async def test_listeners_under_a_former_name_are_disconnected(sockets, instance):
    await sockets.join("old", instance)
    instance.name = "loja velha"
    await database(instance.save)
    await sockets.join("new", instance)

    assert sockets.disconnected == ["old"]


async def test_the_root_namespace_gets_the_events_of_all_instances_each_in_its_order(sockets, instance):
    other = await database(Instance.objects.create, name="other")
    await sockets.join("all")
    for _ in range(3):
        await database(record, instance)
        await database(record, other)
    await sockets.relay.sweep()
    await sockets.until("all", [2, 2, 3, 3, 4, 4])

    assert [name for name, *_ in sockets.received["all"]] == ["loja", "other"] * 3


@pytest.mark.postgres
async def test_transactions_that_overlap_lose_and_swap_no_events(sockets, instance, unhinted):
    """One transaction begins first and commits last: its events are emitted, after those that it waited for."""
    other = await database(Instance.objects.create, name="other")
    await sockets.join("all")
    began, may_commit = threading.Event(), threading.Event()

    def slow():
        try:
            with transaction.atomic():
                Instance.objects.filter(pk=other.pk).update(profile_name="busy")  # has its id from here on
                began.set()
                assert may_commit.wait(10)
                unhinted(instance)  # numbered after the events that committed meanwhile
                unhinted(other)
        finally:
            connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    await asyncio.to_thread(began.wait, 10)
    await database(unhinted, instance, 2)
    assert await sockets.relay.sweep() == 0, "events that a running transaction may still precede must wait"
    may_commit.set()
    await asyncio.to_thread(thread.join)
    await sockets.relay.sweep()

    assert [seq for name, seq, _ in sockets.received["all"] if name == "loja"] == [2, 3, 4]
    assert [seq for name, seq, _ in sockets.received["all"] if name == "other"] == [2]


async def test_a_listener_of_the_root_namespace_that_is_behind_gets_the_rest_in_order(sockets, instance, unhinted):
    position = await head()
    await database(unhinted, instance, 3)
    await sockets.relay.sweep()
    await database(unhinted, instance, 3)

    await sockets.join("late", position=position)
    await database(record, instance, 1)

    await sockets.until("late", [2, 3, 4, 5, 6, 7, 8])


# Lag


async def test_the_lag_is_that_of_the_latest_emission_until_it_is_taken(sockets, instance, unhinted):
    await sockets.join("a", instance)
    [first] = await database(unhinted, instance)
    assert sockets.relay.take_lag() == 0
    late = first.created_at - timedelta(seconds=5)
    await database(Event.objects.filter(instance_id=instance.pk, seq=first.seq).update, created_at=late)

    await sockets.relay.sweep()
    await sockets.until("a", [first.seq])

    assert 5000 <= sockets.relay.take_lag() < 60_000
    assert sockets.relay.take_lag() == 0


async def test_there_is_no_lag_without_listeners(sockets, instance, unhinted):
    await database(unhinted, instance)
    await sockets.relay.sweep()

    assert sockets.relay.take_lag() == 0
