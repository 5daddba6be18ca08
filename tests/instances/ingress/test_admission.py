"""Admission: large bodies are read for keys that may post them, and all bodies within one budget of memory."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.clients.http import begin_of_response
from tests.clients.raw import Raw
from tests.environment import APP_SECRET, GLOBAL_KEY
from tests.faults.stuck import StuckReader
from tests.in_process import until
from tests.server import Number, Server

pytestmark = pytest.mark.any_database

KIB = 1024
#: The head of a request of Meta's, whose signature is checked once the body is there.
META = ("/webhook/meta", {"X-Hub-Signature-256": "sha256=x"})


class Poster:
    """A connection that sends a POST request piece by piece."""

    def __init__(self, server: Server, path: str, headers: dict[str, str], size: int | None = None) -> None:
        """Send the head; `size` is the announced length of the body, None for a chunked one."""
        framing = {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers | framing).items()]
        self.is_chunked = size is None
        self.socket = socket.create_connection(("127.0.0.1", server.port), 20)
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def response(self) -> tuple[int, str, bytes]:
        """Wait for the response; returns its status, its head and its body."""
        came = b""
        while not _is_complete(came):
            data = self.socket.recv(65536)
            assert data, came
            came += data
        head, _, body = came.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode().lower(), body

    def close(self) -> None:
        self.socket.close()


def _is_complete(response: bytes) -> bool:
    head, _, body = response.partition(b"\r\n\r\n")
    _, is_announced, length = head.lower().partition(b"content-length:")
    return len(body) >= int(length.split()[0]) if is_announced else body.endswith(b"0\r\n\r\n")


@pytest.fixture
def post(server: Server) -> Iterator:
    """Begin a POST request, which is closed at the end: post("/path", {...}, size) → Poster."""
    with ExitStack() as opened:

        def begin(path, headers, size=None, at=server):
            poster = Poster(at, path, headers, size)
            opened.callback(poster.close)
            return poster

        yield begin


# Key before body


@pytest.fixture
def mine(server: Server) -> Number:
    return server.create()


@pytest.fixture
def other(server: Server) -> Number:
    return server.create()


#: Requests by their paths and headers; {} is an instance, its own token or that of another one.
REFUSED = {
    "a wrong key": ("/event/publish/{name}", {"apikey": "wrong"}),
    "no key": ("/event/publish/{name}", {}),
    "a foreign key": ("/event/publish/{name}", {"apikey": "{foreign}"}),
    "an unknown name": ("/event/publish/nobody", {"apikey": "{foreign}"}),
    "a wrong key of an engine": ("/webhook/evolution", {"apikey": "wrong"}),
    "no signature": ("/webhook/meta", {}),
    "a wrong key at a view": ("/websocket/set/{name}", {"apikey": "wrong"}),
    "no key at a view": ("/message/sendText/{name}", {}),
}


@pytest.mark.bound("LIMIT_SMALL_BODY")
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("size", [10_000_000, None])
def test_a_large_body_that_may_not_be_posted_is_not_waited_for(post, mine, other, case, size):
    path, headers = REFUSED[case]
    headers = {name: value.format(foreign=other.token) for name, value in headers.items()}
    poster = post(path.format(name=mine.name), headers, size)
    if size is None:
        poster.send(b" " * 70_000)  # a chunked body is known to be large once it is

    status, head, body = poster.response()

    assert status == 401
    assert "\r\nconnection: close" in head
    assert json.loads(body)["response"]["message"] == "Unauthorized"


def test_a_large_body_for_an_unknown_instance_or_scope_is_refused_as_a_small_one(server, post, mine):
    for size in (100, 1_000_000):
        poster = post("/event/publish/nobody", {"apikey": GLOBAL_KEY}, size)
        if size == 100:
            poster.send(b" " * size)
        status, _, body = poster.response()
        assert (status, json.loads(body)["response"]["message"]) == (404, ['The "nobody" instance does not exist'])


def test_a_client_that_sends_all_of_a_refused_body_gets_the_response(server, mine):
    for _ in range(3):
        response = server.post(server.path("/event/publish", mine), b" " * 12_000_000, key="wrong")
        assert response.status == 401
    response = server.post(server.path("/event/publish", mine), b" " * 18_000_000)
    assert response.status == 413


def test_large_bodies_of_valid_keys_are_accepted(server, mine):
    event = {"event": "call", "data": "x" * 3_000_000}
    assert server.post(server.path("/event/publish", mine), event, key=mine.token).status == 201
    assert server.receive(mine, "x" * 3_000_000).status == 200
    body = {"number": "5511988887777", "text": "x" * 3_000_000}
    assert server.post(server.path("/message/sendText", mine), body).status == 400, "too long a text"


@pytest.mark.bound("LIMIT_FORM_BYTES")
def test_a_form_is_smaller_than_json(server, post):
    """Django's parser takes half a second for 16 MB of them, also of clients that are not logged in."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"username=" + b"%41" * 300_000
    assert server.request("POST", "/admin/logout/", body, headers=form).status == 403, "a CSRF token is missing"
    assert server.request("POST", "/admin/logout/", body * 2, headers=form).status == 413


# One budget


SMALL = {"MAX_HELD_BYTES": str(KIB * KIB)}


@pytest.fixture(scope="module")
def small(environment: dict[str, str]) -> Iterator[Server]:
    """A server that may hold 1 MiB: of that, 512 KiB for strangers, of which 384 KiB are in bodies over 64 KiB."""
    server = Server(environment | SMALL)
    server.start()
    yield server
    server.stop()


def meta_post(server: Server, size: int) -> int:
    """Post a signed payload of so many bytes; returns the status."""
    body = json.dumps({"object": "x", "padding": ""}).encode().ljust(size)
    return server.post_meta(body).status


def check_overload(response: tuple[int, str, bytes]) -> None:
    status, head, body = response
    assert (status, json.loads(body)["error"]) == (503, "Service Unavailable")
    assert "\r\nretry-after: 5" in head
    assert "try again in 5 seconds" in json.loads(body)["response"]["message"][0]


def test_beyond_their_share_strangers_are_told_to_come_back(small, post):
    mine = small.create()
    held = [post(*META, 190 * KIB, at=small) for _ in range(2)]
    for each in held:
        each.send(b" " * 180 * KIB)
    time.sleep(0.2)

    beyond = post(*META, 100 * KIB, at=small)
    beyond.send(b" " * 90 * KIB)
    check_overload(beyond.response())
    chunked = post(*META, at=small)
    chunked.send(b" " * 90 * KIB)
    check_overload(chunked.response())

    # small bodies, and those of known keys, have shares of their own
    assert meta_post(small, 60 * KIB) == 200
    event = {"event": "call", "data": "x" * 300 * KIB}
    assert small.post(small.path("/event/publish", mine), event, key=mine.token).status == 201

    held[0].close()
    until(lambda: meta_post(small, 100 * KIB) == 200)
    held[1].send(b" " * 10 * KIB)
    assert held[1].response()[0] == 403, "its signature is wrong"
    assert meta_post(small, 300 * KIB) == 200


@pytest.mark.bound("LIMIT_INCOMPLETE_SECONDS")
def test_strangers_who_send_slowly_give_way_to_others(small, post):
    """Bodies that are never completed keep nobody's webhooks out, whatever their size, nor do messages of sockets."""
    slow = [post(*META, 190 * KIB, at=small) for _ in range(2)] + [post(*META, 60 * KIB, at=small) for _ in range(2)]
    for each, size in zip(slow, (180, 180, 59, 59), strict=True):
        each.send(b" " * size * KIB)
    time.sleep(1.2)

    assert meta_post(small, 60 * KIB) == 200
    assert len(select.select([each.socket for each in slow], [], [], 0.5)[0]) == 1, "one has given way"
    assert meta_post(small, 300 * KIB) == 200
    for each in slow[:2]:
        check_overload(each.response())
    sockets = [StuckReader(small.port) for _ in range(5)]
    for each in sockets:
        each.socket.sendall(b"\x81\xff" + (120 * KIB).to_bytes(8) + bytes(4) + b"x" * 110 * KIB)
    time.sleep(1.2)
    assert meta_post(small, 300 * KIB) == 200
    assert sockets[0].packet().startswith("0{")
    with pytest.raises(ConnectionError):
        sockets[0].packet()
    for each in sockets:
        each.close()


def test_a_key_has_half_of_the_budget(small, post):
    mine, other = small.create(), small.create()
    # announced bodies of known keys count, also while nothing has come of them
    held = [post(f"/event/publish/{mine.name}", {"apikey": mine.token}, 180 * KIB, at=small) for _ in range(2)]
    held[1].send(b" ")
    time.sleep(0.2)

    check_overload(post(f"/event/publish/{mine.name}", {"apikey": mine.token}, 100 * KIB, at=small).response())
    event = {"event": "call", "data": "x" * 250 * KIB}
    assert small.post(small.path("/event/publish", other), event, key=other.token).status == 201
    assert small.post(small.path("/event/publish", mine), {"event": "call", "data": 1}, key=mine.token).status == 201


def test_a_small_body_of_a_known_key_is_not_refused_because_of_strangers(small, post):
    mine = small.create()
    for _ in range(8):
        post(*META, 64 * KIB, at=small).send(b" " * 63 * KIB)
    time.sleep(0.2)

    refused = post(*META, 20 * KIB, at=small)
    refused.send(b" " * 19 * KIB)
    check_overload(refused.response())
    assert small.receive(mine, "x" * 20 * KIB).status == 200
    assert small.get(small.path("/instance/connectionState", mine)).status == 200


def test_at_half_load_nobody_is_refused(small, post):
    numbers = [small.create() for _ in range(2)]
    for number in numbers:
        post(f"/event/publish/{number.name}", {"apikey": number.token}, 150 * KIB, at=small)
    post(*META, 100 * KIB, at=small).send(b" " * 90 * KIB)
    time.sleep(0.2)
    assert meta_post(small, 110 * KIB) == 200


def test_one_body_is_always_taken(small):
    mine = small.create()
    assert meta_post(small, 3_000_000) == 200
    event = {"event": "call", "data": "x" * 3_000_000}
    assert small.post(small.path("/event/publish", mine), event, key=mine.token).status == 201


def test_bytes_are_released_however_a_request_ends(small, post):
    mine = small.create()
    publish = f"/event/publish/{mine.name}"
    for _ in range(5):
        post(publish, {"apikey": mine.token}, 500 * KIB, at=small).close()  # disconnects
        until(lambda: small.post(publish, b"{" * 500 * KIB, key=mine.token).status == 400)
        assert post(publish, {"apikey": mine.token}, 18_000_000, at=small).response()[0] == 413
    event = {"event": "call", "data": "x" * 480 * KIB}
    until(lambda: small.post(publish, event, key=mine.token).status == 201)


def test_an_overload_is_logged_once_a_minute_with_its_figures(start_server, post):
    small = start_server(**SMALL)
    post(*META, 500 * KIB, at=small).send(b" " * 490 * KIB)
    time.sleep(0.2)
    for _ in range(5):
        check = post(*META, 400 * KIB, at=small)
        check.send(b" " * 390 * KIB)
        check_overload(check.response())
    lines = [line for line in small.log.read_text().splitlines() if "Overloaded" in line]
    assert len(lines) == 1
    assert "1 requests were answered 503" in lines[0]
    figures = r"Held: 0\.\d of 1\.0 MiB, 0\.\d of them in bodies over 64 KiB and 0\.\d for clients without a known key"
    assert re.search(figures, lines[0])


def test_responses_that_wait_for_their_readers_count(start_server):
    """Beyond what the kernel buffers, which is up to 4 MB."""
    server = start_server(MAX_HELD_BYTES=str(16 * KIB * KIB))
    mine = server.create()
    for _ in range(3):
        event = {"event": "call", "data": "x" * 3_000_000}
        assert server.post(server.path("/event/publish", mine), event, key=mine.token).status == 201
    request = f"GET /event/find/{mine.name} HTTP/1.1\r\nHost: localhost\r\napikey: {mine.token}\r\n\r\n".encode()
    with ExitStack() as opened:
        begins = [begin_of_response(opened, server, request) for _ in range(3)]
        assert begins == [b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 503"]
    until(lambda: server.get(server.path("/event/find", mine), key=mine.token).status == 200)


@pytest.mark.slow
def test_messages_of_websockets_count_while_they_are_not_complete(small):
    mine = small.create()
    sockets = [Raw(small.url) for _ in range(4)]
    for each in sockets:
        each.join(f"/{mine.name}", {"apikey": mine.token})
    for each in sockets[:2]:
        each.begin_message(900 * KIB, b"x" * 180 * KIB)
    time.sleep(0.2)

    sockets[2].begin_message(900 * KIB, b"x" * 90 * KIB)
    with pytest.raises(ConnectionClosedError) as closed:
        sockets[2].event()
    assert closed.value.rcvd.code == 1013
    assert "try again in 5 seconds" in closed.value.rcvd.reason

    for each in sockets[:2]:
        each.socket.socket.shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    sockets[3].begin_message(400 * KIB, b"x" * 390 * KIB)
    with pytest.raises(TimeoutError):
        sockets[3].event(timeout=0.5)
    sockets[3].close()


def test_a_websocket_that_was_refused_holds_nothing_while_its_client_stays(start_server):
    small = start_server(**SMALL, LIMIT_INCOMPLETE_SECONDS="60")
    sockets = [StuckReader(small.port) for _ in range(6)]
    for each in sockets:
        assert each.packet().startswith("0{")
        each.socket.sendall(b"\x81\xff" + (120 * KIB).to_bytes(8) + bytes(4) + b"x" * 60 * KIB)
    time.sleep(0.3)
    for each in sockets:
        each.socket.sendall(b"x" * 55 * KIB)
    until(lambda: select.select([each.socket for each in sockets], [], [], 0)[0])

    statuses = [meta_post(small, 60 * KIB) for _ in range(5)]
    assert statuses == [200] * 5, "the rest of strangers' bytes"
    for each in sockets:
        each.close()


# Memory


def signed(body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()}


@pytest.mark.bound("MAX_HELD_BYTES")
@pytest.mark.slow
def test_five_hundred_large_bodies_take_no_more_than_the_budget(start_server, post):
    """Of 8 GB in 500 bodies, with and without keys, no more is held than the budget, and nothing at the end."""
    budget = 32 * KIB * KIB
    server = start_server(MAX_HELD_BYTES=str(budget))
    instance = server.create()
    server.receive(instance)
    before = server.memory()
    posters = []
    for _ in range(250):
        posters.append(post(*META, 16 * KIB * KIB, at=server))
        posters.append(post("/webhook/evolution", {"apikey": GLOBAL_KEY}, 16 * KIB * KIB, at=server))
    piece = b" " * 16 * KIB
    most = 0
    for poster in posters:
        poster.socket.setblocking(False)
    for _ in range(200):
        for poster in posters:
            try:
                poster.socket.send(piece)
            except OSError:
                continue
        most = max(most, server.memory())
        if sum(map(_is_answered, posters)) == len(posters) - 2:
            break
    assert server.receive(instance).status == 200, "small bodies are taken meanwhile"
    assert most - before < budget + 50_000_000
    statuses = [status for poster in posters if (status := _status(poster))]
    assert statuses.count(503) > 450
    for poster in posters:
        poster.close()
    until(lambda: server.memory() - before < 50_000_000, 20)


def _is_answered(poster: Poster) -> bool:
    return bool(_status(poster))


def _status(poster: Poster) -> int | None:
    try:
        came = poster.socket.recv(12, socket.MSG_PEEK)
    except OSError:
        return None
    return int(came.split()[1]) if came.startswith(b"HTTP/1.1") else None
