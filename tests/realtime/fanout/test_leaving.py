"""Leaving a namespace: by deletion, by disconnects at any moment; no state is left behind."""

from __future__ import annotations

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from websockets.sync.client import connect as open_websocket

import realtime.socketio.pending
from instances.models import Instance
from realtime.database import Pool
from tests.clients.polling import Polling
from tests.in_process import InProcessServer, until

pytestmark = pytest.mark.any_database

# Deletion


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_listeners_of_a_deleted_instance_receive_its_last_events_and_are_disconnected(server, node, transport):
    instance = server.create()
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=[transport], reconnectionDelay=1
    ).connected()

    assert server.request("DELETE", server.path("/instance/delete", instance)).status == 200

    deleted = client.event("instance.delete")
    assert deleted["data"] == {"instanceName": instance.name, "instanceId": instance.id}
    last = client.event("remove.instance")
    assert (last["data"], last["prev"]) == (None, deleted["seq"])
    assert client.wait_for("disconnect")["active"] is False
    assert [line["is"] for line in client.seen] == ["connect", *["event"] * 5, "disconnect"]
    assert client.seen[-1]["reason"] == "io server disconnect"

    successor = server.create(instance.name, number=instance.number)
    newcomer = node.connect(f"{server.url}/{instance.name}", auth={"apikey": successor.token}).connected()
    old_key = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token})
    assert old_key.outcome() == "Unauthorized"
    server.receive(successor, "not for former listeners")
    assert newcomer.event("messages.upsert")["instance"] == instance.name
    assert client.quiet(0.2) == []
    newcomer.disconnect()


def test_other_namespaces_of_the_connection_outlive_a_deletion(server, node):
    own, instance = server.create(), server.create()
    first = node.connect(f"{server.url}/{own.name}", auth={"apikey": own.token}).connected()
    second = node.connect(f"/{instance.name}", over=first, auth={"apikey": instance.token}).connected()

    server.request("DELETE", server.path("/instance/delete", instance))

    second.wait_for("disconnect", reason="io server disconnect")
    server.receive(own, "still there")
    assert first.event("messages.upsert")["data"]["message"] == {"conversation": "still there"}
    assert not [line for line in first.seen if line["is"] == "disconnect"]
    first.disconnect()


# State of the server


@pytest.fixture
def inside(transactional_db):
    with InProcessServer() as running:
        yield running


@pytest.fixture
def instance(transactional_db):
    instance = Instance(name=f"instance {secrets.token_hex(4)}")
    instance.save()
    return instance


def connect_packet(instance):
    return f"40/{instance.name},{json.dumps({'apikey': instance.token.reveal()})}"


def test_a_client_that_leaves_during_authorization_leaves_no_state_over_polling(inside, instance):
    client = Polling(inside.url)
    with ThreadPoolExecutor() as threads:
        with inside.busy(Pool.JOINS):
            half = f'451-/{instance.name},["half of a packet",{{"_placeholder":true,"num":0}}]'
            joining = threads.submit(client.post, connect_packet(instance), half)
            until(lambda: inside.traces["joining"])
            with pytest.raises(AssertionError, match="400"):
                client.post("1")
        joining.result(10)

    assert inside.traces == {kind: {} for kind in inside.traces}


@pytest.mark.parametrize("is_abrupt", [False, True])
def test_a_client_that_leaves_during_authorization_leaves_no_state_over_websocket(inside, instance, is_abrupt):
    url = f"{inside.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
    with inside.busy(Pool.JOINS), open_websocket(url, close_timeout=0.1) as client:
        client.send(connect_packet(instance))
        until(lambda: inside.traces["joining"])
        if is_abrupt:
            client.socket.shutdown(socket.SHUT_RDWR)
        else:
            client.send(f"41/{instance.name},")

    until(lambda: inside.is_clean)


def test_a_client_that_is_refused_twice_leaves_no_state(inside, instance):
    client = Polling(inside.url)
    client.post(f"40/{instance.name},", f"40/{instance.name},")

    packets = client.poll()

    assert len(packets) == 2
    assert all(packet.startswith(f"44/{instance.name},") and "Unauthorized" in packet for packet in packets)
    client.post("1")
    assert inside.is_clean


def test_a_client_that_joins_no_namespace_is_closed_after_a_timeout(inside, instance, monkeypatch):
    monkeypatch.setattr(realtime.socketio.pending, "JOIN_SECONDS", 0.1)
    joined, idle = Polling(inside.url), Polling(inside.url)
    joined.join(f"/{instance.name}", apikey=instance.token.reveal())

    assert idle.poll() == [""]
    assert list(inside.traces["joined"]) == list(inside.traces["sessions"]) == [joined.query["sid"]]


def test_a_client_that_closes_its_poll_leaves_no_state(inside, instance):
    client = Polling(inside.url)
    client.join(f"/{instance.name}", apikey=instance.token.reveal())
    until(lambda: inside.traces["feeds"])

    with socket.create_connection(("127.0.0.1", inside.port)) as connection:
        connection.sendall(f"GET {client.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    until(lambda: inside.is_clean)


def test_deleting_an_instance_while_a_client_joins_disconnects_it(inside, instance):
    client = Polling(inside.url)
    with inside.busy(Pool.READS):
        client.join(f"/{instance.name}", apikey=instance.token.reveal())
        instance.delete()

    packets = client.poll_until(lambda packet: packet == f"41/{instance.name},")

    assert [client.event(packet)[0] for packet in packets[:-1]] == ["instance.delete", "remove.instance"]
    until(lambda: not inside.traces["feeds"])


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_client_is_not_refused_while_the_database_is_away(inside, instance, node, caplog, transport):
    """A refusal would be final for the stock client; a closed transport makes it try again."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE instances_instance RENAME TO instances_away")
        try:
            client = node.connect(
                f"{inside.url}/{instance.name}",
                auth={"apikey": instance.token.reveal()},
                transports=[transport],
                reconnectionDelay=10,
            )
            until(lambda: "A client could not be authorised" in caplog.text)
        finally:
            cursor.execute("ALTER TABLE instances_away RENAME TO instances_instance")

    client.connected()
    assert all(line["active"] for line in client.seen[:-1])
    client.disconnect()
    until(lambda: inside.is_clean)
