"""Requests whose Upgrade header asks for something else than a websocket: it is ignored, and the body is read."""

from __future__ import annotations

import json
import re
import secrets
import socket

import pytest

from tests.clients.http import RawHttp
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

#: The headers of Java's java.net.http.HttpClient, of `curl --http2`, and others that a server may be sent.
UPGRADES = {
    "Java": b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\n"
    b"Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\n",
    "curl": b"User-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "a list": b"Connection: keep-alive, upgrade\r\nUPGRADE: HTTP/2.0, SHTTP/1.3, IRC/6.9, RTA/x11\r\n",
    "two lines": b"Upgrade: h2c\r\nUpgrade: TLS/1.2\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
    "a proxy's websocket": b"Upgrade: websocket\r\nConnection: upgrade\r\n",
}
UPGRADE = UPGRADES["Java"]


@pytest.fixture
def wire(server):
    with RawHttp(server) as connection:
        yield connection


def head(method, path, *lines, key=GLOBAL_KEY):
    named = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\napikey: {key}\r\nContent-Type: application/json\r\n"
    return named.encode() + b"".join(lines) + b"\r\n"


def creation(name=None):
    """Return the body of a request that creates an instance, and the instance's name."""
    name = name or f"instance-{secrets.token_hex(4)}"
    number = str(secrets.randbelow(10**12) + 10**12)
    return json.dumps({"instanceName": name, "integration": "EVOLUTION", "number": number}).encode(), name


def length(body):
    return b"Content-Length: %d\r\n" % len(body)


def chunks(body, size):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_a_body_is_read(wire, upgrade):
    body, name = creation()
    wire.send(head("POST", "/instance/create", upgrade, length(body)) + body)
    status, _, answer = wire.response()
    assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)
    wire.send(head("GET", f"/instance/fetchInstances?instanceName={name}", upgrade))
    status, _, answer = wire.response()
    assert (status, json.loads(answer)[0]["name"]) == (200, name)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_is_read_in_any_pieces(wire, size):
    body, _ = creation()
    data = head("POST", "/instance/create", UPGRADE, length(body)) + body
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size):
        wire.send(data[start : start + size])
    assert wire.response()[0] == 201


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_request_without_a_body_is_answered(wire, method):
    for length_ in (b"", b"Content-Length: 0\r\n"):
        wire.send(head(method, "/instance/fetchInstances", UPGRADE, length_))
        assert wire.response()[0] == (200 if method == "GET" else 404)


def test_a_chunked_body_is_read(wire):
    body, name = creation()
    wire.send(head("POST", "/instance/create", UPGRADE, b"Transfer-Encoding: chunked\r\n") + chunks(body, 11))
    status, _, answer = wire.response()
    assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)


def test_trailers_that_name_an_upgrade_change_nothing(wire):
    body, name = creation()
    trailers = b"0\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    data = head("POST", "/instance/create", UPGRADE, b"Transfer-Encoding: chunked\r\n") + chunks(body, 11)
    wire.send(data.removesuffix(b"0\r\n\r\n") + trailers)
    assert wire.response()[0] == 201
    wire.send(head("GET", f"/instance/fetchInstances?instanceName={name}"))
    assert wire.response()[0] == 200


def test_pipelined_requests_are_answered_in_order(wire):
    created = [creation() for _ in range(4)]
    data = b""
    for number, (body, name) in enumerate(created):
        upgrade = UPGRADE if number % 2 == 0 else b""
        data += head("POST", "/instance/create", upgrade, length(body)) + body
        data += head("GET", f"/instance/fetchInstances?instanceName={name}", UPGRADE)
    wire.send(data)
    for _, name in created:
        status, _, answer = wire.response()
        assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)
        status, _, answer = wire.response()
        assert (status, json.loads(answer)[0]["name"]) == (200, name)


def test_a_client_that_expects_100_continue_is_told_to_send(wire):
    body, _ = creation()
    wire.send(head("POST", "/instance/create", UPGRADE, length(body), b"Expect: 100-continue\r\n"))
    assert wire.response() == (100, {}, b"")
    wire.send(body)
    assert wire.response()[0] == 201


def test_a_large_body_is_read(wire, server):
    instance = server.create()
    text = "x" * 5_000_000
    key = {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False, "id": secrets.token_hex(8)}
    message = {"numberId": instance.number, "key": key, "message": {"conversation": text}}
    body = json.dumps(message).encode()
    wire.send(head("POST", "/webhook/evolution", UPGRADE, length(body), key=instance.token) + body)
    assert wire.response()[::2] == (200, b'{"status":"success"}')
    events = server.get(server.path("/event/find", instance) + "?type=messages.upsert", key=instance.token).json
    assert events["events"][0]["data"]["message"]["conversation"] == text


def test_the_connection_closes_if_the_client_asks_for_it(wire):
    body, _ = creation()
    close = b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"
    wire.send(head("POST", "/instance/create", close, length(body)) + body)
    assert wire.response()[0] == 201
    assert wire.received.read() == b""


def test_http_1_0_is_answered(wire):
    body, _ = creation()
    wire.send(head("POST", "/instance/create", UPGRADE, length(body)).replace(b"HTTP/1.1", b"HTTP/1.0") + body)
    assert wire.response()[0] == 201


def test_limits_of_heads_and_bodies_apply(wire):
    wire.send(head("POST", "/instance/create", UPGRADE, b"X-A: " + b"a" * 70_000 + b"\r\n"))
    assert wire.response()[0] == 431
    assert wire.received.read() == b""


def test_a_websocket_among_others_is_opened(wire):
    upgrade = b"Upgrade: h2c, websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n"
    handshake = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    wire.send(head("GET", "/socket.io/?EIO=4&transport=websocket", upgrade, handshake))
    assert wire.response()[0] == 101


def test_an_event_stream_begins(server, wire):
    instance = server.create()
    wire.send(head("GET", server.path("/event/stream", instance), UPGRADE, key=instance.token))
    assert wire.received.readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_proxy_cannot_be_asked_for(wire):
    wire.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    assert wire.response()[0] == 400


def test_the_log_has_no_warning(start_server):
    server = start_server()
    with RawHttp(server) as wire:
        body, _ = creation()
        wire.send(head("POST", "/instance/create", UPGRADE, length(body)) + body)
        assert wire.response()[0] == 201
    server.stop()
    assert not re.search("upgrade", server.log.read_text(), re.IGNORECASE)
