"""Limits that have no test of their own: the dearest input that just fits, and twice the limit.

Other tests name the limits they are for by the marker `bound`; each limit has one. The watchdog of the servers looks at
the time that each takes.
"""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from instances import bounds
from instances.bounds.bound import TABLE
from tests.clients.polling import Polling
from tests.clients.raw import Raw
from tests.faults.floods import Bystander
from tests.faults.stuck import StuckReader
from tests.server import ROOT

pytestmark = pytest.mark.any_database

#: Bytes that may be kept of an input.
KEPT = 50 * 1024 * 1024

HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.bound("LIMIT_PROXY_HOPS")
def test_a_long_list_of_proxies_is_read_from_its_end(fresh_server):
    server = fresh_server(TRUSTED_PROXIES="127.0.0.0/8", LIMIT_WRONG_KEYS="1", LIMIT_WRONG_KEYS_PER_SECOND="1")

    def status(client, hops):
        forwarded = ", ".join([client, *["127.0.0.2"] * hops])
        return server.get("/instance/fetchInstances", key="wrong", headers={"X-Forwarded-For": forwarded}).status

    # within the limit each client is an address of its own, beyond it the last proxy looked at is
    assert {status(f"198.51.100.{number}", bounds.PROXY_HOPS - 1) for number in range(10)} == {401}
    assert 429 in {status(f"203.0.113.{number}", 2 * bounds.PROXY_HOPS) for number in range(10)}
    with Bystander(server) as bystander:
        for number in range(20):
            status(f"198.51.100.{number}", 5000)
    assert bystander.growth < KEPT


@pytest.mark.bound("LIMIT_TEXT_CHARACTERS")
def test_a_long_text_is_refused(server):
    instance = server.create(integration="WHATSAPP-BAILEYS")  # refuses every text that is valid
    responses = [
        server.post(server.path("/message/sendText", instance), {"number": "5511999999999", "text": character * size})
        for character in ("x", "\U0001f600")
        for size in (bounds.TEXT_CHARACTERS, 2 * bounds.TEXT_CHARACTERS)
    ]

    too_long = f"maximum length of {bounds.TEXT_CHARACTERS}"
    assert [too_long in response.body.decode() for response in responses] == [False, True, False, True]
    assert {response.status for response in responses} == {400}


@pytest.mark.bound("LIMIT_CACHED_KEYS")
@pytest.mark.bound("LIMIT_CACHED_GRANTS")
@pytest.mark.bound("LIMIT_RATE_LIMITED")
def test_more_keys_than_are_remembered_are_all_served(fresh_server):
    server = fresh_server(LIMIT_CACHED_KEYS="4", LIMIT_CACHED_GRANTS="2", LIMIT_RATE_LIMITED="2")
    instances = [server.create() for _ in range(5)]

    for _ in range(2):
        for instance in instances:
            assert server.receive(instance).status == 200
            client = Raw(server.url)
            assert client.join(f"/{instance.name}", {"apikey": instance.token})[0] == "0"
            client.close()


@pytest.mark.bound("LIMIT_FIND_EVENTS")
def test_a_page_of_too_many_events_is_refused(server):
    instance = server.create()
    for start in range(0, bounds.FIND_EVENTS, 500):
        events = [{"event": "call", "data": {"number": start + number}} for number in range(500)]
        assert server.post(server.path("/event/publish", instance), events).status == 201

    found = server.get(server.path("/event/find", instance) + f"?limit={bounds.FIND_EVENTS}")
    assert len(found.json["events"]) == bounds.FIND_EVENTS
    refused = server.get(server.path("/event/find", instance) + f"?limit={2 * bounds.FIND_EVENTS}")
    assert refused.status == 400
    assert str(bounds.FIND_EVENTS) in refused.body.decode()


@pytest.mark.bound("LIMIT_HANDSHAKE_BYTES")
def test_the_headers_of_a_websockets_handshake_are_bounded(server):
    def answer(size):
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(f"{HANDSHAKE}X-Padding: {'x' * size}\r\n\r\n".encode())
            return client.recv(65536)

    assert answer(bounds.HANDSHAKE_BYTES - 500).startswith(b"HTTP/1.1 101 ")
    assert answer(2 * bounds.HANDSHAKE_BYTES).startswith(b"HTTP/1.1 400 ")


def read_all(connection):
    while connection.recv(65536):
        pass


@pytest.mark.bound("LIMIT_POST_SECONDS")
def test_a_post_of_packets_that_is_not_completed_ends_its_session(fresh_server):
    server = fresh_server(LIMIT_POST_SECONDS="1")
    session = Polling(server.url)
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(f"POST {session.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n3".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")

    with pytest.raises(AssertionError, match="Invalid session"):
        session.post("3")


@pytest.mark.bound("LIMIT_ENDED_SECONDS")
def test_a_websocket_that_does_not_read_the_rest_of_its_session_is_reset(fresh_server):
    server = fresh_server(LIMIT_ENDED_SECONDS="1", LIMIT_STUCK_SECONDS="3600")
    instance = server.create()
    client = StuckReader(server.port)
    client.join(f"/{instance.name}", apikey=instance.token)
    events = [{"event": "call", "data": "x" * 100_000}] * 50
    assert server.post(server.path("/event/publish", instance), events).status == 201
    assert server.request("DELETE", server.path("/instance/delete", instance)).status == 200

    time.sleep(3)
    with pytest.raises(ConnectionResetError):
        read_all(client.socket)
    client.close()


@pytest.mark.bound("LIMIT_ENDPOINTS")
def test_an_instance_has_a_limited_number_of_endpoints(server):
    instance = server.create()
    path = server.path("/webhook/endpoints", instance)
    answers = [server.post(path, {"url": f"http://127.0.0.1:9/{number}"}) for number in range(bounds.ENDPOINTS + 1)]

    assert [answer.status for answer in answers] == [201] * bounds.ENDPOINTS + [409]
    assert str(bounds.ENDPOINTS) in answers[-1].body.decode()


@pytest.mark.bound("LIMIT_SQLITE_CACHE_BYTES")
def test_the_cache_of_sqlite_may_be_small(fresh_server):
    server = fresh_server(LIMIT_SQLITE_CACHE_BYTES="100000")
    instance = server.create()
    for number in range(20):
        assert server.receive(instance, "x" * 50_000, id=str(number)).status == 200
    assert server.counts(instance)["Message"] == 20


@pytest.mark.slow
@pytest.mark.bound("LIMIT_SQLITE_CACHE_BYTES")
def test_the_connections_of_sqlite_have_one_cache_together(fresh_server):
    """Eight threads, each with a connection of its own, read all of a log of 30 MB."""
    server = fresh_server()
    instance = server.create()
    for _ in range(100):
        events = [{"event": "call", "data": "x" * 30_000}] * 10
        assert server.post(server.path("/event/publish", instance), events).status == 201

    def read(start):
        for after in range(start, start + 125, 10):
            assert server.get(server.path("/event/find", instance) + f"?limit=10&after={after}").status == 200

    parts = [number * 125 for number in range(8)]
    with ThreadPoolExecutor(len(parts)) as threads:
        list(threads.map(read, [0] * len(parts)))
        before = server.memory()
        for turn in range(4):
            list(threads.map(read, parts[turn:] + parts[:turn]))
    assert server.memory() - before < 120_000_000


def test_each_limit_has_a_test():
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    tested = {name for source in sources for name in re.findall(r'mark\.bound\("(\w+)"\)', source)}

    assert set(TABLE) - tested == set()
    assert tested - set(TABLE) == set()
