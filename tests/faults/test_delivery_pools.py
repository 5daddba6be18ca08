"""Slots and threads of deliveries and sockets: what one tenant fills leaves room for the others.

Nothing here measures time: the others are served while what fills the slots still waits.
"""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.faults.test_pools import locked
from tests.in_process import until
from tests.receiver import Receiver

TEXT = {"number": "5511988887777", "text": "hello"}


def add_endpoint(server, instance, receiver):
    body = {"url": receiver.url, "events": ["CALL"]}
    assert server.post(server.path("/webhook/endpoints", instance), body).status == 201


def publish(server, instance, *data):
    events = [{"event": "call", "data": each} for each in data]
    assert server.post(server.path("/event/publish", instance), events).status == 201


@pytest.mark.bound("LIMIT_ATTEMPTS")
def test_one_instances_hanging_endpoints_leave_slots_to_others(fresh_server):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(60) and 200) as stuck, Receiver() as receiver:
        server = fresh_server(LIMIT_ATTEMPTS="20")
        mine, other = server.create(), server.create()
        for _ in range(20):
            add_endpoint(server, mine, stuck)
        publish(server, mine, *range(5))
        until(lambda: len(stuck.requests) >= 9)

        add_endpoint(server, other, receiver)
        publish(server, other, 1)
        until(lambda: receiver.requests, 5)
        assert not hanging.is_set()
        hanging.set()


@pytest.mark.bound("LIMIT_LARGE_BODIES")
def test_one_instances_large_events_leave_room_to_others(fresh_server):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(60) and 200) as stuck, Receiver() as receiver:
        server = fresh_server(LIMIT_LARGE_BODIES="400000")
        mine, other = server.create(), server.create()
        for _ in range(3):
            add_endpoint(server, mine, stuck)
        add_endpoint(server, other, receiver)
        publish(server, mine, *["x" * 100_000] * 5)
        until(lambda: stuck.requests)

        publish(server, other, "x" * 100_000)
        until(lambda: receiver.requests, 5)
        hanging.set()


@pytest.mark.postgres  # where rows are locked, and not the database
def test_sends_over_sockets_that_wait_for_one_instance_leave_threads_to_others(fresh_server, node):
    server = fresh_server(LIMIT_LOCK_SECONDS="60")
    mine, other = server.create(), server.create()
    sockets = [
        node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
        for instance in (*[mine] * 8, other)
    ]
    with locked(server, mine):
        for socket in sockets[:-1]:
            socket.emit("send_message", TEXT)
        assert sockets[-1].call("send_message", TEXT)["key"]["fromMe"] is True
    for socket in sockets:
        socket.disconnect()


@pytest.mark.postgres
def test_joins_with_a_key_that_is_locked_leave_threads_to_others(fresh_server, node):
    server = fresh_server(LIMIT_LOCK_SECONDS="60")
    mine, other = server.create(), server.create()
    key = server.shell(
        "from instances.models import ApiKey, Instance; import secrets;"
        "key, secret = ApiKey.objects.issue('mine', ['listen']);"
        f"key.instances.add(Instance.objects.get(name={mine.name!r})); print(secret)"
    ).strip()
    with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
        connection.execute("SELECT 1 FROM instances_apikey FOR UPDATE")
        joined = [node.connect(f"{server.url}/{mine.name}", auth={"apikey": key}).connected() for _ in range(8)]
        joined.append(node.connect(f"{server.url}/{other.name}", auth={"apikey": other.token}).connected())
    for client in joined:
        client.disconnect()


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["realtime_delivery", "instances_subscription"])
def test_a_result_whose_row_is_locked_delays_no_other_instances_deliveries(fresh_server, table):
    """An operator's psql may keep a row of one tenant locked; its result is stored once it can be."""
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(60) and 503) as mines, Receiver() as others:
        server = fresh_server(LIMIT_LOCK_SECONDS="60", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")
        mine, other = server.create(), server.create()
        add_endpoint(server, mine, mines)
        add_endpoint(server, other, others)
        publish(server, mine, 1)
        until(lambda: mines.requests)
        with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
            [[count]] = connection.execute(
                f"SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE instance_id = %s FOR UPDATE) AS rows", [mine.id]
            )
            assert count == 1
            hanging.set()
            publish(server, other, *range(100))  # more than an endpoint has slots
            until(lambda: len(others.requests) == 100)
            [delivery] = server.get(server.path("/webhook/deliveries", mine)).json["deliveries"]
            assert delivery["attempts"] == 0
        until(lambda: server.get(server.path("/webhook/deliveries", mine)).json["deliveries"][0]["attempts"] == 1)
        [delivery] = server.get(server.path("/webhook/deliveries", mine)).json["deliveries"]
        assert (delivery["state"], len(mines.requests)) == ("pending", 1)
