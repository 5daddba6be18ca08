"""The gate: hosts, pages of other origins and the headers of responses, beside Django's views too."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from ipaddress import ip_network
from urllib.parse import urlencode

import pytest
from django.http.request import split_domain_port, validate_host
from websockets.exceptions import ConnectionClosed, InvalidStatus

from evoapi.asgi import application
from instances.access import rate_limit
from instances.access.gate import Gate, is_allowed_host
from tests.clients.polling import Polling
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.in_process import InProcessServer
from tests.server import Server

pytestmark = pytest.mark.any_database

PANEL, EVIL = "https://panel.example", "http://evil.example:8080"
#: A page whose host's name was made to resolve to this machine (DNS rebinding).
REBOUND = {"Origin": EVIL, "Host": "evil.example:8080"}

POLL = "/socket.io/?EIO=4&transport=polling"
JOINED, UNAUTHORIZED = "0", ("4", {"message": "Unauthorized"})
MESSAGE = {"numberId": "1", "key": {"remoteJid": "55@s.whatsapp.net", "id": "1"}}


def open_websocket(server, host=None, origin=None):
    """Open a session over a websocket to this Host."""
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    return Raw(f"http://{host}" if host else server.url, sock=connection, origin=origin)


def join(server, namespace="/", **page):
    """Join without a key over a websocket; returns the type and data of the server's answer."""
    raw = open_websocket(server, **page)
    try:
        return raw.join(namespace)
    finally:
        raw.close()


def join_by_polling(server, headers):
    """Join `/` without a key over polling; returns the type of the server's answer."""
    session = Polling(server.url, headers=headers)
    session.post("40{}")
    (packet,) = session.poll()
    return packet[1]


def stream_status(server, path, headers):
    """Return the status of an event stream, which is then left."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def start(environment):
    """Start a server for all tests of this module."""
    servers = []

    def start(**settings):
        servers.append(Server(environment | settings))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def listing(start):
    """A server that lists the origins and hosts that it allows; its own URL is https."""
    origins = f"{PANEL},https://other.example"
    return start(CORS_ORIGIN=origins, ALLOWED_HOSTS="evolution_api", SERVER_URL="https://evo.example.com")


@pytest.fixture(scope="module")
def any_host(start):
    """A server that allows any host, and lets this machine's clients listen without a key."""
    return start(ALLOWED_HOSTS="*,panel.example", CORS_ORIGIN=PANEL, WEBSOCKET_ALLOWED_HOSTS="127.0.0.1")


@pytest.fixture(scope="module")
def keyless(start):
    """A server that lets this machine's clients listen and post without a key, and reads a proxy's headers."""
    open_to_us = {"WEBSOCKET_ALLOWED_HOSTS": "127.0.0.1", "EVOLUTION_INGRESS_OPEN": "127.0.0.1"}
    return start(CORS_ORIGIN=f"*,{PANEL}", TRUSTED_PROXIES="127.0.0.1", **open_to_us)


# Hosts


@pytest.mark.parametrize("cors_origin", ["*", "a list"])
def test_where_an_origin_stands_the_host_must_be_allowed(server, listing, cors_origin):
    server = server if cors_origin == "*" else listing
    for method, path, body in [
        ("GET", POLL, None),
        ("POST", f"{POLL}&sid=x", b"40"),
        ("OPTIONS", POLL, None),
        ("GET", "/event/stream/nobody", None),
        ("POST", "/event/publish/nobody", {"event": "call", "data": 1}),
        ("POST", "/webhook/evolution", MESSAGE),
        ("POST", "/webhook/meta", {}),
        ("GET", "/instance/fetchInstances", None),
    ]:
        response = server.request(method, path, body, headers=REBOUND)
        assert response.status == 400, path
        assert "ALLOWED_HOSTS" in response.json["response"]["message"][0], path
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
    with pytest.raises(InvalidStatus, match="400") as refusal:
        open_websocket(server, "evil.example:8080", EVIL)
    assert b"ALLOWED_HOSTS" in refusal.value.response.body
    assert server.get(POLL, headers={"Host": "evil.example:8080"}).status == 200, "a program, which has a key"


def test_where_any_host_is_allowed_no_origin_is_our_own(any_host):
    for headers in (REBOUND, {"Origin": any_host.url}):
        response = any_host.get(POLL, headers=headers)
        assert response.status == 400
        assert "is not an accepted origin: see CORS_ORIGIN" in response.json["response"]["message"][0]
    with pytest.raises(InvalidStatus, match="400"):
        open_websocket(any_host, "evil.example:8080", EVIL)
    assert any_host.get(POLL, headers={"Origin": PANEL}).status == 200


@pytest.mark.parametrize("allowed_hosts", ["evolution_api", "*"])
def test_a_host_may_have_underscores_where_it_is_allowed(listing, any_host, allowed_hosts):
    server = any_host if allowed_hosts == "*" else listing
    host = {"Host": "Evolution_API:8080"}
    origin = {"Origin": "http://evolution_api:8080"}
    for headers in (host, host | origin):
        assert server.get("/", headers=headers).status == 200
        assert server.get("/admin/login/", headers=headers).status == 200
        assert server.post("/webhook/evolution", MESSAGE, headers=headers).status == 200
    assert server.get(POLL, headers=host).status == 200
    assert server.get("/", headers={"Host": "evolution_ap:8080"}).status == (200 if allowed_hosts == "*" else 400)
    assert server.get("/", headers={"Host": "evolution_api:80_80"}).status == 400


def test_the_admin_takes_a_log_in_at_a_host_with_underscores(listing):
    host = {"Host": "evolution_api:8080"}
    cookie = listing.get("/admin/login/", headers=host).headers["Set-Cookie"].partition(";")[0]
    form = {"username": "x", "password": "x", "csrfmiddlewaretoken": cookie.partition("=")[2]}
    headers = host | {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}

    for origin, status in [("http://evolution_api:8080", 200), ("http://evolution_api", 403), (EVIL, 403)]:
        sent = headers | {"Origin": origin}
        response = listing.request("POST", "/admin/login/", urlencode(form).encode(), key=None, headers=sent)
        assert response.status == status, origin


def test_hosts_without_underscores_are_admitted_by_djangos_rule(settings):
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", ".example.com", "a_b"]
    hosts = [
        *("localhost", "LOCALHOST:80", "localhost.", "localhost.:80", "127.0.0.1", "[::1]:8080", "x.example.com"),
        *(
            "",
            ":80",
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "localhost,localhost",
            "local host",
            "user@localhost",
        ),
        *("[::1", "::1", "evil.example", "example.com.evil.example", "a-b", "localhost\n", "localhost/", "é"),
    ]
    for host in hosts:
        domain, _ = split_domain_port(host)
        assert is_allowed_host(host) == bool(domain and validate_host(domain, settings.ALLOWED_HOSTS)), host
    for host, is_allowed in [
        *(("a_b", True), ("A_B.:80", True), ("a_.example.com", True)),
        *(("a-b_c", False), ("a_b:8_0", False), ("[_::1]", False), ("a_b/", False), ("local_host", False)),
    ]:
        assert is_allowed_host(host) == is_allowed, host


# Without a key


def test_without_a_key_a_page_must_be_of_a_listed_origin(keyless):
    instance = keyless.create()
    stream = f"/event/stream/{instance.name}"
    for origin, may_listen in [(EVIL, False), ("null", False), (PANEL, True), (keyless.url, True), (None, True)]:
        headers = {} if origin is None else {"Origin": origin}
        assert (join(keyless, origin=origin)[0] == JOINED) is may_listen, origin
        assert (join_by_polling(keyless, headers) == JOINED) is may_listen, origin
        assert stream_status(keyless, stream, headers) == (200 if may_listen else 401), origin
        posted = keyless.post("/webhook/evolution", MESSAGE, key=None, headers=headers)
        assert posted.status == (200 if may_listen else 401), origin
    with_key = Polling(keyless.url, headers={"Origin": EVIL})
    with_key.join(f"/{instance.name}", apikey=instance.token)


def test_without_a_key_the_host_must_be_allowed(keyless):
    instance = keyless.create()
    rebound = {"Host": "evil.example:8080"}  # a browser sends no Origin with a GET to the page's own host

    assert join_by_polling(keyless, rebound) != JOINED
    assert stream_status(keyless, f"/event/stream/{instance.name}", rebound) == 401
    assert join(keyless, host="evil.example:8080") == UNAUTHORIZED


def test_without_a_key_and_with_any_host_a_get_must_be_to_no_strangers_domain(any_host):
    for host, may_listen in [
        *(("evil.example:8080", False), ("evil.example.", False), ("0x7f.1", False), ("127.1", False)),
        *(("127.0.0.1:8080", True), ("evolution_api:8080", True), ("[::1]", True), ("panel.example", True)),
    ]:
        assert (join_by_polling(any_host, {"Host": host}) == JOINED) is may_listen, host
    assert join(any_host, host="evil.example:8080")[0] == JOINED, "a program: browsers send an Origin with websockets"


@pytest.mark.parametrize("field", ["j=0", "%6A=0", "x=1&j=0&j=", "j=0&sid="])
def test_without_a_key_no_response_is_a_script(keyless, field):
    """A page of any origin can load it (JSONP), and the browser tells the server of no Origin."""
    script = keyless.get(f"{POLL}&{field}", key=None).body.decode()
    assert script.startswith("___eio[0](")
    opening = json.loads(script[script.index("(") + 1 : script.rindex(")")])
    session = f"{POLL}&sid={json.loads(opening[1:])['sid']}"

    keyless.post(session, b"40{}", key=None)
    assert keyless.get(session, key=None).body.decode() == f"44{json.dumps(UNAUTHORIZED[1], separators=(',', ':'))}"


@pytest.mark.parametrize("count", [5500, 11000], ids=["just fits into a head", "twice as many"])
def test_a_list_of_many_proxies_stops_nobody(keyless, count):
    forwarded, stalls = {"X-Forwarded-For": "127.0.0.1, " * count}, keyless.stalls()
    if count == 5500:
        assert join_by_polling(keyless, forwarded) == JOINED
    else:
        with contextlib.suppress(OSError):
            assert keyless.get(POLL, headers=forwarded).status == 431
    assert keyless.stalls() == stalls


def test_a_proxy_that_needs_no_key_lets_nobody_else_in(keyless):
    for forwarded, may_listen in [("127.0.0.1", True), ("203.0.113.9", False), ("127.0.0.1, 203.0.113.9", False)]:
        assert (join_by_polling(keyless, {"X-Forwarded-For": forwarded}) == JOINED) is may_listen, forwarded


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "text/json"])
def test_without_a_key_only_json_may_be_posted(keyless, content_type):
    """Browsers send other types for a page of any origin, without a preflight request."""
    body = json.dumps(MESSAGE).encode()
    headers = {"Content-Type": content_type}

    refused = keyless.request("POST", "/webhook/evolution", body, key=None, headers=headers)
    assert (refused.status, refused.json["error"]) == (415, "Unsupported Media Type")
    assert "application/json" in refused.json["response"]["message"][0]
    assert keyless.request("POST", "/webhook/evolution", body, key=GLOBAL_KEY, headers=headers).status == 200
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    assert keyless.request("POST", "/webhook/evolution", body, key=None, headers=json_type).status == 200


# Headers


def names_of_middleware(response):
    """Return the headers that depend on neither body nor connection."""
    ignored = {"allow", "date", "connection", "content-length", "content-type", "transfer-encoding"}
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in ignored}


@pytest.mark.parametrize("cors_origin", ["*", "a list"])
@pytest.mark.parametrize("origin", [PANEL, EVIL, None])
def test_every_response_has_the_headers_of_rest(server, listing, cors_origin, origin):
    server = server if cors_origin == "*" else listing
    headers = {} if origin is None else {"Origin": origin}
    expected = names_of_middleware(server.get("/instance/fetchInstances", key="wrong", headers=headers))
    is_accepted = cors_origin == "*" or origin != EVIL
    allowed = cors_origin if cors_origin == "*" else origin
    assert expected.get("access-control-allow-origin") == (allowed if origin and is_accepted else None)

    large = {"Content-Length": "99999999"}
    for method, path, body, status in [
        ("GET", "/nowhere", None, 404),
        ("POST", "/event/publish/nobody", large, 413),
        ("POST", "/instance/create", large, 413),
        ("POST", "/webhook/evolution", {}, 400),
        ("GET", "/event/stream/nobody", None, 404),
        ("GET", "/event/stream/", None, 404),
        ("POST", "/event/stream/nobody", {}, 404),
        ("GET", "/socket.io/?EIO=3", None, 400),
        ("GET", "/static/no-such-file.css", None, 404),
        ("GET", "/socket.io/no-such-file.js", None, 404 if is_accepted else 400),
    ]:
        more = large if body is large else {}
        response = server.request(method, path, None if body is None else b"{", headers=headers | more)
        assert response.status == status, path
        assert names_of_middleware(response) == expected, path
    assert (expected["x-frame-options"], expected["cache-control"]) == ("DENY", "no-store")


@pytest.mark.parametrize(("origin", "allowed"), [(PANEL, PANEL), (EVIL, None)])
def test_a_preflight_request_gets_the_same_response_everywhere(listing, origin, allowed):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}
    for path in ("/instance/fetchInstances", "/event/stream/nobody", "/event/publish/nobody", "/webhook/meta", POLL):
        response = listing.request("OPTIONS", path, key=None, headers=asked | {"Origin": origin})
        assert response.headers["Access-Control-Allow-Origin"] == allowed, path
        assert response.status == (400 if path == POLL and not allowed else 200), path
        assert ("last-event-id" in response.headers.get("Access-Control-Allow-Headers", "")) is bool(allowed), path


def test_a_failure_has_the_usual_shape_and_headers():
    async def fail(scope, receive, send):
        raise ValueError("a test's")

    with InProcessServer(Gate(fail, "/socket.io/")) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        connection.request("GET", "/", headers={"Origin": PANEL})
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
    assert body == {"status": 500, "error": "Internal Server Error", "response": {"message": "Internal Server Error"}}
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (500, "*")


def test_with_an_https_url_browsers_are_told_to_stay_with_it(server, listing):
    for path in ("/", "/admin/login/", "/event/stream/nobody", POLL, "/nowhere"):
        assert listing.get(path).headers["Strict-Transport-Security"] == "max-age=31536000", path
        assert "Strict-Transport-Security" not in server.get(path).headers, path


def test_responses_are_not_stored_by_caches_except_for_files(server):
    instance = server.create()
    for path in ("/instance/fetchInstances", server.path("/webhook/find", instance), POLL, "/openapi.json"):
        assert server.get(path).headers["Cache-Control"] == "no-store", path
    assert "no-store" in server.get("/admin/login/").headers["Cache-Control"]
    for path in ("/static/admin/css/base.css", "/socket.io/socket.io.js"):
        assert "max-age" in server.get(path).headers["Cache-Control"], path


def test_files_may_be_read_by_pages_of_allowed_origins(listing):
    for origin, allowed in [(PANEL, PANEL), (EVIL, None)]:
        response = listing.get("/static/admin/css/base.css", headers={"Origin": origin})
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, allowed)


# Names of headers with underscores


@pytest.fixture
def one_wrong_key(monkeypatch, settings, transactional_db):
    """One wrong key of an address is answered; a proxy on this machine says which address it is."""
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    monkeypatch.setattr(rate_limit.failed_authentications, "burst", 1)
    monkeypatch.setattr(rate_limit.failed_authentications, "rate", 0)


def forwarded(address, invented):
    """Return a proxy's header, and before and after it two of a client's with another name."""
    return [("X_Forwarded_For", invented), ("X-Forwarded-For", address), ("X_FORWARDED-FOR", invented)]


def test_rest_drops_headers_with_underscores(one_wrong_key):
    with InProcessServer(application, proxy_headers=False) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        statuses = []
        for number in range(3):
            connection.putrequest("GET", "/instance/fetchInstances")
            for name, value in forwarded("192.0.2.1", f"192.0.2.1{number}"):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()
    assert statuses == [401, 429, 429]


def test_sockets_drop_headers_with_underscores(one_wrong_key):
    with InProcessServer(proxy_headers=False) as running:
        answers = []
        for number in range(3):
            raw = Raw(running.url, additional_headers=forwarded("192.0.2.2", f"192.0.2.2{number}"))
            try:
                answers.append(raw.join("/", {"apikey": "wrong"}))
            except ConnectionClosed:
                answers.append(None)
            finally:
                raw.close()
    assert answers == [UNAUTHORIZED, None, None]
