"""Invalid input: it gets a clear 4xx in Evolution's error shape, and leaves no rows."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instances.errors import no_such_route
from instances.events import event_occurred
from instances.ingress.body_limit import BodyLimit
from instances.models import Instance, Message, Subscription
from realtime.log.models import Event
from tests.environment import APP_SECRET, GLOBAL_KEY
from tests.server import Number, Server

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

#: Every route that reads a body, with a valid one.
VALID_BODIES: dict[str, dict[str, Any]] = {
    "/verify-creds": {},
    "/instance/create": {"instanceName": "new", "integration": "EVOLUTION", "websocket": {"enabled": True}},
    "/websocket/set/loja": {"websocket": {"enabled": True, "events": ["CALL"]}},
    "/webhook/set/loja": {"webhook": {"enabled": True, "url": "https://a.example/x", "headers": {"a": "b"}}},
    "/webhook/endpoints/loja": {"url": "https://a.example/x", "events": ["CALL"], "headers": {"a": "b"}},
    "/webhook/deliveries/loja/resend": {"state": "dead", "since": "2026-01-01T00:00:00Z"},
    "/message/sendText/loja": {"number": "5511", "text": "x", "quoted": {"key": {"id": "ABC"}}},
    "/webhook/evolution": {"numberId": "1001", "key": {"remoteJid": "5511"}, "message": {"conversation": "x"}},
    "/webhook/meta": {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": []}]},
}


def is_evolutions_shape(status: int, body: Any) -> bool:
    """Return whether a body is {"status", "error", "response": {"message"}}: a list, or a string for 401."""
    return (
        set(body) == {"status", "error", "response"}
        and body["status"] == status
        and isinstance(body["error"], str)
        and isinstance(body["response"]["message"], str if status == 401 else list)
    )


def raw(server: Server, request: bytes) -> bytes:
    """Send these bytes on a connection of their own and return the response."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(request)
        response = bytearray()
        while data := connection.recv(65536):
            response += data
    return bytes(response)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"apikey: {GLOBAL_KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.fixture(scope="module")
def instance(server) -> Number:
    return server.create()


# Any JSON, any bytes, on every route


@pytest.fixture
def rows(db) -> Instance:
    return Instance.objects.create(name="loja", integration="EVOLUTION", number="1001")


members = st.sampled_from(
    [
        *(
            "instanceName",
            "integration",
            "token",
            "number",
            "businessId",
            "ownerJid",
            "profileName",
            "status",
            "qrcode",
        ),
        *("rejectCall", "msgCall", "websocket", "enabled", "events", "text", "linkPreview", "quoted", "key", "id"),
        *("delay", "numberId", "message", "messageType", "pushName", "profilePicUrl", "remoteJid", "fromMe"),
        *("participant", "object", "entry", "changes", "value"),
        *("webhook", "url", "headers", "byEvents", "ordered", "state", "since", "endpoint", "ids"),
    ]
)
words = st.sampled_from(
    ["EVOLUTION", "WHATSAPP-BUSINESS", "1001", "open", "CALL", "loja", "x" * 300, "5" * 300, "\x00"]
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | words | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=8),
    max_leaves=20,
)


def post(client: Any, path: str, body: bytes, content_type: str = JSON) -> int:
    """Post a body, signed as Meta does, with the global key; check a refusal's shape and that it leaves no rows."""
    signature = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"apikey": GLOBAL_KEY, "X-Hub-Signature-256": f"sha256={signature}"}
    before = counted()
    response = client.post(path, body, content_type=content_type, headers=headers)
    if response.status_code >= 400:
        assert is_evolutions_shape(response.status_code, response.json())
        assert counted() == before, "a refused request leaves no rows"
    return response.status_code


def counted() -> list[int]:
    return [model.objects.count() for model in (Instance, Subscription, Message, Event)]


@pytest.mark.parametrize("path", VALID_BODIES)
@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(changed=st.dictionaries(members, values, max_size=3), value=st.none() | values)
def test_any_json_is_accepted_or_refused_in_evolutions_shape(client, rows, path, changed, value):
    assert post(client, path, orjson.dumps(VALID_BODIES[path] | changed if value is None else value)) < 500


@pytest.mark.parametrize("path", VALID_BODIES)
def test_the_valid_bodies_are_accepted(client, rows, path):
    assert post(client, path, orjson.dumps(VALID_BODIES[path])) < 300


@pytest.mark.any_database
@pytest.mark.parametrize("content_type", [JSON, FORM, "text/plain"])
@pytest.mark.parametrize("path", VALID_BODIES)
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=60))
def test_any_bytes_are_accepted_or_refused_in_evolutions_shape(client, rows, path, content_type, body):
    assert post(client, path, body, content_type) < 500


# Invalid bodies


@pytest.mark.parametrize("path", ["/instance/create", "/websocket/set/{i}", "/message/sendText/{i}"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The body is not JSON"),
        (b'{"a": 1', "The body is not JSON"),
        (b"{'a': 1}", "The body is not JSON"),
        (b"NaN", "The body is not JSON"),
        (b"\xff\xfe\x00", "The body is not JSON"),
        (b"<xml/>", "The body is not JSON"),
        (b"[]", "The body must be a JSON object"),
        (b'[{"enabled": true}]', "The body must be a JSON object"),
        (b'"text"', "The body must be a JSON object"),
        (b"null", "The body must be a JSON object"),
        (b"5", "The body must be a JSON object"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "The body is nested more than 100 levels deep"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "The body is "),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused_with_the_reason(server, instance, path, body, message):
    response = server.post(path.format(i=instance.name), body)
    assert response.status == 400
    assert is_evolutions_shape(400, response.json)
    assert response.json["response"]["message"][0].startswith(message)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
def test_an_empty_body_counts_as_an_empty_object(server, instance, body):
    response = server.post("/instance/create", body)
    assert response.json["response"]["message"] == [
        ['instance requires property "instanceName"', 'instance requires property "integration"'],
    ]
    assert server.post("/verify-creds", body).status == 200


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/html", "multipart/form-data; boundary=x", "x", ";"])
def test_a_body_of_another_content_type_is_refused(server, instance, content_type):
    path = server.path("/message/sendText", instance)
    response = server.post(path, {"number": "55", "text": "x"}, headers={"Content-Type": content_type})
    assert response.status == 415
    assert is_evolutions_shape(415, response.json)


def test_a_body_without_a_content_type_is_refused(server, instance):
    body = b'{"number": "55", "text": "x"}'
    response = raw(server, head("POST", f"/message/sendText/{instance.name}", f"Content-Length: {len(body)}") + body)
    assert response.startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-16", "Application/JSON", "application/json;"])
def test_json_is_read_as_utf_8_whatever_its_charset(server, instance, content_type):
    path = server.path("/message/sendText", instance)
    body = '{"number": "55", "text": "Olá"}'.encode()
    response = server.post(path, body, headers={"Content-Type": content_type})
    assert (response.status, response.json["message"]) == (201, {"conversation": "Olá"})


def test_a_form_of_over_a_thousand_fields_is_refused_with_the_reason(server):
    response = server.post("/instance/create", b"a=1&" * 1100, headers={"Content-Type": FORM})
    assert response.status == 400
    assert is_evolutions_shape(400, response.json)
    assert "parameters" in response.json["response"]["message"][0]


def test_a_chunked_body_is_read(server, instance):
    chunks = [b'{"number": "55", ', b'"text": "Ol', "á".encode(), b' Ana"}']
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    request = head("POST", f"/message/sendText/{instance.name}", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")

    response = raw(server, request + body)

    assert response.startswith(b"HTTP/1.1 201 ")
    assert json.loads(response.partition(b"\r\n\r\n")[2])["message"] == {"conversation": "Olá Ana"}


# Size


@pytest.fixture(scope="module")
def small(environment) -> Any:
    """A server that accepts bodies of at most 1,000 bytes."""
    server = Server(environment | {"MAX_BODY_BYTES": "1000"})
    server.start()
    yield server
    server.stop()


def padded(size: int) -> bytes:
    return b'{"padding": "' + b"x" * (size - 15) + b'"}'


@pytest.mark.bound("MAX_BODY_BYTES")
@pytest.mark.parametrize("path", VALID_BODIES)
def test_a_body_over_the_limit_is_refused(small, path):
    response = small.post(path, padded(1001))
    assert response.status == 413
    assert is_evolutions_shape(413, response.json)
    assert response.json["response"]["message"] == ["request entity too large"]


def test_a_body_at_the_limit_is_read(small):
    assert small.post("/verify-creds", padded(1000)).status == 200
    assert small.post("/webhook/meta", padded(1000)).status == 401


def test_a_content_length_over_the_limit_is_refused_before_the_body_is_sent(server):
    response = raw(server, head("POST", "/webhook/evolution", "Content-Length: 999999999"))
    assert response.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_that_exceeds_the_limit_is_refused(small):
    body = b"64\r\n" + b"x" * 100 + b"\r\n"
    response = raw(small, head("POST", "/webhook/evolution", "Transfer-Encoding: chunked") + body * 11)
    assert response.startswith(b"HTTP/1.1 413 ")


async def test_an_incomplete_body_is_not_passed_on():
    received: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.append(await receive())

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"20")]}
    half = {"type": "http.request", "body": b"number=55&text=Deliv", "more_body": True}
    messages = [half, {"type": "http.disconnect"}]
    await BodyLimit(app)(scope, receive, send)
    assert (received, sent) == ([], [])

    messages = [half, {"type": "http.request", "body": b"er"}]
    await BodyLimit(app)(scope, receive, send)
    assert received == [{"type": "http.request", "body": b"number=55&text=Deliver", "more_body": False}]


# Paths and methods


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/nowhere?x=1"),
        ("POST", "/instance/nothing/x"),
        ("PUT", "/instance/create"),
        ("GET", "/instance/create"),
        ("GET", "/message/sendText/{i}"),
        ("PATCH", "/websocket/set/{i}"),
        ("DELETE", "/websocket/find/{i}"),
        ("POST", "/instance/delete/{i}"),
        ("PUT", "/webhook/meta"),
        ("GET", "/webhook/evolution"),
        ("DELETE", "/webhook/evolution"),
        ("POST", "/"),
        ("GET", "/instance/connectionState"),
        ("GET", "/instance/connectionState/"),
        ("GET", "/instance/connectionState/a/b"),
        ("GET", "/instance/connectionState/{i}//"),
        ("GET", "/Event/find/{i}"),
        ("GET", "/event/find/{i}/"),
        ("GET", "/.env"),
    ],
)
def test_an_unknown_path_or_method_is_not_found(server, instance, method, path):
    path = path.format(i=instance.name)
    response = server.request(method, path)
    assert response.status == 404
    assert response.json == {"status": 404, "error": "Not Found", "response": {"message": [f"Cannot {method} {path}"]}}


def test_an_escaped_slash_is_not_part_of_a_name(server):
    response = server.get("/websocket/find/a%2Fb")
    assert (response.status, response.json["error"]) == (404, "Not Found")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/x?apikey=S3CRET", "/x?apikey=********"),
        ("/x?a=1&apiKey=S3CRET&b=2", "/x?a=1&apiKey=********&b=2"),
        ("/x?token=S3CRET", "/x?token=********"),
        ("/x?hub.verify_token=S3CRET&hub.mode=x", "/x?hub.verify_token=********&hub.mode=x"),
        ("/x?instanceName=a", "/x?instanceName=a"),
    ],
)
def test_a_key_in_the_query_is_masked_in_the_error(rf, path, shown):
    assert no_such_route(rf.get(path)) == [f"Cannot GET {shown}"]


def test_head_has_the_response_of_get_without_a_body(server, instance):
    for path in ("/", server.path("/websocket/find", instance)):
        response = server.request("HEAD", path)
        assert (response.status, response.body) == (200, b"")
    assert server.request("HEAD", server.path("/websocket/find", instance), key=None).status == 401


def test_a_host_that_is_not_allowed_is_refused(server):
    response = server.get("/", headers={"Host": "evil.example"})
    assert response.status == 400
    assert is_evolutions_shape(400, response.json)
    assert "ALLOWED_HOSTS" in response.json["response"]["message"][0]


@pytest.mark.bound("LIMIT_QUERY_FIELDS")
def test_too_many_query_parameters_are_refused_with_the_reason(server):
    response = server.get("/instance/fetchInstances?" + "a=1&" * 1100)
    assert response.status == 400
    assert is_evolutions_shape(400, response.json)
    assert "parameters" in response.json["response"]["message"][0]


# Pages of other origins


ORIGIN = {"Origin": "https://panel.example"}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/instance/create", "/websocket/set/nobody", "/instance/delete/nobody", "/nowhere"])
def test_a_preflight_request_needs_no_key(server, path, method):
    preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "apikey, content-type"}
    response = server.request("OPTIONS", path, key=None, headers=ORIGIN | preflight)
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert {"apikey", "content-type"} <= set(response.headers["Access-Control-Allow-Headers"].split(", "))
    assert method in response.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/", None, 200),
        ("/instance/fetchInstances", GLOBAL_KEY, 200),
        ("/instance/fetchInstances", None, 401),
        ("/instance/fetchInstances", "wrong", 401),
        ("/websocket/find/nobody", GLOBAL_KEY, 404),
        ("/nowhere", GLOBAL_KEY, 404),
    ],
)
def test_a_page_of_another_origin_can_read_every_response(server, path, key, status):
    response = server.get(path, key=key, headers=ORIGIN)
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (status, "*")
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_the_operator_may_list_the_allowed_origins(start_server):
    server = start_server(CORS_ORIGIN="https://panel.example, https://other.example")
    ours = server.get("/nowhere", headers=ORIGIN)
    other = server.get("/", headers={"Origin": "https://evil.example"})
    assert ours.headers["Access-Control-Allow-Origin"] == "https://panel.example"
    assert "Access-Control-Allow-Origin" not in other.headers
    assert server.get("/").status == 200, "requests without Origin are served"


# Rows of refused requests


def test_refused_requests_leave_no_messages_and_no_settings(server):
    instance = server.create()
    key = {"remoteJid": "55@s.whatsapp.net", "id": 5}
    refused = [
        server.post(server.path("/message/sendText", instance), {"number": "55", "text": "x", "quoted": 5}),
        server.post(server.path("/websocket/set", instance), {"enabled": True, "events": ["CALL", "NOPE"]}),
        server.post("/webhook/evolution", {"numberId": instance.number, "key": key, "message": {}}),
    ]
    assert [response.status for response in refused] == [400, 400, 400]
    assert server.counts(instance) == {"Message": 0, "Contact": 0, "Chat": 0}
    assert server.get(server.path("/websocket/find", instance)).json is None


def test_an_internal_error_has_the_same_shape_and_leaves_no_rows(client, rows):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("a receiver of the signal has failed")

    client.raise_request_exception = False
    event_occurred.connect(fail)
    try:
        responses = [
            client.post(path, VALID_BODIES[path], content_type=JSON, headers={"apikey": GLOBAL_KEY})
            for path in ("/webhook/evolution", "/message/sendText/loja", "/instance/create")
        ]
    finally:
        event_occurred.disconnect(fail)

    for response in responses:
        body = {"status": 500, "error": "Internal Server Error", "response": {"message": "Internal Server Error"}}
        assert (response.status_code, response.json()) == (500, body)
    assert counted() == [1, 0, 0, 1]


@pytest.mark.parametrize("accept", ["text/html", "", "application/xml", "image/png;q=0.1"])
def test_the_response_is_json_whatever_accept_says(server, accept):
    response = server.get("/instance/fetchInstances?format=xml", headers={"Accept": accept})

    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("charset", ["hex", "rot13", "utf-16", "nonsense"])
def test_an_unknown_charset_is_ignored(server, charset):
    headers = {"Content-Type": f"application/json; charset={charset}"}

    assert server.get("/instance/fetchInstances?instanceName=x", headers=headers).status == 404
    assert server.request("POST", "/verify-creds?a=b", b"{}", headers=headers).status == 200
