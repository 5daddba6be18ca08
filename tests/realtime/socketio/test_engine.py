"""The Engine.IO protocol, over raw requests: https://socket.io/docs/v4/engine-io-protocol."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_websocket

from realtime.socketio.engine import Engine
from tests.clients.polling import Polling
from tests.in_process import InProcessServer

pytestmark = pytest.mark.any_database


def echoing(**options):
    """Return an Engine.IO application that echoes messages."""
    engine = Engine(**options)

    async def echo(sid, message):
        await engine.send(sid, message)

    engine.on("message", echo)
    return InProcessServer(engine.handle_request)


def slow(seconds, handled, **options):
    """Return an Engine.IO application whose handler takes `seconds` for each message."""
    engine = Engine(**options)

    async def handle(sid, message):
        handled.append(message)
        await asyncio.sleep(seconds)

    engine.on("message", handle)
    return InProcessServer(engine.handle_request)


@pytest.fixture(scope="module")
def url():
    with echoing() as running:
        yield running.url


@pytest.fixture(scope="module")
def hasty_url():
    with echoing(ping_interval=0.15, ping_timeout=5) as running:
        yield running.url


def request(url, method, query, body=None, headers=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request(method, f"/engine.io/?{query}", body, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


class Session(Polling):
    @property
    def path(self):
        return super().path.replace("/socket.io/", "/engine.io/")

    @property
    def websocket_url(self):
        return f"{self.url.replace('http', 'ws')}/engine.io/?EIO=4&transport=websocket&sid={self.query['sid']}"

    def is_open(self):
        try:
            self.post("4still there")
        except AssertionError:
            return False
        return True


def test_the_handshake_has_times_in_milliseconds(hasty_url):
    status, text = request(hasty_url, "GET", "EIO=4&transport=polling")

    assert status == 200
    handshake = json.loads(text[1:])
    assert (handshake["pingInterval"], handshake["pingTimeout"], handshake["upgrades"]) == (150, 5000, ["websocket"])


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", "EIO=4"),
        ("GET", "EIO=4&transport=websocket"),
        ("GET", "EIO=4&transport=carrier-pigeon"),
        ("GET", "EIO=3&transport=polling"),
        ("GET", "transport=polling"),
        ("GET", "EIO=4&transport=polling&j=x"),
        ("GET", "EIO=4&transport=polling&sid=unknown"),
        ("POST", "EIO=4&transport=polling"),
        ("PUT", "EIO=4&transport=polling"),
        ("DELETE", "EIO=4&transport=polling"),
    ],
)
def test_a_request_outside_the_protocol_gets_400(url, method, query):
    assert request(url, method, query)[0] == 400


def test_an_upgrade_header_on_a_poll_changes_nothing(url):
    """Some proxies add it; uvicorn opens a websocket only for a complete handshake."""
    session = Session(url)
    session.post("4echo")
    query = f"EIO=4&transport=polling&sid={session.query['sid']}"

    assert request(url, "GET", query, headers={"Upgrade": "websocket"}) == (200, "4echo")


def test_a_chunked_body_is_read_to_its_end(url):
    session = Session(url)
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", session.path, iter([b"4one\x1e", b"4t", b"wo"]), encode_chunked=True)
    response = connection.getresponse()

    assert (response.status, response.read()) == (200, b"ok")
    connection.close()
    assert session.poll() == ["4one", "4two"]


@pytest.mark.parametrize("packet", ["2", "0", "5", "6", "7", "9"])
def test_packets_that_only_servers_send_end_the_session(url, packet):
    session = Session(url)

    with pytest.raises(AssertionError, match="400"):
        session.post(packet)
    assert not session.is_open()


def test_two_polls_at_once_end_the_session(url):
    session = Session(url)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(session.poll)
        time.sleep(0.05)
        with pytest.raises(AssertionError, match="400"):
            session.poll()
        assert first.result(10) == ["1"]
    assert not session.is_open()


def test_two_bodies_at_once_end_the_session(url):
    session = Session(url)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(f"POST {session.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n4a".encode())
        time.sleep(0.05)
        assert not session.is_open()


def test_a_body_while_another_is_handled_ends_the_session():
    handled = []
    with slow(1, handled) as running, ThreadPoolExecutor() as threads:
        session = Session(running.url)
        first = threads.submit(session.post, "4one", "4two", "4three")
        time.sleep(0.1)
        assert not session.is_open()
        first.result(10)
        assert handled == ["one"]


def test_nothing_is_handled_after_a_clients_close():
    handled = []
    with slow(0, handled) as running:
        Session(running.url).post("4one", "1", "4two")
    assert handled == ["one"]


def test_a_client_whose_body_takes_long_to_handle_stays_connected():
    """It can only send its PONG after the response."""
    with slow(1.5, [], ping_interval=0.1, ping_timeout=1) as running:
        session = Session(running.url)
        session.post("4slow")
        session.post("3")


def test_a_poll_ends_when_the_session_is_closed_by_its_client(url):
    session = Session(url)
    with ThreadPoolExecutor() as threads:
        polling = threads.submit(session.poll)
        time.sleep(0.05)
        session.post("1")
        assert polling.result(10) == ["6"]
    assert not session.is_open()


def test_a_client_that_answers_no_ping_is_disconnected():
    with echoing(ping_interval=0.1, ping_timeout=0.1) as running:
        session = Session(running.url)
        assert session.poll() == ["2"]
        time.sleep(0.5)
        assert not session.is_open()
        with open_websocket(f"ws://127.0.0.1:{running.port}/?EIO=4&transport=websocket") as websocket:
            assert websocket.recv(5).startswith("0")
            assert websocket.recv(5) == "2"
            with pytest.raises(ConnectionClosed):
                websocket.recv(5)


def test_a_client_that_answers_pings_stays_connected(hasty_url):
    session = Session(hasty_url)
    with open_websocket(f"{hasty_url.replace('http', 'ws')}/engine.io/?EIO=4&transport=websocket") as websocket:
        assert websocket.recv(5).startswith("0")
        for _ in range(3):
            assert session.poll() == ["2"]
            assert websocket.recv(5) == "2"
            session.post("3")
            websocket.send("3")


def test_texts_and_bytes_are_echoed_over_both_transports(url):
    session = Session(url)
    session.post("4echo", "bAGVjaG8=")
    assert session.poll() == ["4echo", "bAGVjaG8="]
    with open_websocket(f"{url.replace('http', 'ws')}/engine.io/?EIO=4&transport=websocket") as websocket:
        websocket.recv(5)
        websocket.send("4echo")
        websocket.send(b"\x00echo")
        assert websocket.recv(5) == "4echo"
        assert websocket.recv(5) == b"\x00echo"


def test_packets_queued_during_an_upgrade_are_sent_over_the_websocket(url):
    session = Session(url)
    session.post("4before")
    with open_websocket(session.websocket_url) as websocket:
        websocket.send("2probe")
        assert websocket.recv(5) == "3probe"
        assert session.poll() == ["6"]
        websocket.send("5")
        assert websocket.recv(5) == "4before"
        websocket.send("4after")
        assert websocket.recv(5) == "4after"
        with pytest.raises(AssertionError, match="400"):
            session.poll()
        with open_websocket(session.websocket_url) as second, pytest.raises(ConnectionClosed):
            second.recv(5)
        websocket.send("4still")
        assert websocket.recv(5) == "4still"


def test_a_malformed_packet_ends_the_session(url):
    with open_websocket(f"{url.replace('http', 'ws')}/engine.io/?EIO=4&transport=websocket") as websocket:
        websocket.recv(5)
        websocket.send("abc")
        with pytest.raises(ConnectionClosed):
            websocket.recv(5)


def test_a_client_that_hangs_up_during_a_poll_ends_the_session(url):
    session = Session(url)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaving:
        leaving.sendall(f"GET {session.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        time.sleep(0.05)
    time.sleep(0.05)

    assert not session.is_open()
