"""Oversized heads, trailers and chunk extensions, from strangers: they are refused, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import pytest

from evoapi.threads import ThreadedWsgi
from realtime.asgi import SocketIO
from tests.environment import GLOBAL_KEY
from tests.faults.floods import Bystander, flood
from tests.in_process import InProcessServer

pytestmark = pytest.mark.any_database

SIZE, LINES = 64 * 1024, 200
CLOSE = b"Connection: close"
UPGRADE = [
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
]

#: Endpoints for strangers: the request's first line, its headers, its body, and the status of a harmless request.
WAYS = {
    "REST": (b"GET /instance/fetchInstances HTTP/1.1", [CLOSE], b"", 401),
    "polling": (b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1", [CLOSE], b"", 200),
    "websocket": (b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", UPGRADE, b"", 400),
    "Meta": (b"POST /webhook/meta HTTP/1.1", [CLOSE, b"Content-Length: 2"], b"{}", 401),
    "stream": (b"GET /event/stream/loja HTTP/1.1", [CLOSE], b"", 401),
}

CHUNKED = b"POST /webhook/meta HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def head(first, lines):
    return b"\r\n".join([first, b"Host: localhost", *lines, b"", b""])


def padded(first, lines, size):
    """Return a head of `size` bytes, padded by one header."""
    missing = size - len(head(first, [*lines, b"X-A: "]))
    return head(first, [*lines, b"X-A: " + b"a" * missing])


def with_lines(first, lines, count):
    """Return a head of `count` lines after its first one, as long as they can be."""
    room = min(300, (SIZE - len(head(first, lines))) // count - 2)
    return head(first, [*lines, *[b"a:".ljust(room, b"b")] * (count - len(lines) - 1)])


def with_fields(first, lines, size):
    """Return a head of `size` bytes, most of them in the query."""
    method, path, version = first.split(b" ")
    path += b"&" if b"?" in path else b"?"
    missing = size - len(head(b" ".join([method, path, version]), lines))
    return head(b" ".join([method, path + b"%=+&" * (missing // 4) + b"a" * (missing % 4), version]), lines)


def response_to(port, data):
    """Send all data and read until the server closes; returns the status, the head and the body of the response."""
    with socket.create_connection(("127.0.0.1", port), 90) as client:
        client.sendall(data)
        came = b""
        while data := client.recv(65536):
            came += data
    top, _, body = came.partition(b"\r\n\r\n")
    return int(top.split()[1]), top.lower(), body


def check_refusal(response):
    status, top, body = response
    assert status == 431
    assert b"\r\nconnection: close" in top
    error = json.loads(body)
    assert (error["status"], error["error"]) == (431, "Request Header Fields Too Large")
    assert "64 KiB" in error["response"]["message"][0]


@pytest.mark.bound("LIMIT_HEAD_BYTES")
@pytest.mark.parametrize("way", WAYS)
def test_a_head_may_have_so_many_bytes(server, way):
    first, lines, body, status = WAYS[way]
    with Bystander(server) as bystander:
        assert response_to(server.port, padded(first, lines, SIZE) + body)[0] == status
        check_refusal(response_to(server.port, padded(first, lines, SIZE + 1) + body))
        check_refusal(response_to(server.port, padded(first, lines, 2 * SIZE) + body))
    assert bystander.longest_wait < 1


@pytest.mark.bound("LIMIT_HEAD_LINES")
@pytest.mark.parametrize("way", WAYS)
def test_a_head_may_have_so_many_lines(server, way):
    first, lines, body, status = WAYS[way]
    with Bystander(server) as bystander:
        assert response_to(server.port, with_lines(first, lines, LINES) + body)[0] == status
        check_refusal(response_to(server.port, with_lines(first, lines, LINES + 1) + body))
        check_refusal(response_to(server.port, with_lines(first, lines, 2 * LINES) + body))
    assert bystander.longest_wait < 1


@pytest.mark.parametrize("way", WAYS)
def test_a_query_is_a_part_of_the_head(server, way):
    """It also has at most a thousand fields, since each costs more than its bytes."""
    first, lines, body, status = WAYS[way]
    with Bystander(server) as bystander:
        status = {"polling": 400, "websocket": 403, "stream": 400}.get(way, status)
        response = response_to(server.port, with_fields(first, lines, SIZE) + body)
        assert response[0] == status
        assert (b"fields" in response[2]) == (status == 400)
        check_refusal(response_to(server.port, with_fields(first, lines, 2 * SIZE) + body))
    assert bystander.longest_wait < 1


@pytest.mark.parametrize("way", WAYS)
def test_a_million_lines_delay_nobody(server, way):
    first, lines, _, _ = WAYS[way]
    with Bystander(server) as bystander:
        check_refusal(response_to(server.port, head(first, lines + [b"a:b"] * 980_000)))
    assert bystander.longest_wait < 2
    assert bystander.growth < 50_000_000


#: Requests without end: the beginning, and the part that is repeated.
ENDLESS = {
    "lines": (b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 13_000),
    "a value": (b"GET / HTTP/1.1\r\na: ", b"a" * 65536),
    "a name": (b"GET / HTTP/1.1\r\n", b"a" * 65536),
    "a path": (b"GET /", b"a" * 65536),
    "spaces": (b"GET /", b" " * 65536),
    "a websocket's lines": (head(WAYS["websocket"][0], UPGRADE)[:-2], b"a:b\r\n" * 13_000),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"a:b\r\n" * 13_000),
    "a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\na: ", b"a" * 65536),
    "an extension": (CHUNKED + b"5;a=", b"a" * 65536),
    "extensions": (CHUNKED, (b"1;a=" + b"a" * 1000 + b"\r\na\r\n") * 60),
    "a size": (CHUNKED, b"0" * 65536),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_requests_without_end_are_refused_at_once(server, kind):
    with Bystander(server) as bystander:
        began = time.monotonic()
        seen = flood(server.port, *ENDLESS[kind])
        took = time.monotonic() - began
    assert bystander.growth < 50_000_000
    assert seen.response.startswith(b"HTTP/1.1 431 ")
    assert seen.is_closed
    assert took < 5
    assert bystander.longest_wait < 1


def test_empty_lines_without_end_are_disconnected(server):
    """They begin no request, so they get no response."""
    seen = flood(server.port, b"", b"\r\n" * 30_000)
    assert (seen.is_closed, seen.response) == (True, b"")
    assert seen.sent < 30_000_000


def send_on(client, more, pause):
    """Send repeatedly until the server ends the connection, for at most 30 seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        client.sendall(more)
        time.sleep(pause)


@pytest.mark.bound("LIMIT_LINGER_SECONDS")
@pytest.mark.bound("LIMIT_LINGER_BYTES")
def test_a_refused_client_may_go_on_sending_but_not_for_ever(server):
    """A client that reads only after it has sent everything gets its response; none of its bytes are kept."""
    with Bystander(server) as bystander:
        check_refusal(response_to(server.port, padded(b"GET / HTTP/1.1", [], 12_000_000)))
        for more, pause in ((b"a" * 100_000, 0), (b"a", 0.1)):
            with socket.create_connection(("127.0.0.1", server.port), 30) as client:
                client.sendall(padded(b"GET / HTTP/1.1", [], 100_000))
                with pytest.raises(ConnectionError):
                    send_on(client, more, pause)
    assert bystander.growth < 50_000_000


@pytest.mark.parametrize("first", [b"CONNECT a:1 HTTP/1.1", b"GET a:1 HTTP/1.1", b"PRI * HTTP/2.0", b"GET / HTTP/9.9"])
def test_a_malformed_first_line_is_refused(server, first):
    before = server.log.stat().st_size
    assert response_to(server.port, head(first, [CLOSE]))[0] == 400
    assert b"Traceback" not in server.log.read_bytes()[before:]


# Accepted requests


def statuses_of(port, data):
    """Return the statuses of all responses until the server closes."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(data)
        came = b""
        while data := client.recv(65536):
            came += data
    return [int(rest[:3]) for rest in came.split(b"HTTP/1.1 ")[1:]]


def test_each_head_of_a_series_is_counted_by_itself(server):
    got = padded(b"GET /instance/fetchInstances HTTP/1.1", [b"a:b"] * 150, 4000)
    posted = head(b"POST /nowhere HTTP/1.1", [b"Content-Length: 20000"]) + b"a" * 20_000
    last = padded(b"GET /instance/fetchInstances HTTP/1.1", [CLOSE], SIZE)
    assert statuses_of(server.port, (got + posted) * 20 + last) == [401, 404] * 20 + [401]


@pytest.mark.parametrize("size", [2, 300_000, 3_000_000])
def test_a_body_is_no_head(server, size):
    """Even where it is sent in one write with the head, as by many clients."""
    lines = [CLOSE, b"Content-Length: %d" % size]
    assert statuses_of(server.port, padded(b"POST /webhook/meta HTTP/1.1", lines, SIZE) + b" " * size) == [401]


def test_small_chunks_are_a_body(server):
    """With their framing they are several times its bytes."""
    chunked = padded(b"POST /webhook/meta HTTP/1.1", [CLOSE, b"Transfer-Encoding: chunked"], SIZE)
    trailers = b"0\r\n" + b"a: b\r\n" * LINES + b"\r\n"
    assert statuses_of(server.port, chunked + b"1\r\n \r\n" * 100_000 + trailers) == [401]


def test_a_trailer_is_no_header(server):
    """Credentials in trailers are ignored (RFC 9110, section 6.5.1)."""
    first = b"POST /instance/create HTTP/1.1"
    chunked = head(first, [CLOSE, b"Transfer-Encoding: chunked", b"Content-Type: application/json"])
    assert statuses_of(server.port, chunked + b"2\r\n{}\r\n0\r\napikey: %b\r\n\r\n" % GLOBAL_KEY.encode()) == [401]


# Requests by the thousand


@pytest.mark.slow
def test_pipelined_requests_wait_as_bytes(server):
    with Bystander(server) as bystander:
        flood(server.port, b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000, seconds=4)
    assert bystander.growth < 50_000_000
    assert bystander.longest_wait < 1


def test_a_client_that_pipelines_and_disconnects_is_not_written_to(caplog):
    """Neither by the running request nor by those queued behind it."""
    left = threading.Event()

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        leaving = asyncio.create_task(receive_until_disconnect(receive))
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.01)
        left.set()

    with InProcessServer(application) as inside:
        with socket.create_connection(("127.0.0.1", inside.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
            assert client.recv(1000)
        assert left.wait(10)
    assert not [record for record in caplog.records if record.exc_info]


async def receive_until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def test_chunks_of_one_byte_delay_nobody(server):
    with Bystander(server) as bystander:
        flood(server.port, CHUNKED, b"1\r\n \r\n" * 10_000, seconds=4)
    assert bystander.usual_wait < 0.1
    assert bystander.longest_wait < 1


def test_no_client_keeps_a_server_from_stopping(fresh_server):
    """A head of a million lines, one without end, a refused client that stays, bodies and requests in small pieces."""
    server = fresh_server()
    endless = [ENDLESS["lines"], ENDLESS["a value"], ENDLESS["an extension"], (CHUNKED, b"1\r\n \r\n" * 10_000)]
    endless.append((b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000))
    floods = [threading.Thread(target=flood, args=(server.port, *each)) for each in endless]
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(head(b"GET / HTTP/1.1", [b"a:b"] * 980_000))
        for each in floods:
            each.start()
        time.sleep(0.5)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
    for each in floods:
        each.join()


# Under any other server


class Turns:
    """Measures the longest turn of the event loop while the `with` block runs."""

    async def __aenter__(self):
        self.longest = 0
        self._task = asyncio.create_task(self._take())
        await asyncio.sleep(0)
        return self

    async def _take(self):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.monotonic() - began)

    async def __aexit__(self, *error):
        await asyncio.sleep(0.01)  # the last one, too
        self._task.cancel()


async def messages_for(application, path, query, headers):
    """Return the messages that an ASGI application sends for a GET."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": query}
    await application(scope | {"headers": headers}, receive, send)
    return sent


LINE = (b"x-a", b"b" * 100)


async def test_lines_of_one_name_are_joined_once_for_django():
    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [environ["HTTP_X_A"].encode()]

    async with Turns() as turns:
        sent = await messages_for(ThreadedWsgi(wsgi, 1), "/", b"", [LINE] * 60_000)
    assert b"".join(message["body"] for message in sent[1:]) == b",".join([b"b" * 100] * 60_000)
    assert turns.longest < 1


@pytest.mark.django_db(transaction=True)
async def test_lines_of_one_name_are_joined_once_for_engine_io():
    application = SocketIO()
    await application.lifespan.ensure_running()
    async with Turns() as turns:
        sent = await messages_for(application, "/socket.io/", b"EIO=4&transport=polling", [LINE] * 60_000)
    assert sent[0]["status"] == 200
    assert turns.longest < 1


# Headers that cost more than their bytes


@pytest.mark.bound("LIMIT_CONTENT_TYPE_BYTES")
def test_a_content_type_may_have_a_thousand_bytes(server):
    first, length = b"POST /instance/create HTTP/1.1", b"Content-Length: 2"
    media_type = b"Content-Type: application/json"
    assert response_to(server.port, head(first, [CLOSE, length, media_type.ljust(1000, b";")]) + b"{}")[0] == 401
    for lines in ([media_type.ljust(60_000, b";")], [media_type.ljust(1000, b";")] * 50):
        with Bystander(server) as bystander:
            began = time.monotonic()
            status, _, body = response_to(server.port, head(first, [CLOSE, length, *lines]) + b"{}")
            took = time.monotonic() - began
        assert status == 431
        assert b"Content-Type is over 1024 bytes" in body
        assert max(took, bystander.longest_wait) < 1


def test_a_length_may_have_as_many_zeros_as_fit(server):
    first = b"POST /instance/create HTTP/1.1"
    for length, status in ((b"2", 401), (b"99999999", 413)):
        zeros = padded(first, [CLOSE, b"Content-Length: " + b"0" * 10_000 + length], 11_000)
        assert response_to(server.port, zeros + b"{}")[0] == status
