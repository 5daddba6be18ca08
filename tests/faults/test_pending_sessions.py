"""Engine.IO sessions of strangers, who have no key and join nothing: bounded in bytes, number and time."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.clients.polling import Polling
from tests.clients.raw import Raw
from tests.faults.floods import Bystander
from tests.faults.stuck import StuckReader
from tests.in_process import until

pytestmark = pytest.mark.any_database

POLLING = "/socket.io/?EIO=4&transport=polling"
#: A head of 60 KB, by its headers and by its query.
PADDING = {"X-Pad": "p" * 30_000}
QUERY = "&a=" + "q" * 30_000


def open_sessions(server, count, headers=None, query=""):
    """Open polling sessions over one connection; returns their ids."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sids = []
    for _ in range(count):
        connection.request("GET", POLLING + query, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        sids.append(json.loads(body[1:])["sid"])
    connection.close()
    return sids


def are_open(server, sids):
    """Return whether each session exists, by its response to a request that ends none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    found = []
    for sid in sids:
        connection.request("POST", f"{POLLING}&sid={sid}", "3")
        response = connection.getresponse()
        response.read()
        found.append(response.status == 200)
    connection.close()
    return found


# Bytes


@pytest.mark.slow
def test_sessions_keep_nothing_of_large_heads(fresh_server):
    server = fresh_server()
    open_sessions(server, 100)
    with Bystander(server) as bystander:
        open_sessions(server, 1500, PADDING | {"apikey": "k" * 500}, QUERY)
    assert bystander.growth < 20_000_000
    assert server.stalls() == []


def test_websockets_and_waiting_polls_keep_nothing_of_large_heads(fresh_server):
    server = fresh_server()
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = f"HTTP/1.1\r\nHost: localhost\r\nX-Pad: {'p' * 15_000}\r\n"
    websocket = f"GET /socket.io/?EIO=4&transport=websocket{QUERY} {head}{upgrade}Sec-WebSocket-Version: 13\r\n\r\n"
    connections = []

    def connect(request):
        connections.append(socket.create_connection(("127.0.0.1", server.port), 30))
        connections[-1].sendall(request.encode())

    def connect_all(count):
        sids = open_sessions(server, count)
        for sid in sids:
            connect(websocket)
            connect(f"GET {POLLING}&sid={sid}{QUERY} {head}Origin: http://{'o' * 15_000}.example\r\n\r\n")
        for connection in connections[-2 * count :: 2]:
            assert connection.recv(12) == b"HTTP/1.1 101"

    connect_all(50)
    with Bystander(server) as bystander:
        connect_all(400)
    for connection in connections:
        connection.close()
    assert bystander.growth < 800 * 20_000


@pytest.mark.slow
@pytest.mark.bound("LIMIT_PENDING_SESSIONS_PER_ADDRESS")
def test_ten_thousand_sessions_of_one_address_are_open_at_once_and_take_two_kilobytes_each(fresh_server):
    server = fresh_server(LIMIT_JOIN_SECONDS="100")
    open_sessions(server, 500)
    with Bystander(server) as bystander:
        sids = open_sessions(server, 10_000, {"apikey": "k" * 500})
    assert all(are_open(server, sids))
    more = open_sessions(server, 10)
    assert are_open(server, sids[:10] + more) == [False] * 10 + [True] * 10
    assert bystander.growth < 30_000_000
    assert server.stalls() == []


@pytest.mark.bound("LIMIT_HANDSHAKE_KEY_BYTES")
@pytest.mark.parametrize("header", [{"apikey": "k" * 513}, {}])
def test_keys_of_a_handshake_are_bounded(server, header):
    """A longer one fits into `auth`."""
    query = "" if header else "&apikey=" * 9
    response = server.get(POLLING + query, key=None, headers=header)
    assert response.status == 431
    assert "send the key as `auth`" in response.json["response"]["message"][0]

    raw = Raw(server.url)
    assert raw.join("/", {"apikey": "k" * 4096}) == ("4", {"message": "Unauthorized"})
    raw.close()


@pytest.mark.bound("LIMIT_CONNECT_BYTES")
def test_a_stranger_sends_no_large_packets(server):
    polling, auth = Polling(server.url), json.dumps({"apikey": "k" * 131_072})
    with pytest.raises(AssertionError, match=r"400: .* over 131072 bytes"):
        polling.post(f"40{auth}")
    websocket = Raw(server.url)
    websocket.socket.send(f"40{auth}")
    with pytest.raises(ConnectionClosed):
        websocket.event()
    websocket.close()


@pytest.mark.bound("LIMIT_MESSAGE_BYTES")
def test_a_client_that_has_joined_sends_large_packets(server):
    instance = server.create()
    joining = f'40/{instance.name},{{"apikey":"{instance.token}"}}'
    large = f'42/{instance.name},1["send_message",{{"text":[],"padding":"{"a" * 500_000}"}}]'
    polling = Polling(server.url)
    polling.post(joining, large)
    assert polling.poll_until(lambda packet: packet.startswith(f"43/{instance.name},1["))
    websocket = StuckReader(server.port)
    websocket.join(f"/{instance.name}", apikey=instance.token)
    websocket.socket.sendall(b"\x81\xff" + len(large).to_bytes(8) + b"\0\0\0\0" + large.encode())
    assert websocket.packet().startswith(f"43/{instance.name},1[")
    websocket.close()


# Number


@pytest.mark.bound("LIMIT_PENDING_SESSIONS")
@pytest.mark.bound("LIMIT_PENDING_SESSIONS_PER_ADDRESS")
def test_beyond_a_number_the_oldest_session_of_an_address_ends_and_beyond_another_one_the_oldest_of_all(fresh_server):
    server = fresh_server(
        LIMIT_PENDING_SESSIONS_PER_ADDRESS="20", LIMIT_PENDING_SESSIONS="30", TRUSTED_PROXIES="127.0.0.1"
    )
    one = open_sessions(server, 25, {"X-Forwarded-For": "192.0.2.1"})
    assert are_open(server, one) == [False] * 5 + [True] * 20
    two = open_sessions(server, 15, {"X-Forwarded-For": "192.0.2.2"})
    assert are_open(server, one + two) == [False] * 10 + [True] * 15 + [True] * 15


def test_clients_that_have_joined_are_not_counted(fresh_server):
    server = fresh_server(LIMIT_PENDING_SESSIONS_PER_ADDRESS="10")
    instance = server.create()
    joined = [Polling(server.url) for _ in range(5)]
    sockets = [Raw(server.url) for _ in range(5)]
    for client in joined:
        client.join(f"/{instance.name}", apikey=instance.token)
    for client in sockets:
        assert client.join(f"/{instance.name}", {"apikey": instance.token})[0] == "0"
    flood = [Raw(server.url) for _ in range(20)]
    open_sessions(server, 20)

    server.receive(instance, "still here")

    for client in joined:
        while not any("still here" in packet for packet in client.poll()):
            pass
    for client in sockets:
        while client.event()[0] != "messages.upsert":
            pass
        client.close()
    for client in flood:
        with pytest.raises(ConnectionClosed):
            client.event()
        client.close()


# Time


@pytest.fixture
def hasty_server(fresh_server):
    return fresh_server(LIMIT_JOIN_SECONDS="1")


@pytest.mark.bound("LIMIT_JOIN_SECONDS")
def test_a_session_that_joins_nothing_ends_in_time(hasty_server):
    instance = hasty_server.create()
    idle, silent, refused, leaving, joined = (Polling(hasty_server.url) for _ in range(5))
    websocket = Raw(hasty_server.url)
    refused.post("40,")
    for client in (leaving, joined):
        client.join(f"/{instance.name}", apikey=instance.token)
    leaving.post(f"41/{instance.name},")
    began = time.monotonic()

    assert idle.poll() == [""]
    with pytest.raises(ConnectionClosed):
        websocket.event()
    websocket.close()

    for client in (silent, refused, leaving):
        sid = client.query["sid"]
        until(lambda sid=sid: are_open(hasty_server, [sid]) == [False], timeout=5)
    assert time.monotonic() - began > 0.5
    assert are_open(hasty_server, [joined.query["sid"]]) == [True]


# All together


def test_what_strangers_send_and_do_not_complete_has_one_budget(fresh_server):
    """Half of it is theirs; of that, three quarters are for large messages and bodies."""
    server = fresh_server(MAX_HELD_BYTES="2000000")
    sids = open_sessions(server, 20)
    head = f"HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n{'3' * 100_000}"
    websockets, bodies = [StuckReader(server.port) for _ in range(20)], []
    for websocket in websockets:
        assert websocket.packet().startswith("0{")
        websocket.socket.sendall(b"\x81\xff" + (120_000).to_bytes(8) + b"\0\0\0\0" + b"a" * 100_000)
    for sid in sids:
        bodies.append(socket.create_connection(("127.0.0.1", server.port), 20))
        bodies[-1].sendall(f"POST {POLLING}&sid={sid} {head}".encode())

    time.sleep(0.4)
    assert 5 <= count_closed([websocket.socket for websocket in websockets] + bodies) < 40
    for body in bodies:
        body.close()
    for websocket in websockets:
        websocket.close()
    instance = server.create()
    until(lambda: can_join(server, instance))
    assert "Overloaded: " in server.log.read_text()


def count_closed(connections):
    """Return how many of these connections the server has written to or closed."""
    readable, _, _ = select.select(connections, [], [], 0)
    return len(readable)


def can_join(server, instance):
    """Return whether a client can post a large packet and join."""
    client = Polling(server.url)
    auth = json.dumps({"apikey": instance.token, "padding": "p" * 90_000})
    try:
        client.post(f"40/{instance.name},{auth}")
    except AssertionError:
        return False
    return client.poll()[0].startswith(f"40/{instance.name},")
