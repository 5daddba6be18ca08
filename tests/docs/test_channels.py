"""docs/channels.md, as a newcomer pastes it: evoapi in a project of Channels, under uvicorn, Daphne and Hypercorn."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from tests.docs.project import PORT, Project, commands
from tests.environment import GLOBAL_KEY
from tests.receiver import Receiver
from tests.server import Number

# what clients publish is noted by `manage.py serve` alone, and these tests publish what no provider would
pytestmark = [pytest.mark.any_database, pytest.mark.made_up_events]

#: The document's commands that start a server.
SERVERS = [line for line in commands() if PORT in line]
(DAPHNE,) = [line for line in SERVERS if line.startswith("daphne ")]

#: What a server logs whose connections are not bounded.
WARNING = "a proxy in front has to set MAX_BODY_BYTES (16,777,216 bytes), LIMIT_HEAD_BYTES (65,536 bytes)"


def name(command):
    return "serve" if "manage.py" in command else command.split()[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("project"))
    project.run("python manage.py migrate")
    assert "Global key" in project.run("python manage.py bootstrap")
    return project


@pytest.fixture
def copied(project, tmp_path):
    """A copy of the project, which no other server runs."""
    return Project(tmp_path, template=project)


@pytest.fixture(scope="module", params=SERVERS, ids=name)
def served(project, tmp_path_factory, request):
    """The project under each of the document's servers; it stops as cleanly as it has started."""
    copy = Project(tmp_path_factory.mktemp("served"), template=project)
    with copy.server(request.param) as server:
        yield server
        assert server.get("/").status == 200
        server.wait_until(lambda: server.processes() == 1)
        began = time.monotonic()
        assert server.stop() in (0, -15)
        assert time.monotonic() - began < 15
        assert server.processes() == 0
        log = server.log.read_text()
    assert "Traceback" not in log
    assert log.count(WARNING) == (0 if name(request.param) == "serve" else 1)


@contextmanager
def stream(server, instance):
    """Open an event stream; yields its response once it has begun."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("GET", f"/event/stream/{instance.name}", headers={"apikey": instance.token})
        with connection.getresponse() as response:
            assert response.status == 200
            assert response.readline() == b": welcome\n"
            yield response


def next_event(response):
    for line in iter(response.readline, b""):
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError("The stream has ended")


# Under each server


def test_the_document_has_a_command_for_each_server():
    assert [name(command) for command in SERVERS] == ["serve", "uvicorn", "daphne", "hypercorn"]


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_events_reach_sockets(served, node, transports):
    instance = served.create()
    client = node.connect(f"{served.url}/{instance.name}", auth={"apikey": instance.token}, transports=transports)
    root = node.connect(served.url, auth={"apikey": GLOBAL_KEY}, transports=transports)
    client.connected()
    root.connected()

    event = {"event": "messages.upsert", "data": {"key": {"id": "1"}, "message": {"conversation": "published"}}}
    assert served.post(f"/event/publish/{instance.name}", event).status == 201
    served.receive(instance, "posted")

    for text in ("published", "posted"):
        assert client.event("messages.upsert")["data"]["message"] == {"conversation": text}
        assert root.event("messages.upsert", instance=instance.name)["data"]["message"] == {"conversation": text}
    assert client.call("send_message", {"text": "back"})["message"] == {"conversation": "back"}
    for socket in (client, root):
        socket.disconnect()


def test_events_reach_event_streams(served):
    instance = served.create()
    with stream(served, instance) as response:
        served.receive(instance, "streamed")

        assert next_event(response)["data"]["message"] == {"conversation": "streamed"}


def test_events_reach_webhooks(served):
    instance = served.create()
    with Receiver() as receiver:
        webhook = {"enabled": True, "url": receiver.url, "events": ["MESSAGES_UPSERT"]}
        assert served.post(f"/webhook/set/{instance.name}", {"webhook": webhook}).status == 201

        served.receive(instance, "delivered")

        served.wait_until(lambda: receiver.requests)
    assert receiver.requests[0].json["data"]["message"] == {"conversation": "delivered"}


def test_events_of_another_process_are_emitted_too(served, node):
    instance = served.create()
    client = node.connect(f"{served.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    record_event(served, instance)

    assert client.event("connection.update")["data"]["state"] == "open"
    client.disconnect()


def test_the_consumer_beside_it_works(served):
    with open_websocket(f"{served.url.replace('http', 'ws')}/echo/") as websocket:
        websocket.send(json.dumps({"hello": "Channels"}))

        assert json.loads(websocket.recv(5)) == {"echo": {"hello": "Channels"}}


def test_paths_and_errors_are_those_of_evoapi_alone(served):
    assert served.get("/").json["message"].startswith("Welcome")
    assert served.get("/no/such/path").json["status"] == 404
    assert served.get("/openapi.json").status == 200
    assert served.get("/admin/login/", key=None).status == 200
    assert served.get("/static/admin/css/base.css").status == 200
    assert served.get("/socket.io/socket.io.js").status == 200
    assert served.get("/socket.io/?EIO=3&transport=polling").status == 400
    assert served.get("/event/stream/nobody", key="wrong").status == 401


def test_the_documents_are_those_of_evoapi(served):
    assert b'<h1 id="settings">Settings</h1>' in served.get("/docs/guides/settings/", key=None).body


def test_a_body_over_the_limit_is_refused(served):
    assert served.post("/instance/create", b"[" + b"1," * 8_500_000 + b"1]").status == 413


def test_bodies_come_whole_however_they_are_sent(served):
    """In pieces of a body whose length is announced, and in chunks, as .NET and Java send JSON."""
    instance = served.create()
    body = json.dumps({"event": "messages.upsert", "data": {"text": "x" * 100_000}}).encode()
    for is_chunked in (False, True):
        headers = {"apikey": GLOBAL_KEY, "Content-Type": "application/json"}
        if not is_chunked:
            headers["Content-Length"] = str(len(body))
        pieces = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
        with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)) as connection:
            path = f"/event/publish/{instance.name}"
            connection.request("POST", path, pieces, headers, encode_chunked=is_chunked)
            with connection.getresponse() as response:
                assert (response.status, response.read()[:1]) == (201, b"{")


def test_no_key_of_a_query_is_logged(served, node):
    instance = served.create()
    for transport in ("polling", "websocket"):
        query = {"apikey": instance.token}
        node.connect(f"{served.url}/{instance.name}", query=query, transports=[transport]).connected().disconnect()
    assert served.get(f"/event/stream/nobody?token={instance.token}", key=None).status == 401

    assert instance.token not in served.log.read_text()


# Without a lifespan


def new_instance(server):
    """Create an instance in the database, without a call to the server."""
    made = server.shell(
        "import json; from instances.models import Instance; "
        f"i = Instance.objects.create(name='first-{secrets.token_hex(4)}', integration='EVOLUTION'); "
        "print(json.dumps([i.name, i.token.reveal(), str(i.pk)]))"
    )
    return Number(*json.loads(made), number=None)


def record_event(server, instance):
    """Record an event in another process."""
    server.shell(
        "from instances.events import EventType, announce; from instances.models import Instance; "
        "from django.db import transaction\n"
        "with transaction.atomic(): "
        f"announce(EventType.CONNECTION_UPDATE, Instance.objects.get(pk={instance.id!r}), {{'state': 'open'}})"
    )


@pytest.mark.parametrize("first", ["websocket", "polling", "stream", "REST"])
def test_the_first_call_of_any_kind_starts_what_runs_in_the_background(copied, node, first):
    with copied.server(DAPHNE) as server:
        instance = new_instance(server)
        if first == "stream":
            with stream(server, instance) as response:
                record_event(server, instance)
                assert next_event(response)["data"]["state"] == "open"
        else:
            if first == "REST":
                assert server.get("/").status == 200
            transports = ["websocket" if first == "REST" else first]
            options = {"auth": {"apikey": instance.token}, "transports": transports}
            client = node.connect(f"{server.url}/{instance.name}", **options).connected()
            record_event(server, instance)
            assert client.event("connection.update")["data"]["state"] == "open"
            client.disconnect()
        server.wait_until(lambda: server.processes() == 1)


def test_many_first_calls_start_it_once(copied):
    with copied.server(DAPHNE) as server, ThreadPoolExecutor(20) as threads:
        statuses = [response.status for response in threads.map(lambda _: server.get("/"), range(40))]

        assert statuses == [200] * 40
        server.wait_until(lambda: server.processes() == 1)
        assert server.log.read_text().count(WARNING) == 1


def test_a_start_that_fails_is_told_and_tried_again(tmp_path):
    project = Project(tmp_path)
    with project.server(DAPHNE) as server:
        for _ in range(3):
            response = server.get("/")
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert "its log says why" in response.json["response"]["message"][0]
        with pytest.raises(InvalidStatus):
            open_websocket(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket")
        stream = server.get("/event/stream/x")  # an error would keep a browser's EventSource from coming back
        assert (stream.status, b"retry: " in stream.body) == (200, True)
        assert server.log.read_text().count("run `manage.py migrate`") == 1

        project.run("python manage.py migrate")

        server.wait_until(lambda: server.get("/").status == 200)
        server.wait_until(lambda: server.processes() == 1)


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVERS, ids=name)
def test_a_router_without_a_lifespan_does_no_harm(copied, node, command):
    routes = copied.directory / "mysite" / "asgi.py"
    text = routes.read_text()
    routes.write_text(re.sub('        "lifespan": .*\n', "", text))
    assert routes.read_text() != text
    with copied.server(command) as server:
        instance = new_instance(server)
        client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
        record_event(server, instance)
        assert client.event("connection.update")["data"]["state"] == "open"
        client.disconnect()

        assert server.stop() in (0, -15)
        assert server.processes() == 0


@pytest.mark.slow
def test_daphnes_runserver_reloads_changed_code(copied, node):
    settings = copied.directory / "mysite" / "settings.py"
    settings.write_text(settings.read_text() + 'INSTALLED_APPS = ["daphne", *INSTALLED_APPS]\n')
    with copied.server(f"python manage.py runserver {PORT}") as server:
        instance = new_instance(server)
        for _ in range(2):
            client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
            record_event(server, instance)
            assert client.event("connection.update")["data"]["state"] == "open"
            os.utime(copied.directory / "mysite" / "urls.py")
            client.wait_for("disconnect")
            client.connected(60)
            client.disconnect()
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "has failed" not in log
