"""How the HTTP clients of Java, Go and .NET speak, byte for byte: requests as they send them, and what they read."""

from __future__ import annotations

import json
import secrets

import pytest

from tests.clients.http import RawHttp
from tests.environment import GLOBAL_KEY
from tests.server import Server

pytestmark = pytest.mark.any_database


@pytest.fixture
def wire(server):
    with RawHttp(server) as connection:
        yield connection


def creation():
    """Return the body of a request that creates an instance, with a name beyond ASCII, and the name."""
    name = f"loja-é-{secrets.token_hex(4)}"
    number = str(secrets.randbelow(10**12) + 10**12)
    return json.dumps({"instanceName": name, "integration": "EVOLUTION", "number": number}).encode(), name


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(*lines):
    return b"\r\n".join([*lines, b"", b""])


KEY = GLOBAL_KEY.encode()
POST = b"POST /instance/create HTTP/1.1"

#: The head of a POST as each client sends it with a body of a known length, which stands in the place of %d.
WITH_LENGTH = {
    "Java's HttpClient, HTTP/1.1": head(
        POST, b"Content-Length: %d", b"Host: localhost:8080", b"User-Agent: Java-http-client/21.0.4",
        b"apikey: " + KEY, b"Content-Type: application/json",
    ),
    "Java's HttpURLConnection": head(
        POST, b"apikey: " + KEY, b"Content-Type: application/json", b"User-Agent: Java/17.0.12",
        b"Host: localhost:8080", b"Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        b"Connection: keep-alive", b"Content-Length: %d",
    ),
    "Go's net/http": head(
        POST, b"Host: evolution_api:8080", b"User-Agent: Go-http-client/1.1", b"Content-Length: %d",
        b"Apikey: " + KEY, b"Content-Type: application/json", b"Accept-Encoding: gzip",
    ),
    ".NET's HttpClient": head(
        POST, b"Host: localhost:8080", b"APIKEY: " + KEY,
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        b"Content-Type: application/json; charset=utf-8", b"Content-Length: %d",
    ),
    "OkHttp": head(
        POST, b"apikey: " + KEY, b"Content-Type: application/json; charset=utf-8", b"Content-Length: %d",
        b"Host: host.docker.internal:8080", b"Connection: Keep-Alive", b"Accept-Encoding: gzip",
        b"User-Agent: okhttp/4.12.0",
    ),
}  # fmt: skip

#: The same for a body in chunks.
IN_CHUNKS = {
    "Java's HttpClient, of a stream": head(
        POST, b"Transfer-encoding: chunked", b"Host: localhost:8080", b"User-Agent: Java-http-client/21.0.4",
        b"apikey: " + KEY, b"Content-Type: application/json",
    ),
    "Go's net/http, of a reader": head(
        POST, b"Host: localhost:8080", b"User-Agent: Go-http-client/1.1", b"Transfer-Encoding: chunked",
        b"Apikey: " + KEY, b"Content-Type: application/json", b"Accept-Encoding: gzip",
    ),
    ".NET's JsonContent": head(
        POST, b"Host: localhost:8080", b"apikey: " + KEY, b"Transfer-Encoding: chunked",
        b"Content-Type: application/json; charset=utf-8",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(environment):
    """A server with the names that containers know it by."""
    server = Server(environment | {"ALLOWED_HOSTS": "evolution_api,host.docker.internal"})
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("template", WITH_LENGTH.values(), ids=WITH_LENGTH)
def test_requests_follow_each_other_on_one_connection(wire, template):
    for _ in range(2):
        body, name = creation()
        wire.send(template.replace(b"%d", b"%d" % len(body)) + body)
        status, headers, answer = wire.response()
        assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)
        assert headers.get(b"connection", b"keep-alive") != b"close"


@pytest.mark.parametrize("template", IN_CHUNKS.values(), ids=IN_CHUNKS)
def test_bodies_come_in_chunks(wire, template):
    for size in (1, 1000):
        body, name = creation()
        wire.send(template)
        for start in range(0, len(body), size):
            wire.send(chunk(body[start : start + size]))
        wire.send(b"0\r\n\r\n")
        status, _, answer = wire.response()
        assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_a_body_waits_for_100_continue(wire, expect):
    """As .NET's does with `ExpectContinue`, and .NET Framework's and curl's by default."""
    body, name = creation()
    template = WITH_LENGTH[".NET's HttpClient"].replace(b"%d", b"%d" % len(body))
    wire.send(template.removesuffix(b"\r\n") + b"Expect: " + expect + b"\r\n\r\n")
    assert wire.response()[0] == 100
    wire.send(body)
    status, _, answer = wire.response()
    assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)


def test_chunks_wait_for_100_continue_too(wire):
    body, name = creation()
    wire.send(IN_CHUNKS[".NET's JsonContent"].removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n")
    assert wire.response()[0] == 100
    wire.send(chunk(body) + b"0\r\n\r\n")
    status, _, answer = wire.response()
    assert (status, json.loads(answer)["instance"]["instanceName"]) == (201, name)


def test_a_client_that_waits_is_refused_before_it_sends_a_large_body(wire):
    lines = [b"Host: localhost", b"apikey: wrong", b"Content-Type: application/json", b"Expect: 100-continue"]
    wire.send(head(POST, *lines, b"Content-Length: 10000000"))
    assert wire.response()[0] == 401


def test_a_response_is_as_long_as_it_says(wire):
    """Go and .NET give a connection up whose response is longer, and HEAD has none: RFC 9110, section 9.3.2."""
    lines = [b"Host: localhost", b"apikey: " + KEY]
    wire.send(head(b"GET / HTTP/1.1", *lines))
    status, headers, body = wire.response()
    assert (status, len(body)) == (200, int(headers[b"content-length"]))
    wire.send(head(b"GET /no/such/path HTTP/1.1", *lines))
    assert wire.response()[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(host, 200) for host in ("evolution_api:8080", "evolution_api", "EVOLUTION_API:8080", "localhost:1")],
        *[(host, 200) for host in ("host.docker.internal:8080", "HOST.docker.internal", "127.0.0.1", "[::1]:8080")],
        *[(host, 400) for host in ("evolution_apis", "evolution-api:8080", "x_y:8080", "docker.internal")],
        ("evolution_api:x", 400),
    ],
)  # fmt: skip
def test_a_request_may_name_a_container_that_is_allowed(wire, host, status):
    wire.send(head(b"GET / HTTP/1.1", b"Host: " + host.encode(), b"apikey: " + KEY))
    assert wire.response()[0] == status


@pytest.mark.parametrize("host", ["n8n:5678", "evolution_api:8080", "my_n8n-1", "host.docker.internal:5678"])
def test_a_webhook_may_be_sent_to_a_container(server, host):
    instance = server.create()
    url = f"http://{host}/webhook/7d9f?x=1"
    webhook = {"enabled": True, "url": url, "events": ["MESSAGES_UPSERT"]}
    assert server.post(f"/webhook/set/{instance.name}", {"webhook": webhook}).status == 201
    assert server.get(f"/webhook/find/{instance.name}").json["url"] == url
