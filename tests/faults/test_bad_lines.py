"""Slow lines, and lines that die without a FIN or RST: clients that reconnect have missed nothing."""

from __future__ import annotations

import pytest

from instances.events import EventType
from instances.models import Instance
from realtime.log.models import Event
from tests.faults.proxy import Proxy
from tests.in_process import InProcessServer

pytestmark = pytest.mark.any_database

PADDING = "x" * 50_000


@pytest.fixture
def line():
    """Return a factory of proxies to a port."""
    proxies = []

    def make(port):
        proxies.append(Proxy(port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()


def numbers(client, last):
    """Return the numbers of all received events, once the last one is received."""
    while client.event("call", 30)["data"]["number"] != last:
        pass
    return [line["args"][0]["data"]["number"] for line in client.seen if line["is"] == "event"]


def publish(server, instance, numbers):
    events = [{"event": "call", "data": {"number": number, "padding": PADDING}} for number in numbers]
    response = server.post(server.path("/event/publish", instance), events)
    assert response.status == 201, response.body


@pytest.mark.slow
def test_twenty_megabytes_over_a_slow_line_are_all_delivered(server, node, line):
    instance = server.create()
    slow = line(server.port)
    client = node.connect(
        f"{slow.url}/{instance.name}",
        auth={"apikey": instance.token, "recover": True},
        transports=["websocket"],
        reconnectionDelayMax=500,
    ).connected()
    publish(server, instance, [0])
    client.event("call")

    slow.is_refusing = True
    slow.reset_all()
    client.wait_for("disconnect")
    for start in range(1, 401, 20):
        publish(server, instance, range(start, start + 20))
    slow.rate = 4_000_000
    slow.is_refusing = False
    assert client.wait_for("connect", 20)["recovered"] is True
    client.event("call", 20)
    publish(server, instance, [401])  # while the replay runs

    assert numbers(client, 401) == list(range(402))
    publish(server, instance, [402])
    assert client.event("call")["data"]["number"] == 402
    client.disconnect()


@pytest.fixture
def inside(transactional_db):
    """A server whose heartbeat times out after two seconds."""
    with InProcessServer() as running:
        engine = running.application.server.eio
        engine.ping_interval = engine.ping_timeout = 1
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_line_that_dies_unnoticed_loses_nothing(inside, node, line, transport):
    instance = Instance(name="loja")
    instance.give_token("token-of-the-test")
    instance.save()
    dying = line(inside.port)
    client = node.connect(
        f"{dying.url}/loja",
        auth={"apikey": "token-of-the-test", "recover": True},
        transports=[transport],
        timeout=2000,  # an attempt while the line is dead ends so soon
        reconnectionDelay=50,
        reconnectionDelayMax=200,
    ).connected()

    def record(count, start):
        for number in range(start, start + count):
            Event.objects.record(instance, EventType.CALL, {"number": number})

    record(20, 0)
    numbers(client, 19)
    dying.is_swallowing = True
    record(20, 20)
    assert client.wait_for("disconnect")["reason"] == "ping timeout"
    record(20, 40)
    dying.is_swallowing = False
    assert client.wait_for("connect", 20)["recovered"] is True
    record(20, 60)

    assert numbers(client, 79) == list(range(80))
    client.disconnect()
