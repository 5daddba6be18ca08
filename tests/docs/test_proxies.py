"""docs/proxies.md: nginx and Caddy in front of two servers."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import pytest

from tests.conftest import missing
from tests.docs.proxies import Caddy, Nginx
from tests.environment import GLOBAL_KEY
from tests.in_process import until
from tests.server import Server

pytestmark = pytest.mark.any_database

#: Wrong keys that an address may try at once.
WRONG_KEYS = 5


@pytest.fixture(scope="module", params=[Nginx, Caddy], ids=lambda proxy: proxy.program)
def proxy(request, environment, tmp_path_factory):
    """A proxy in front of two servers with one database."""
    if not request.param.is_installed():
        missing(f"{request.param.program} is not installed")
    settings = {
        "TRUSTED_PROXIES": "127.0.0.1",
        "SERVER_URL": "http://evo.example.com",
        "ALLOWED_HOSTS": "evolution_api",
    }
    settings |= {"LIMIT_WRONG_KEYS": str(WRONG_KEYS), "LIMIT_WRONG_KEYS_PER_SECOND": "1"}
    with ExitStack() as stack:
        servers = [Server(environment | settings) for _ in range(2)]
        for server in servers:
            server.start()
            stack.callback(server.stop)
        proxy = request.param(servers, tmp_path_factory.mktemp("proxy"))
        proxy.servers = servers
        proxy.start()
        stack.callback(proxy.stop)
        yield proxy


def has_session(server, sid):
    """Return whether an Engine.IO session is in a server, by a request that changes none."""
    answer = server.request("PUT", f"/socket.io/?EIO=4&transport=polling&sid={sid}").json
    return "GET and POST" in answer["response"]["message"][0]


def sessions(proxy, clients):
    """Return how many of the sessions of connected clients are in each server."""
    sids = [client.wait_for("connect")["session"] for client in clients]
    return [sum(has_session(server, sid) for sid in sids) for server in proxy.servers]


def status_from(proxy, address, path="/instance/fetchInstances", **headers):
    """Request a path with a wrong key, from an address of this machine; returns the status."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10, source_address=(address, 0))
    with closing(connection):
        connection.request("GET", path, headers={"apikey": "wrong"} | headers)
        with connection.getresponse() as response:
            response.read()
            return response.status


# Sockets and streams


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_clients_of_many_addresses_join_and_receive(proxy, node, transports):
    instance = proxy.create()
    clients = [
        node.connect(
            f"{proxy.url}/{instance.name}",
            auth={"apikey": instance.token},
            transports=transports,
            localAddress=f"127.0.0.{number}",
            reconnection=False,
        )
        for number in range(11, 23)
    ]
    counts = sessions(proxy, clients)
    assert sum(counts) == len(clients)
    assert all(counts)
    if len(transports) == 2:
        for client in clients:
            assert [line for line in client.seen if line["is"] == "upgrade"] or client.wait_for("upgrade")

    for text in ("one", "two", "three"):
        proxy.receive(instance, text)
        for client in clients:
            assert client.event("messages.upsert")["data"]["message"] == {"conversation": text}

    for client in clients:
        assert client.call("send_message", {"text": "back"})["message"] == {"conversation": "back"}
        assert not [line for line in client.seen if line["is"] in ("disconnect", "connect_error")]
        client.disconnect()


def test_websockets_of_one_address_are_spread(proxy, node):
    instance = proxy.create()
    options = {"auth": {"apikey": instance.token}, "transports": ["websocket"]}
    clients = [node.connect(f"{proxy.url}/{instance.name}", **options) for _ in range(8)]

    assert all(sessions(proxy, clients))
    for client in clients:
        client.disconnect()


def test_polls_of_one_address_stay_with_one_server(proxy, node):
    instance = proxy.create()
    options = {"auth": {"apikey": instance.token}, "transports": ["polling"]}
    clients = [node.connect(f"{proxy.url}/{instance.name}", **options) for _ in range(8)]

    assert sorted(sessions(proxy, clients)) == [0, 8]
    for client in clients:
        client.disconnect()


def test_event_streams_are_not_buffered(proxy):
    instance = proxy.create()
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)) as connection:
        connection.request("GET", f"/event/stream/{instance.name}", headers={"apikey": instance.token})
        with connection.getresponse() as response:
            assert response.readline() == b": welcome\n"
            for text in ("one", "two"):
                proxy.receive(instance, text)
                lines = iter(response.readline, b"")
                data = next(line for line in lines if line.startswith(b'data: {"event":"messages.upsert"'))
                assert json.loads(data[6:])["data"]["message"] == {"conversation": text}


# REST


def test_rest_and_the_admin_are_passed_on(proxy):
    assert proxy.get("/").json["message"].startswith("Welcome")
    assert proxy.get("/no/such/path").json["status"] == 404
    assert proxy.get("/admin/login/", key=None, headers={"Host": "evo.example.com"}).status == 200
    assert proxy.get("/static/admin/css/base.css").status == 200


@pytest.mark.parametrize(("host", "status"), [("evolution_api:8080", 200), ("other_name:8080", 400)])
def test_the_name_that_a_client_uses_reaches_the_server(proxy, host, status):
    """With its port and with underscores, as in the name of the service in Evolution API's Docker Compose file."""
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)) as connection:
        connection.request("GET", "/", headers={"Host": host, "apikey": GLOBAL_KEY})
        with connection.getresponse() as response:
            assert response.status == status


def test_a_large_body_comes_whole(proxy):
    instance = proxy.create()
    text = "x" * 8_000_000
    event = {"event": "messages.upsert", "data": {"key": {"id": "1"}, "message": {"conversation": text}}}
    assert proxy.post(f"/event/publish/{instance.name}", event).status == 201

    (stored,) = proxy.get(f"/event/find/{instance.name}?type=messages.upsert").json["events"]
    assert stored["data"]["message"]["conversation"] == text


@pytest.mark.parametrize("size", [16 * 1024 * 1024 + 1, 20_000_000])
def test_a_body_over_the_limit_is_answered_as_by_the_server(proxy, size):
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as connection:
        connection.putrequest("POST", "/instance/create")
        for name, value in (("apikey", GLOBAL_KEY), ("Content-Type", "application/json"), ("Content-Length", size)):
            connection.putheader(name, value)
        connection.endheaders()
        with suppress(OSError):  # it may be refused before it is sent
            connection.send(b"x" * size)
        with connection.getresponse() as response:
            assert response.status == 413
            assert json.loads(response.read())["response"]["message"] == ["request entity too large"]


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n",
        b"Expect: 100-continue\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ],
    ids=["Java", ".NET", "chunked"],
)
def test_a_body_is_read_however_it_is_announced(proxy, lines):
    instance = proxy.create()
    body = json.dumps({"event": "call", "data": {"id": "1"}}).encode()
    head = f"POST /event/publish/{instance.name} HTTP/1.1\r\nHost: localhost\r\napikey: {GLOBAL_KEY}\r\n".encode()
    head += b"Content-Type: application/json\r\n" + lines
    if b"chunked" in lines:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head += b"Content-Length: %d\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as wire, wire.makefile("rb") as received:
        wire.sendall(head + b"\r\n")
        if b"Expect" in lines:
            assert response(received) == b"100"
        wire.sendall(body)
        while (status := response(received)) == b"100":  # the proxy's own, and the server's
            pass
        assert status == b"201"


def response(received):
    """Read the head of a response; returns its status."""
    status = received.readline().split()[1]
    while received.readline() != b"\r\n":
        pass
    return status


# Addresses


def test_the_server_sees_each_clients_address(proxy):
    """Each address has its own allowance of wrong keys, and none escapes by what it forwards itself."""
    with ThreadPoolExecutor(10) as threads:

        def statuses(address, **headers):
            """The statuses of wrong keys, more at once than both servers allow."""
            return set(threads.map(lambda _: status_from(proxy, address, **headers), range(8 * WRONG_KEYS)))

        assert statuses("127.0.0.31") == {401, 429}
        assert status_from(proxy, "127.0.0.32") == 401
        forwarded = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in range(8 * WRONG_KEYS)]
        assert 429 in set(threads.map(lambda headers: status_from(proxy, "127.0.0.31", **headers), forwarded))
        assert 429 in statuses("127.0.0.31", X_Forwarded_For="198.51.100.1")


# Logs and failures


def test_no_log_has_a_query(proxy, node):
    instance = proxy.create()
    for transport in ("polling", "websocket"):
        query = {"apikey": instance.token}
        node.connect(f"{proxy.url}/{instance.name}", query=query, transports=[transport]).connected().disconnect()
    assert status_from(proxy, "127.0.0.1", f"/event/stream/nobody?token={instance.token}") in (401, 200)
    status_from(proxy, "127.0.0.1", "/socket.io/?EIO=3&transport=polling&apikey=" + instance.token)
    proxy.post(f"/instance/create?apikey={instance.token}", b"x", headers={"Content-Length": "99999999"})

    until(lambda: "/socket.io/" in proxy.access_log and "/event/stream/nobody" in proxy.access_log)
    assert instance.token not in proxy.all_logs
    assert "apikey" not in proxy.all_logs


def test_the_other_server_answers_while_one_is_away(proxy, node):
    instance = proxy.create()
    away = proxy.servers[0]
    away.stop()
    try:
        assert [proxy.get("/").status for _ in range(10)] == [200] * 10
        clients = [
            node.connect(
                f"{proxy.url}/{instance.name}",
                auth={"apikey": instance.token},
                transports=["polling"],
                localAddress=f"127.0.0.{number}",
            ).connected(30)
            for number in range(41, 47)
        ]
        proxy.receive(instance, "still here")
        for client in clients:
            assert client.event("messages.upsert")["data"]["message"] == {"conversation": "still here"}
            client.disconnect()
    finally:
        away.start()


def test_no_log_has_the_query_of_a_request_that_failed(proxy):
    for server in proxy.servers:
        server.stop()
    try:
        assert status_from(proxy, "127.0.0.1", "/socket.io/?apikey=a-secret-key&EIO=4&transport=polling") in (502, 503)
        until(lambda: " 502 " in proxy.access_log or '"status":502' in proxy.access_log or "503" in proxy.access_log)
    finally:
        for server in proxy.servers:
            server.start()
    assert "a-secret-key" not in proxy.all_logs
