"""Bodies of many megabytes, whatever they hold: they are recorded or refused, and the event loop has its turns."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from instances.bounds import JSON_STRUCTURE, MAX_BODY_BYTES
from tests.in_process import until
from tests.server import Number, Response, Server

# CPU time of all threads: the writers work on 16 MB beside the loop
pytestmark = [pytest.mark.any_database, pytest.mark.stall(200)]

SIZE = MAX_BODY_BYTES - 100


@pytest.fixture
def instance(server: Server) -> Number:
    return server.create()


def publish(server: Server, instance: Number, data: bytes) -> Response:
    return server.post(server.path("/event/publish", instance), body_of(data), key=instance.token)


def body_of(data: bytes) -> bytes:
    return b'{"event": "call", "data": ' + data + b"}"


def texts(part: bytes) -> bytes:
    return b'"' + part * (SIZE // len(part)) + b'"'


#: JSON values that take long for their size, if they were worked on in one piece.
DEAREST = {
    "base64": texts(b"QUJD"),
    "lone surrogates": texts(rb"\ud83d"),
    "escaped backslashes": texts(rb"\\")[:-1] + rb'\ude00"',
    "encoded surrogates": texts(b"\xed\xa0\xbd"),
    "commas": texts(b","),
    "escaped quotes": texts(rb"\","),
    "a long name": b"{" + texts(b"-") + b": 1}",
    "members": b"[" + b",".join([b'{"a":1}'] * (JSON_STRUCTURE // 3 - 10)) + b"]",
    "empty objects": b"[" + b",".join([b"{}"] * (JSON_STRUCTURE // 2 - 10)) + b"]",
}


@pytest.mark.bound("LIMIT_JSON_STRUCTURE")
@pytest.mark.parametrize("kind", DEAREST)
def test_the_dearest_bodies_that_fit_stall_nobody(server, instance, kind):
    assert publish(server, instance, DEAREST[kind]).status == 201


@pytest.mark.parametrize("kind", ["base64", "lone surrogates", "members"])
def test_the_dearest_messages_that_fit_stall_nobody(server, instance, kind):
    """They are stored twice, as a message and as an event."""
    data = DEAREST[kind] if kind == "members" else DEAREST[kind][:-241] + b'"'  # room for the rest
    key = b'"key": {"remoteJid": "5511@s.whatsapp.net", "id": "1"}'
    body = b'{"numberId": "%b", %b, "message": {"conversation": %b}}' % (instance.number.encode(), key, data)
    assert server.request("POST", "/webhook/evolution", body, key=instance.token).status == 200


@pytest.mark.parametrize("part", [b"{},", b'{"a":1},', b'"",', b"1,"])
def test_twice_the_structure_is_refused(server, instance, part):
    body = body_of(b"[" + part * (2 * JSON_STRUCTURE) + b"1]")[:SIZE]
    response = server.post(server.path("/event/publish", instance), body, key=instance.token)
    assert response.status == 400
    assert str(JSON_STRUCTURE) in json.dumps(response.json)


@pytest.mark.parametrize("part", [b",1", b",{}", b',{"a":1}'])
def test_a_lone_surrogate_in_much_structure_stalls_nobody(server, instance, part):
    """orjson refuses it, and other parsers take long, with the GIL kept."""
    body = body_of(rb'["\ud83d"' + part * (SIZE // len(part)) + b"]")
    assert server.post(server.path("/event/publish", instance), body, key=instance.token).status == 400


@pytest.mark.slow
@pytest.mark.stall(300)  # CPU time of all threads, of which several work on 16 MB
@pytest.mark.parametrize("kind", ["base64", "commas", "members", "lone surrogates"])
def test_nothing_is_kept_of_large_bodies(fresh_server, kind):
    server = fresh_server()
    instance = server.create()
    server.receive(instance)
    before = server.memory()
    with ThreadPoolExecutor(10) as pool:
        posting = [pool.submit(publish, server, instance, DEAREST[kind]) for _ in range(10)]
    assert {future.result().status for future in posting} <= {201, 503}
    until(lambda: server.memory() - before < 50_000_000, 20)
