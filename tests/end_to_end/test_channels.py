"""Socket.IO mounted in Channels' routers, beside a consumer and Django."""

from __future__ import annotations

import json

import pytest
from websockets.sync.client import connect as open_websocket

from tests.environment import GLOBAL_KEY
from tests.server import Server

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def channels(environment):
    server = Server(environment | {"DJANGO_SETTINGS_MODULE": "tests.channels_project.settings"})
    server.start()
    yield server
    assert server.stop() in (0, -15)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_socketio_works_in_channels_routers(channels, node, transports):
    instance = channels.create()
    client = node.connect(
        f"{channels.url}/{instance.name}", auth={"apikey": instance.token}, transports=transports
    ).connected()
    root = node.connect(channels.url, auth={"apikey": GLOBAL_KEY}, transports=transports).connected()

    channels.receive(instance, "through Channels")

    assert client.event("messages.upsert")["data"]["message"] == {"conversation": "through Channels"}
    assert root.event("messages.upsert", instance=instance.name)
    assert client.call("send_message", {"text": "back"})["message"] == {"conversation": "back"}
    for socket_client in (client, root):
        socket_client.disconnect()


def test_events_of_another_process_are_emitted_too(channels, server, node):
    """The lifespan has started the sweep, as well as the namespaces."""
    instance = server.create()
    client = node.connect(f"{channels.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.receive(instance, "from the other one")

    assert client.event("messages.upsert")["data"]["message"] == {"conversation": "from the other one"}
    client.disconnect()


def test_the_consumer_beside_it_works(channels):
    with open_websocket(f"{channels.url.replace('http', 'ws')}/echo/") as websocket:
        websocket.send(json.dumps({"hello": "Channels"}))

        assert json.loads(websocket.recv(5)) == {"echo": {"hello": "Channels"}}


def test_django_and_the_client_bundle_keep_their_paths(channels):
    assert channels.get("/").json["message"].startswith("Welcome")
    assert channels.get("/no/such/path").json["status"] == 404
    assert channels.get("/socket.io/socket.io.js").status == 200
    assert channels.get("/socket.io/?EIO=3&transport=polling").status == 400
    assert channels.get("/static/admin/css/base.css").status == 200
    assert channels.get("/event/stream/nobody", key="wrong").status == 401
