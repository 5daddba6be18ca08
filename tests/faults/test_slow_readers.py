"""A slow reader costs only itself, and loses nothing."""

from __future__ import annotations

import asyncio
import json
from urllib.request import Request, urlopen

import pytest
from django.db import transaction
from engineio.packet import PING, Packet

from instances.events import EventType
from instances.models import Instance
from realtime.log.models import Event
from realtime.socketio import engine_socket
from realtime.socketio.engine import Engine
from tests.clients.raw import Raw
from tests.faults.stuck import StuckReader
from tests.in_process import InProcessServer, until

pytestmark = pytest.mark.any_database

PADDING = "x" * 50_000


def send(server, instance, numbers):
    for number in numbers:
        response = server.post(
            server.path("/event/publish", instance), {"event": "call", "data": {"number": number, "padding": PADDING}}
        )
        assert response.status == 201


@pytest.mark.slow
@pytest.mark.bound("WEBSOCKET_MAX_BUFFER")
def test_a_reader_that_stops_delays_nobody_and_gets_all_events_when_it_goes_on(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    healthy = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    send(server, instance, range(20))
    for _ in range(20):
        healthy.event("call")
    stuck = [StuckReader(server.port) for _ in range(3)]
    for reader in stuck:
        reader.join(f"/{instance.name}", apikey=instance.token)
    before = server.memory()

    send(server, instance, range(400))  # 20 MB to each
    assert [healthy.event("call")["data"]["number"] for _ in range(400)] == list(range(400))
    cost = server.memory() - before
    assert cost < 3 * 10 * 1024 * 1024

    for reader in stuck:
        assert [reader.event()["data"]["number"] for _ in range(400)] == list(range(400))
    send(server, instance, [400])
    for reader in stuck:
        assert reader.event()["data"]["number"] == 400
        reader.close()
    assert healthy.event("call")["data"]["number"] == 400
    healthy.disconnect()


@pytest.mark.slow
@pytest.mark.bound("LIMIT_CONCURRENT_REPLAYS")
@pytest.mark.bound("LIMIT_INSTANCE_REPLAYS")
def test_slow_readers_of_one_instance_hold_up_no_other_and_keep_no_pages(fresh_server):
    """More of them than the log is ever read for at a time: each resumes 10 MB back, and reads nothing of it."""
    server = fresh_server()
    crowded, other = server.create(), server.create()
    for _ in range(2):
        events = [{"event": "call", "data": {"number": number, "padding": PADDING}} for number in range(100)]
        assert server.post(server.path("/event/publish", crowded), events).status == 201
    send(server, other, range(3))
    before = server.memory()
    stuck = [StuckReader(server.port) for _ in range(40)]
    for reader in stuck:
        reader.join(f"/{crowded.name}", apikey=crowded.token, since=1)

    resumed = Raw(server.url)
    resumed.join(f"/{other.name}", {"apikey": other.token, "since": 1})

    assert [resumed.event()[1]["data"]["number"] for _ in range(3)] == [0, 1, 2]
    send(server, other, [3])
    assert resumed.event()[1]["data"]["number"] == 3
    assert server.memory() - before < 50 * 1024 * 1024
    assert [stuck[0].event()["data"]["number"] for _ in range(101)] == [*range(100), 0]
    for reader in (resumed, *stuck):
        reader.close()


@pytest.mark.slow
def test_a_crowd_that_resumes_from_the_same_event_stalls_nobody(fresh_server):
    """All of them wait for the same pages, and take them at the same time."""
    server = fresh_server()
    instance = server.create()
    events = [{"event": "call", "data": {"number": number}} for number in range(400)]
    assert server.post(server.path("/event/publish", instance), events).status == 201
    crowd = [Raw(server.url) for _ in range(200)]
    streams = [open_stream(server, instance, since=1) for _ in range(50)]

    for client in crowd:
        client.socket.send(f"40/{instance.name}," + json.dumps({"apikey": instance.token, "since": 1}))
    for client in crowd:
        client.socket.recv(10)
        assert [client.event()[1]["data"]["number"] for _ in range(400)] == list(range(400))
    for stream in streams:
        assert [json.loads(next(stream))["data"]["number"] for _ in range(400)] == list(range(400))
    for client in crowd:
        client.close()
    for stream in streams:
        stream.close()
    assert server.stalls() == []


def open_stream(server, instance, since):
    """Open an event stream; yields the data of each event."""
    url = f"{server.url}/event/stream/{instance.name}?since={since}"
    response = urlopen(Request(url, headers={"apikey": instance.token}), timeout=20)

    def data():
        with response:
            for line in response:
                if line.startswith(b"data: "):
                    yield line[6:]

    return data()


@pytest.fixture
def inside(transactional_db):
    with InProcessServer() as running:
        yield running


@pytest.fixture
def instance(transactional_db):
    instance = Instance(name="loja")
    instance.give_token("token-of-the-test")
    instance.save()
    return instance


def record(instance, count):
    for number in range(count):
        Event.objects.record(instance, EventType.CALL, {"number": number, "padding": PADDING})


def test_many_events_at_once_are_not_dropped_for_a_healthy_reader(inside, instance):
    """5 MB in one turn of the loop: more than the limit, but the client had no time to read any of it."""
    reader = StuckReader(inside.port)
    reader.join("/loja", apikey="token-of-the-test")
    until(lambda: inside.application.relay.feeds and any(f.rooms for f in inside.application.relay.feeds.values()))

    with transaction.atomic():
        record(instance, 100)

    assert [reader.event()["data"]["number"] for _ in range(100)] == list(range(100))
    (feed,) = inside.application.relay.feeds.values()
    assert [listener.rewinds for listener in feed.listeners.values()] == [0]
    reader.close()


@pytest.mark.timeout(10)  # otherwise the loop would be blocked for ever
async def test_waiting_for_a_reader_lets_the_loop_turn():
    """Only a response or a heartbeat is queued, and no event of the log."""
    session = engine_socket.EngineSocket(Engine(), "a session")
    session.push(Packet(PING))

    waiting = asyncio.ensure_future(session.drained())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert await session.poll()
    polling = asyncio.ensure_future(session.poll())
    await waiting
    polling.cancel()


def test_a_stuck_reader_is_reset(inside, instance, monkeypatch):
    monkeypatch.setattr(engine_socket, "STUCK_SECONDS", 0.3)
    reader = StuckReader(inside.port)
    reader.join("/loja", apikey="token-of-the-test")
    until(lambda: inside.application.relay.feeds and any(f.rooms for f in inside.application.relay.feeds.values()))

    for _ in range(4):
        record(instance, 40)
    until(lambda: not inside.application.server.eio.sockets)

    with pytest.raises(ConnectionError):
        [reader.event() for _ in range(161)]
    assert not inside.application.relay.feeds
    reader.close()
