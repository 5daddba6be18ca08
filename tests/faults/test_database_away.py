"""The database goes away and comes back: clients reconnect, and have missed nothing."""

from __future__ import annotations

import psycopg
import pytest

from tests.environment import POSTGRES_URL
from tests.faults.proxy import Proxy
from tests.in_process import until

pytestmark = pytest.mark.postgres

CLIENTS = 200


@pytest.fixture
def database():
    """A proxy to the database."""
    proxy = Proxy(psycopg.conninfo.conninfo_to_dict(POSTGRES_URL).get("port", 5432))
    yield proxy
    proxy.stop()


@pytest.fixture
def server(fresh_server, database):
    """A server that reaches its database through the proxy."""
    server = fresh_server()
    server.stop()
    user, _, rest = server.environment["DATABASE_URL"].rpartition("@")
    server.environment["DATABASE_URL"] = f"{user}@127.0.0.1:{database.port}/{rest.rpartition('/')[2]}"
    server.start()
    return server


@pytest.fixture
def line(server):
    """A proxy to the server."""
    proxy = Proxy(server.port)
    yield proxy
    proxy.stop()


def refuse(database):
    """Refuse connections, as a stopped PostgreSQL does."""
    database.is_refusing = True
    database.reset_all()


def swallow(database):
    """Drop all bytes, as where PostgreSQL or the network hangs."""
    database.is_swallowing = True


def bring_back(database):
    database.is_refusing = database.is_swallowing = False
    database.reset_all()


def wait_for_text(client, text):
    while client.event("messages.upsert", 20)["data"]["message"]["conversation"] != text:
        pass


@pytest.mark.parametrize("take_away", [refuse, swallow])
def test_two_hundred_clients_come_back_when_the_database_does(server, node, database, line, take_away):
    instances = [server.create() for _ in range(10)]
    clients = [
        node.connect(
            f"{line.url}/{instance.name}",
            auth={"apikey": instance.token, "recover": True},
            transports=["websocket"],
        )
        for instance in instances
        for _ in range(CLIENTS // len(instances))
    ]
    for client in clients:
        client.connected()
    for instance in instances:
        server.receive(instance, "before")
    for client in clients:
        wait_for_text(client, "before")

    take_away(database)
    line.reset_all()
    for client in clients:
        client.wait_for("disconnect")
    with pytest.raises(AssertionError, match="No connect"):
        clients[0].wait_for("connect", 6)
    bring_back(database)

    for client in clients:
        assert client.wait_for("connect", 40)["recovered"] is True
    for instance in instances:
        assert server.receive(instance, "after").status == 200
    for client in clients:
        wait_for_text(client, "after")
        assert not [line for line in client.seen if line["is"] == "connect_error" and not line["active"]]
        client.disconnect()


def test_requests_are_answered_while_the_database_is_away(server, database):
    instance = server.create()
    refuse(database)

    for _ in range(3):
        for response in (
            server.receive(instance, "lost"),
            server.get("/instance/fetchInstances"),
            server.get(server.path("/event/find", instance)),
        ):
            assert response.status == 503
            assert response.json == {
                "status": 503,
                "error": "Service Unavailable",
                "response": {"message": ["The database does not answer; try again"]},
            }

    stream = server.get(server.path("/event/stream", instance))
    assert stream.status == 200, "an EventSource reconnects after a response that ends, and after no error"
    assert b"\nretry: " in stream.body

    bring_back(database)
    until(lambda: server.receive(instance, "back").status == 200)
