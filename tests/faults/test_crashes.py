"""kill -9 and reset connections under traffic: acknowledged events are delivered once and in order."""

from __future__ import annotations

import threading
import time
import urllib.error

import pytest

from tests.faults.proxy import Proxy


class Traffic(threading.Thread):
    """Posts numbered messages in order; each is repeated under its id until it is acknowledged."""

    def __init__(self, server, instance):
        super().__init__()
        self.server = server
        self.instance = instance
        self.acknowledged = 0
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.is_set():
            try:
                response = self.server.receive(self.instance, str(self.acknowledged), id=f"message-{self.acknowledged}")
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)  # the server is away; only another request shows when it is back
                continue
            assert response.status == 200
            self.acknowledged += 1

    def reach(self, number):
        deadline = time.monotonic() + 30
        while self.acknowledged < number:
            assert time.monotonic() < deadline, "No traffic"
            time.sleep(0.005)

    def end(self):
        self.is_over.set()
        self.join()
        return [str(number) for number in range(self.acknowledged)]


def texts(client):
    events = [line["args"][0] for line in client.seen if line["is"] == "event"]
    return [event["data"]["message"]["conversation"] for event in events if event["event"] == "messages.upsert"]


def wait_for_text(client, last):
    while texts(client)[-1:] != [last]:
        client.wait_for("event", 30)


@pytest.mark.parametrize(
    "transports",
    [
        pytest.param(["websocket"], marks=[pytest.mark.any_database, pytest.mark.slow]),
        pytest.param(["polling"], marks=[pytest.mark.any_database, pytest.mark.slow]),
        ["polling", "websocket"],
    ],
    ids="-".join,
)
def test_a_server_killed_again_and_again_loses_nothing(fresh_server, node, transports):
    server = fresh_server()
    instance = server.create()
    client = node.connect(
        f"{server.url}/{instance.name}",
        auth={"apikey": instance.token, "recover": True},
        transports=transports,
        reconnectionDelay=50,
        reconnectionDelayMax=200,
    ).connected()
    traffic = Traffic(server, instance)
    traffic.start()

    for round in range(1, 4):
        traffic.reach(round * 30)
        server.kill()
        client.wait_for("disconnect", keep=True)
        server.start()
        assert client.wait_for("connect", 20)["recovered"] is True
    traffic.reach(120)
    sent = traffic.end()

    wait_for_text(client, sent[-1])
    assert texts(client) == sent
    client.disconnect()


def test_connections_reset_again_and_again_lose_nothing(server, node):
    instance = server.create()
    proxy = Proxy(server.port)
    client = node.connect(
        f"{proxy.url}/{instance.name}",
        auth={"apikey": instance.token, "recover": True},
        reconnectionDelay=20,
        reconnectionDelayMax=50,
    ).connected()
    traffic = Traffic(server, instance)
    traffic.start()

    for round in range(1, 10):
        traffic.reach(round * 15)
        proxy.reset_all()
        assert client.wait_for("connect", 20)["recovered"] is True
    sent = traffic.end()

    wait_for_text(client, sent[-1])
    assert texts(client) == sent
    client.disconnect()
    proxy.stop()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]], ids="-".join)
def test_bursts_of_a_hundred_pass_both_ways(server, node, transports):
    instance = server.create()
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=transports
    ).connected()

    for number in range(100):
        client.emit("send_message", {"text": f"out {number}"})
    server.post(
        server.path("/event/publish", instance),
        [{"event": "call", "data": {"number": number}} for number in range(100)],
    )

    events = []
    while len(events) < 200:
        events.append(client.wait_for("event")["args"][0])
    assert [event["seq"] for event in events] == list(range(2, 202))
    sent = [event["data"]["message"]["conversation"] for event in events if event["event"] == "send.message"]
    assert sent == [f"out {number}" for number in range(100)]
    assert [event["data"]["number"] for event in events if event["event"] == "call"] == list(range(100))
    client.disconnect()
