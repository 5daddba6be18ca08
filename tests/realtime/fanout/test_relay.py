"""Invariants 3 and 4 on the relay itself, with the real log and sockets that only note what they are told."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import connection, transaction

from instances.events import EventType
from instances.models import Instance
from realtime.database import database
from realtime.fanout import relay as relay_module
from realtime.fanout.feeds import Audience, Listener
from realtime.fanout.relay import Relay
from realtime.log.bus import bus
from realtime.log.models import Event
from realtime.log.stream import Stream

pytestmark = pytest.mark.django_db(transaction=True)


EVERYBODY = Audience()


class Sockets:
    """In place of the Socket.IO server: rooms, and what each listener was told."""

    def __init__(self):
        self.relay = Relay(self)
        self.rooms = {}
        self.told = {}
        self.was_cut = []
        self.news = asyncio.Event()
        self.is_drained = asyncio.Event()
        self.is_drained.set()

    def emit_event(self, namespace, room, event, place, offset):
        for sid in self.rooms.get((namespace, room), [room]):
            self.told.setdefault(sid, []).append((event.name, event.seq, offset))
        self.news.set()

    def enter(self, listener, room):
        self.rooms.setdefault((listener.namespace, room), set()).add(listener.sid)

    def leave(self, listener, room):
        self.rooms[listener.namespace, room].remove(listener.sid)

    async def drained(self, listener):
        await self.is_drained.wait()

    async def disconnect_listener(self, listener):
        self.was_cut.append(listener.sid)
        self.relay.remove_listener(listener)

    async def join(self, sid, instance=None, position=None, audience=EVERYBODY):
        if position is None:
            position = await database(Stream.objects.last_seq, instance.pk) if instance else await head()
        namespace, identity = (f"/{instance.name}", instance.pk) if instance else ("/", None)
        listener = Listener(sid, namespace, identity, position, audience)
        await self.relay.follow(listener)
        return listener

    def seqs(self, sid):
        return [seq for _, seq, _ in self.told.get(sid, [])]

    async def until(self, sid, seqs):
        await self._until(lambda: self.seqs(sid)[: len(seqs)] == seqs)

    async def until_last(self, sid, seq):
        await self._until(lambda: self.seqs(sid)[-1:] == [seq])

    async def _until(self, is_so):
        async with asyncio.timeout(10):
            while not is_so():
                self.news.clear()
                try:
                    await asyncio.wait_for(self.news.wait(), 0.5)
                except TimeoutError:
                    # a transaction somewhere else on this PostgreSQL can hold `/` back for a moment
                    await self.relay.sweep()


async def head():
    """The place after all that is committed: another transaction on this PostgreSQL may hold it back for a moment."""
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
    yield sockets
    await sockets.relay.stop()


@pytest.fixture
def instance():
    return Instance.objects.create(name="loja")


def record(instance, count=1):
    return [Event.objects.record(instance, EventType.CALL, {"n": n}) for n in range(count)]


@pytest.fixture
def unhinted(monkeypatch):
    """record() whose hints are lost; they come back from it to be given in any order."""

    def record_unhinted(instance, count=1):
        with monkeypatch.context() as patch:
            patch.setattr(bus, "hint", lambda events: None)
            return record(instance, count)

    return record_unhinted


async def test_what_is_committed_is_told_at_once(sockets, instance):
    await sockets.join("a", instance)
    await database(record, instance, 3)

    await sockets.until("a", [2, 3, 4])


async def test_hints_that_swapped_are_told_in_order_without_asking_the_log(sockets, instance, unhinted, monkeypatch):
    await sockets.join("a", instance)
    first, second = await database(unhinted, instance, 2)
    reads = []
    monkeypatch.setattr(sockets.relay, "_read_page", lambda *args: reads.append(args))

    sockets.relay.on_hint([second])
    await asyncio.sleep(0)  # the reader has begun, and finds a gap
    sockets.relay.on_hint([first])

    await sockets.until("a", [2, 3])
    assert not reads


async def test_a_hint_that_was_lost_is_made_up_for_by_the_next_one(sockets, instance, unhinted):
    await sockets.join("a", instance)
    _, _, third = await database(unhinted, instance, 3)

    sockets.relay.on_hint([third])

    await sockets.until("a", [2, 3, 4])


async def test_hints_given_twice_and_late_tell_nothing_again(sockets, instance):
    await sockets.join("a", instance)
    events = await database(record, instance, 3)
    await sockets.until("a", [2, 3, 4])

    sockets.relay.on_hint([*events, *reversed(events)])
    await database(record, instance, 1)

    await sockets.until("a", [2, 3, 4, 5])
    assert not sockets.relay.feeds[instance.pk].pending


async def test_what_is_rolled_back_is_never_told(sockets, instance):
    await sockets.join("a", instance)
    await sockets.join("all")

    def change_of_mind():
        with transaction.atomic():
            record(instance)
            transaction.set_rollback(True)

    await database(change_of_mind)
    await sockets.relay.sweep()
    assert sockets.told == {}

    await database(record, instance)
    await sockets.until("a", [2])
    await sockets.until("all", [2])


@pytest.mark.parametrize("whole", [False, True])
async def test_who_joins_between_two_events_of_one_turn_is_told_each_once(sockets, instance, whole):
    """Whoever becomes level in the middle of them is told what comes after, and nothing twice."""
    owner = None if whole else instance
    place = await head() if whole else 1
    await sockets.join("first", owner)
    joining = []

    def tell(namespace, room, event, place_of_it, offset, tell=sockets.emit_event):
        tell(namespace, room, event, place_of_it, offset)
        if not joining:
            joining.append(asyncio.create_task(sockets.join("late", owner, position=place)))

    sockets.emit_event = tell
    await database(record, instance, 5)
    await sockets.until("first", [2, 3, 4, 5, 6])
    await joining[0]
    await database(record, instance)

    await sockets.until("late", [2, 3, 4, 5, 6, 7])
    assert sockets.seqs("late") == [2, 3, 4, 5, 6, 7]


async def test_a_listener_that_is_set_back_is_told_again_from_there(sockets, instance):
    listener = await sockets.join("slow", instance)
    await sockets.join("quick", instance)
    await database(record, instance, 3)
    await sockets.until("slow", [2, 3, 4])
    sockets.told["slow"].clear()
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


async def test_offsets_are_told_to_those_alone_who_want_them(sockets, instance):
    await sockets.join("plain", instance)
    await sockets.join("resuming", instance, audience=Audience(wants_offsets=True))
    await database(record, instance)
    await sockets.until("resuming", [2])

    epoch = (await database(Stream.objects.state, instance.pk)).epoch
    assert sockets.told == {"plain": [("loja", 2, None)], "resuming": [("loja", 2, f"{epoch}.2")]}


@pytest.mark.parametrize("position", [1, None])
async def test_a_filter_narrows_what_one_listener_hears(sockets, instance, position):
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


async def test_the_sweep_finds_what_no_hint_reported(sockets, instance, unhinted):
    await sockets.join("a", instance)
    await sockets.join("all")
    await database(unhinted, instance, 2)

    await sockets.relay.sweep()

    await sockets.until("a", [2, 3])
    await sockets.until("all", [2, 3])


async def test_more_than_a_page_is_told_in_order(sockets, instance, unhinted, monkeypatch):
    monkeypatch.setattr(relay_module, "PAGE", 4)
    await sockets.join("a", instance)
    await sockets.join("all")
    await database(unhinted, instance, 11)

    await sockets.relay.sweep()

    await sockets.until("a", list(range(2, 13)))
    await sockets.until("all", list(range(2, 13)))


async def test_a_listener_starts_from_its_own_place(sockets, instance):
    await database(record, instance, 5)
    await sockets.join("new", instance)
    await sockets.join("old", instance, position=3)
    await database(record, instance, 1)

    await sockets.until("old", [4, 5, 6, 7])
    assert sockets.seqs("new") == [7]


async def test_a_listener_ahead_of_the_feed_is_not_told_what_it_knows(sockets, instance, unhinted):
    await sockets.join("a", instance)
    await database(unhinted, instance, 2)  # this process has not heard of them yet
    await sockets.join("b", instance)
    await database(record, instance, 1)

    await sockets.until("a", [2, 3, 4])
    assert sockets.seqs("b") == [4]


async def test_nothing_falls_between_authorisation_and_joining(sockets, instance):
    """Ten listeners join while events pour in: each is told all that came after its place, once and in order."""
    stop = threading.Event()

    def pour():
        try:
            while not stop.is_set():
                record(instance)
        finally:
            connection.close()

    writer = threading.Thread(target=pour)
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
    last = await database(Stream.objects.last_seq, instance.pk)
    await sockets.relay.sweep()

    for sid in starts:
        await sockets.until_last(sid, last)
        first = sockets.seqs(sid)[0]
        assert sockets.seqs(sid) == list(range(first, last + 1)), sid


async def test_hints_during_the_opening_of_a_feed_are_not_lost(sockets, instance, monkeypatch):
    place_is_read, go_on = threading.Event(), threading.Event()
    real = Stream.objects.state

    def slow(instance_id):
        place = real(instance_id)
        place_is_read.set()
        assert go_on.wait(10)
        return place

    monkeypatch.setattr(Stream.objects, "state", slow)
    joining = asyncio.create_task(sockets.join("a", instance, position=1))
    await asyncio.to_thread(place_is_read.wait, 10)
    await database(record, instance, 2)
    go_on.set()
    await joining

    await sockets.until("a", [2, 3])


async def test_a_feed_that_nobody_listens_to_is_forgotten(sockets, instance):
    listener = await sockets.join("a", instance)
    assert instance.pk in sockets.relay.feeds

    sockets.relay.remove_listener(listener)

    assert instance.pk not in sockets.relay.feeds


async def test_a_pruned_stretch_counts_as_past(sockets, instance, unhinted):
    await sockets.join("a", instance)
    events = await database(unhinted, instance, 4)
    await database(Event.objects.filter(seq__lte=4).delete)

    sockets.relay.on_hint([events[-1]])
    await database(record, instance, 1)

    await sockets.until("a", [5, 6])


async def test_whoever_follows_an_instance_is_sent_away_when_it_is_deleted(sockets, instance):
    await sockets.join("a", instance)
    await database(instance.delete)

    await sockets.until("a", [2, 3])
    assert sockets.was_cut == ["a"]


async def test_a_name_given_to_another_instance_leads_its_new_listeners_there_alone(sockets, instance):
    await sockets.join("old", instance)
    instance.name = "loja velha"
    await database(instance.save)
    await sockets.join("new", instance)

    assert sockets.was_cut == ["old"]


async def test_the_root_hears_all_instances_each_in_its_order(sockets, instance):
    other = await database(Instance.objects.create, name="other")
    await sockets.join("all")
    for _ in range(3):
        await database(record, instance)
        await database(record, other)
    await sockets.relay.sweep()
    await sockets.until("all", [2, 2, 3, 3, 4, 4])

    assert [name for name, *_ in sockets.told["all"]] == ["loja", "other"] * 3


@pytest.mark.postgres
async def test_commits_that_cross_lose_and_swap_nothing(sockets, instance, unhinted):
    """One transaction begins first and commits last: what it wrote is told, after what it waited for."""
    other = await database(Instance.objects.create, name="other")
    await sockets.join("all")
    began, may_commit = threading.Event(), threading.Event()

    def slow():
        try:
            with transaction.atomic():
                Instance.objects.filter(pk=other.pk).update(profile_name="busy")  # has its id from here on
                began.set()
                assert may_commit.wait(10)
                unhinted(instance)  # numbered after what committed meanwhile
                unhinted(other)
        finally:
            connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    await asyncio.to_thread(began.wait, 10)
    await database(unhinted, instance, 2)
    assert await sockets.relay.sweep() == 0, "what a running transaction may still precede must wait"
    may_commit.set()
    await asyncio.to_thread(thread.join)
    await sockets.relay.sweep()

    assert [seq for name, seq, _ in sockets.told["all"] if name == "loja"] == [2, 3, 4]
    assert [seq for name, seq, _ in sockets.told["all"] if name == "other"] == [2]


async def test_a_listener_of_the_root_who_is_behind_gets_the_rest_in_order(sockets, instance, unhinted):
    place = await head()
    await database(unhinted, instance, 3)
    await sockets.relay.sweep()
    await database(unhinted, instance, 3)

    await sockets.join("late", position=place)
    await database(record, instance, 1)

    await sockets.until("late", [2, 3, 4, 5, 6, 7, 8])
