"""Bodies of many megabytes, whatever they hold: they are recorded or refused, and the event loop has its turns."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from instances.bounds import JSON_STRUCTURE, MAX_BODY_BYTES
from tests.clients.polling import Polling
from tests.clients.staff import Staff, url
from tests.in_process import until
from tests.server import Number, Response, Server

pytestmark = pytest.mark.any_database

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


def different(part: bytes) -> bytes:
    """Return as many items, or members, as fit; each has a number in place of `#`."""
    count = JSON_STRUCTURE // (1 + part.count(b":")) - 10
    return b",".join(part.replace(b"#", b"%08x" % number) for number in range(count))


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
    "line ends": texts(rb"\n"),
    "an emoji behind letters": texts(b"a")[:-5] + "😀".encode() + b'"',
    "short texts": b"[" + different(b'"#%b"' % (b"a" * 21)) + b"]",
    "short texts of line ends": b"[" + different(b'"%b"' % (rb"\n" * 15)) + b"]",
    "long numbers": b"[" + different(b"1.234567890123456789012345e-37") + b"]",
    "long names": b"{" + different(b'"#%b":1' % (b"a" * 54)) + b"}",
    "deep": b"[" + b",".join([b'{"":' * 45 + b"1" + b"}" * 45] * (JSON_STRUCTURE // 95)) + b"]",
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


@pytest.mark.parametrize(
    "data",
    [
        DEAREST["line ends"],
        DEAREST["members"],
        b'{"a": 1, "destination": "?' + rb"\"" * (SIZE // 2 - 100) + b'"}',
    ],
    ids=["line ends", "members", "a destination"],
)
def test_what_is_stored_of_large_bodies_is_shown_without_a_stall(server, instance, data):
    """By REST, and in the admin, which masks the query of a webhook's URL."""
    endpoints, deliveries = (server.path(f"/webhook/{route}", instance) for route in ("endpoints", "deliveries"))
    endpoint = {"url": "http://127.0.0.1:9/in?token=of-the-tenant", "events": ["CALL"]}
    assert server.post(endpoints, endpoint, key=instance.token).status == 201
    assert publish(server, instance, data).status == 201
    [delivery] = server.get(deliveries, key=instance.token).json["deliveries"]
    shown = server.get(f"{deliveries}/{delivery['id']}", key=instance.token).json
    assert len(shown["request"]["body"]) > len(data) // 3
    assert "?token=of-the-tenant" in shown["request"]["body"]
    page = Staff(server, is_superuser=True).get(url("change", "realtime_delivery", delivery["id"])).body.decode()
    assert "of-the-tenant" not in page


@pytest.mark.parametrize("kind", ["line ends", "commas"])
def test_a_large_event_is_polled_by_jsonp_without_a_stall(server, instance, kind):
    client = Polling(server.url, {"apikey": instance.token})
    client.join(f"/{instance.name}")
    assert publish(server, instance, DEAREST[kind]).status == 201
    client.query["j"] = "0"
    script = "".join(client.poll())
    packet = json.loads(script.removeprefix("___eio[0](").removesuffix(");"))
    assert Polling.event(packet)[1]["data"] == json.loads(DEAREST[kind])
