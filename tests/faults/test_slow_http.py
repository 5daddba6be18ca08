"""Clients that send requests or read responses without end: the server disconnects them, and serves the others."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
import time
from contextlib import suppress

import pytest
import uvicorn

from instances.ingress import body_limit
from realtime.wire import http
from tests.clients.polling import Polling
from tests.server import free_port

pytestmark = pytest.mark.any_database

HEAD = "HTTP/1.1\r\nHost: localhost\r\n"


class Dripper:
    """A connection that sends something at once, and then a little more each second."""

    def __init__(self, port, first, more):
        self.more = more
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(first)
        self.socket.setblocking(False)
        self.response = b""
        self.is_over = False

    def send_more(self):
        """Send a little more, and read."""
        try:
            self.socket.send(self.more) if self.more else None
            while data := self.socket.recv(65536):
                self.response += data
            self.is_over = True
        except BlockingIOError:
            pass
        except OSError:  # reset, since it went on sending
            self.is_over = True


def drippers(server, count):
    """Return `count` of each kind of slow client."""
    posted = f"{HEAD}apikey: x\r\nContent-Length: 1000\r\n\r\n".encode()
    chunked = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    session = Polling(server.url).path.encode()
    kinds = {
        "nothing": (b"", b""),
        "empty lines": (b"", b"\r\n"),
        "half a line": (b"GET /inst", b""),
        "a head": (f"GET / {HEAD}X-A: ".encode(), b"a"),
        "no body": (b"POST /webhook/evolution " + posted, b""),
        "a body": (b"POST /webhook/evolution " + posted, b" "),
        "a chunked body": (b"POST /webhook/meta " + chunked, b"1\r\n \r\n"),
        "packets": (b"POST " + session + b" " + posted, b" "),
        "no packets": (b"POST " + session + b" " + posted, b""),
        "a body with a response": (b"POST /event/stream/x " + posted, b" "),
    }
    return {kind: [Dripper(server.port, first, more) for _ in range(count)] for kind, (first, more) in kinds.items()}


@pytest.mark.slow
@pytest.mark.bound("LIMIT_HEAD_SECONDS")
@pytest.mark.bound("LIMIT_BODY_PATIENCE")
def test_requests_without_end_are_refused_and_delay_nobody(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    healthy = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    slow = drippers(server, 20)

    deadline = time.monotonic() + 30
    number = 0
    while not all(one.is_over for kind in slow.values() for one in kind):
        assert time.monotonic() < deadline, [kind for kind in slow if not all(one.is_over for one in slow[kind])]
        for kind in slow.values():
            for one in kind:
                one.send_more()
        assert server.receive(instance, str(number)).status == 200
        assert healthy.event("messages.upsert")["data"]["message"]["conversation"] == str(number)
        number += 1
        time.sleep(0.5)

    for kind in ("half a line", "a head", "no body", "a body", "a chunked body"):
        for one in slow[kind]:
            head, _, body = one.response.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 "), (kind, one.response)
            assert b"\r\nconnection: close" in head
            error = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
            assert (error["status"], error["error"]) == (408, "Request Timeout")
    for kind in ("nothing", "empty lines"):
        assert {one.response for one in slow[kind]} == {b""}  # a response would seem to be one to the next request
    for one in itertools.chain(*slow.values()):
        one.socket.close()
    healthy.disconnect()
    server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("more", [b"X-A: " + b"a" * 20_000, b"\r\n".join([b"X-A: a"] * 150), b"Content-Length: 1"])
def test_an_invalid_handshake_is_refused(server, more):
    """Too long, or not a GET."""
    method = b"POST" if more.startswith(b"Content") else b"GET"
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    path = b" /socket.io/?EIO=4&transport=websocket "
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(method + path + HEAD.encode() + upgrade + b"Sec-WebSocket-Version: 13\r\n" + more + b"\r\n\r\n")
        assert closed_with(client).startswith(b"HTTP/1.1 400 ")


# The limits one by one, in less time


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(http, "BODY_PATIENCE", 0.3)
    monkeypatch.setattr(http, "RESPONSE_SECONDS", 0.3)
    monkeypatch.setattr(http, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(body_limit, "BODY_PATIENCE", 0.3)


class Application:
    """Responds to each request with its body after a while; to /long, with a large one."""

    def __init__(self):
        #: Requests whose response was sent to the last byte.
        self.responded = 0

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await asyncio.sleep(0.6)
        body = b"x" * 8_000_000 if scope["path"] == "/long" else body
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-size", str(len(body)).encode())]})
        for start in range(0, len(body) + 1, 100_000):
            await send({"type": "http.response.body", "body": body[start : start + 100_000], "more_body": True})
        await send({"type": "http.response.body"})
        self.responded += 1


@pytest.fixture
def application(short):
    application = Application()
    application.port = free_port()
    config = uvicorn.Config(
        application, port=application.port, http=http.LimitedProtocol, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield application
    server.should_exit = True
    thread.join(10)


def connection(application, buffer=None):
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(10)
    made.connect(("127.0.0.1", application.port))
    return made


def closed_with(client):
    """Read until the server closes the connection, by FIN or RST."""
    received = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


@pytest.mark.bound("LIMIT_BODY_RATE")
def test_a_body_may_take_long_while_bytes_arrive(application):
    with connection(application) as client:
        client.sendall(f"POST / {HEAD}Content-Length: 100000\r\nConnection: close\r\n\r\n".encode())
        for _ in range(10):
            client.sendall(b"x" * 10_000)
            time.sleep(0.1)
        response = closed_with(client)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"x-size: 100000" in response


def test_an_application_may_take_longer_than_a_client(application):
    """A part of the next request gets no response before the first one has."""
    with connection(application) as client:
        client.sendall(f"GET / {HEAD}\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    with connection(application) as client:
        client.sendall(f"GET / {HEAD}\r\nGET / HTT".encode())
        assert closed_with(client) == b""


@pytest.mark.bound("LIMIT_RESPONSE_SECONDS")
def test_a_response_that_is_not_read_is_aborted(application):
    with connection(application, 4096) as client:
        client.sendall(f"GET /long {HEAD}\r\n".encode())
        time.sleep(1)
        assert client.recv(10)
        time.sleep(1)
        assert len(closed_with(client)) < 8_000_000


@pytest.mark.slow
def test_a_response_may_take_long_while_it_is_read(application, monkeypatch):
    monkeypatch.setattr(http, "RESPONSE_SECONDS", 2)
    with connection(application, 4096) as client:
        client.sendall(f"GET /long {HEAD}Connection: close\r\n\r\n".encode())
        read = 0
        while data := client.recv(200_000):
            read += len(data)
            time.sleep(len(data) / 2_500_000)
    assert read > 8_000_000
    assert application.responded == 1


async def test_a_slow_body_is_refused_under_any_server(short):
    """BodyLimit sees only ASGI messages."""
    sent = []

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"1000")]}
    await body_limit.BodyLimit(None)(scope, receive, send)

    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
