"""Hundreds of clients at once: all replays complete, and live clients receive events meanwhile."""

from __future__ import annotations

import pytest

from tests.clients.crowd import Crowd
from tests.clients.raw import Raw

# a turn of the loop serves all clients that have sent something, however many they are
pytestmark = [pytest.mark.any_database, pytest.mark.stall(200)]


def publish(server, instance, numbers):
    events = [{"event": "call", "data": {"number": number}} for number in numbers]
    response = server.post(server.path("/event/publish", instance), events)
    assert response.status == 201, response.body


def test_five_hundred_replays_delay_no_live_client(fresh_server):
    server = fresh_server()
    instance = server.create()
    namespace = f"/{instance.name}"
    for start in range(0, 300, 100):
        publish(server, instance, range(start, start + 100))
    healthy = Raw(server.url)
    assert healthy.join(namespace, {"apikey": instance.token})[0] == "0"

    still_behind = []
    with Crowd(server.url, namespace, 500, apikey=instance.token, since=0) as crowd:
        crowd.wait_for(lambda client: client.received, count=1)
        for number in range(300, 310):
            publish(server, instance, [number])
            assert healthy.event(30)[1]["data"]["number"] == number
            still_behind.append(crowd.count(lambda client: len(client.received) < 300))
        assert still_behind[0], "The replays were over before anything happened"
        crowd.wait_for(lambda client: client.received[-1:] == [309])

    for client in crowd.clients:
        assert client.received == [None, *range(310)]
        assert not client.connect_errors
    healthy.close()


def test_a_thousand_clients_reconnect_after_a_kill(fresh_server):
    server = fresh_server()
    instance = server.create()
    namespace = f"/{instance.name}"

    with Crowd(server.url, namespace, 1000, apikey=instance.token, recover=True) as crowd:
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, range(20))
        crowd.wait_for(lambda client: client.received)

        server.kill()
        crowd.wait_for(lambda client: not client.is_joined)
        server.start()
        publish(server, instance, range(20, 40))
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, [40])
        crowd.wait_for(lambda client: client.received[-1:] == [40])

    for client in crowd.clients:
        assert client.received == list(range(41))
        assert client.recovered == [False, True]
        assert not client.connect_errors


def test_a_burst_of_events_to_hundreds_lets_the_loop_turn(fresh_server):
    server = fresh_server()
    instance = server.create()
    with Crowd(server.url, f"/{instance.name}", 400, apikey=instance.token) as crowd:
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, [0])
        crowd.wait_for(lambda client: client.received[-1:] == [0])
        joining = len(server.stalls())

        events = [{"event": "call", "data": {"number": number, "padding": "x" * 2000}} for number in range(1, 501)]
        assert server.post(server.path("/event/publish", instance), events).status == 201
        crowd.wait_for(lambda client: client.received[-1:] == [500])

        assert server.stalls()[joining:] == []
