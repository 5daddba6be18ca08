"""The database goes away and comes back: clients reconnect, and have missed nothing."""

from __future__ import annotations

import threading
from contextlib import contextmanager

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


@pytest.mark.slow
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


def test_a_refused_connection_while_those_of_the_pool_are_good_is_no_outage(server, database):
    """As where PostgreSQL has no room for one more: what the pool has answers as before."""
    instances = [server.create() for _ in range(4)]
    statuses: list[int] = []
    with locked_instances(server):  # each request has a connection, so the pool grows
        growing = send_many(server, instances[:1], statuses)
        until(lambda: waiting_for_locks(server) >= 4)
    join(growing)

    with locked_instances(server):
        database.is_refusing = True
        requests = send_many(server, instances, statuses)
        until(lambda: 503 in statuses)  # it had no connection in time
    join(requests)

    until(lambda: server.receive(instances[1], "after").status == 200, 5)  # though new connections are refused
    database.is_refusing = False


@contextmanager
def locked_instances(server):
    with direct(server) as connection:
        connection.execute("SELECT 1 FROM instances_instance FOR UPDATE")
        yield
        connection.rollback()


def waiting_for_locks(server):
    with direct(server) as connection:
        query = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return connection.execute(query).fetchone()[0]


def direct(server):
    """Connect to the server's database past the proxy."""
    name = server.environment["DATABASE_URL"].rpartition("/")[2]
    return psycopg.connect(f"{POSTGRES_URL.rpartition('/')[0]}/{name}")


def send_many(server, instances, statuses):
    """Post messages and change settings, which wait for the instances' locks; the statuses are added to a list."""

    def change(instance):
        body = {"websocket": {"enabled": True, "events": []}}
        statuses.append(server.post(server.path("/websocket/set", instance), body).status)

    def receive(instance):
        statuses.append(server.receive(instance, "hello").status)

    targets = [(target, instance) for instance in instances for target in (receive, change, change, change)]
    threads = [threading.Thread(target=target, args=(instance,)) for target, instance in targets]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join()
