"""Hundreds of clients at once: all replays complete, and live clients receive events meanwhile."""

from __future__ import annotations

import pytest

from tests.clients.crowd import Crowd
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database


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


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 1000], ids=["of one namespace", "with a namespace each"])
def test_a_thousand_clients_reconnect_after_a_kill(fresh_server, count):
    server = fresh_server()
    instance = server.create()
    names = [instance.name] + [f"other-{number}" for number in range(count - 1)]
    server.shell(
        "from django.db import transaction\nfrom instances.models import Instance\n"
        f"with transaction.atomic():\n    [Instance(name=name).save() for name in {names[1:]!r}]"
    )
    namespaces = [f"/{name}" for name in names]

    with Crowd(server.url, namespaces, 1000 // count, apikey=GLOBAL_KEY, recover=True) as crowd:
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, range(20))
        listening = 1000 // count
        crowd.wait_for(lambda client: client.received, count=listening)

        server.kill()
        crowd.wait_for(lambda client: not client.is_joined)
        server.start()
        publish(server, instance, range(20, 40))
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, [40])
        crowd.wait_for(lambda client: client.received[-1:] == [40], count=listening)

    for number, client in enumerate(crowd.clients):
        assert client.received == (list(range(41)) if number < listening else [])
        assert client.recovered == [False, True]
        assert not client.connect_errors


@pytest.mark.slow
def test_a_burst_of_events_to_hundreds_lets_the_loop_turn(fresh_server):
    server = fresh_server()
    instance = server.create()
    with Crowd(server.url, f"/{instance.name}", 400, apikey=instance.token) as crowd:
        crowd.wait_for(lambda client: client.is_joined)
        publish(server, instance, [0])
        crowd.wait_for(lambda client: client.received[-1:] == [0])

        events = [{"event": "call", "data": {"number": number, "padding": "x" * 2000}} for number in range(1, 501)]
        assert server.post(server.path("/event/publish", instance), events).status == 201
        crowd.wait_for(lambda client: client.received[-1:] == [500])

    assert server.stalls() == []
