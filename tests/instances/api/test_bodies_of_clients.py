"""The bodies that clients of Evolution API make, and the members that they read of the answers.

The clients: evolutionapi and pyevolutionapi (PyPI), evolution-api-mcp, whatsapp-toolkit, cogno-gateway, n8n's node, and
cliente-evolution-api, which is for version 1. Each body is here as it was recorded from the client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.environment import GLOBAL_KEY
from tests.instances.providers.graph_api import Graph
from tests.server import Number, Response, Server

pytestmark = pytest.mark.any_database

ANA = "5511988887777"
JID = f"{ANA}@s.whatsapp.net"
FILE = "https://files.example.com/a.png"


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    server = Server(environment | {"WA_BUSINESS_URL": running_graph.url})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cloud(server: Server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS")


@pytest.fixture(scope="module")
def engine(server: Server) -> Number:
    """An instance on the Evolution channel that has received a text."""
    instance = server.create()
    assert server.receive(instance, "Oi", id="3EB0TEXT").status == 200
    return instance


def member(value: Any, path: str) -> Any:
    """Return what a client reads by a path like `messages.records.0.key.id`."""
    for part in path.split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return value


#: What clients send to a route, and the members that they read, with their values; ... stands for any.
READS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "evolutionapi, get_messages": (
        "/chat/findMessages",
        {"where": {"key": {"remoteJid": JID, "fromMe": False}}, "page": 1, "offset": 50},
        {"messages.total": 1, "messages.records.0.key.id": "3EB0TEXT", "messages.records.0.message.conversation": "Oi"},
    ),
    "evolution-api-mcp, read_messages": (
        "/chat/findMessages",
        {
            "where": {
                "key": {"remoteJid": JID, "remoteJidAlt": JID},
                "messageTimestamp": {"gte": "2024-01-01T00:00:00Z", "lte": "2100-01-01T00:00:00Z"},
            },
            "offset": 30,
            "page": 1,
        },
        {
            "messages.total": 1,
            "messages.pages": 1,
            "messages.currentPage": 1,
            "messages.records.0.messageType": "conversation",
            "messages.records.0.messageTimestamp": ...,
            "messages.records.0.pushName": "Ana",
            "messages.records.0.instanceId": ...,
        },
    ),
    "whatsapp-toolkit, find_message": (
        "/chat/findMessages",
        {"where": {"key": {"id": "3EB0TEXT"}}},
        {"messages.records.0.key.remoteJid": JID},
    ),
    "pyevolutionapi, find_chats, which has no body": ("/chat/findChats", b"", {"0.id": ..., "0.remoteJid": JID}),
    "n8n, find-chats": (
        "/chat/findChats",
        {"where": {"remoteJid": JID, "id": ""}, "page": 1, "offset": 10},
        {"0.remoteJid": JID, "0.pushName": "Ana"},
    ),
    "evolution-api-mcp, list_chats": ("/chat/findChats", {"take": 100, "skip": 0}, {"0.lastMessage.key.fromMe": False}),
    "n8n, find-contacts, all": ("/chat/findContacts", {}, {"0.remoteJid": JID}),
    "pyevolutionapi, find_contacts": ("/chat/findContacts", {"where": {}}, {"0.id": ..., "0.isGroup": False}),
    "evolutionapi, fetch_profile_picture_url": (
        "/chat/fetchProfilePictureUrl",
        {"number": ANA},
        {"wuid": JID, "profilePictureUrl": None},
    ),
}


@pytest.mark.parametrize(("route", "body", "members"), READS.values(), ids=READS)
def test_stored_data_are_read_by_clients(server: Server, engine: Number, route: str, body: Any, members: Any):
    headers = {"Content-Type": "application/json"}
    response = server.post(server.path(route, engine), body, key=engine.token, headers=headers)
    assert response.status == 200, response.body
    for path, value in members.items():
        read = member(response.json, path)
        assert read is not None if value is ... else read == value, path


#: What clients set, and the members of the answer.
SETS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "evolutionapi, set_websocket": (
        "/websocket/set",
        {"enabled": True, "events": ["MESSAGES_UPSERT", "SEND_MESSAGE"]},
        {"enabled": True, "events": ["MESSAGES_UPSERT", "SEND_MESSAGE"]},
    ),
    "pyevolutionapi, set_websocket": (
        "/websocket/set",
        {"websocket": {"enabled": True, "events": []}},
        {"events.0": "APPLICATION_STARTUP", "events.31": "STATUS_INSTANCE"},
    ),
    "whatsapp-toolkit, set_webhook": (
        "/webhook/set",
        {
            "url": "https://hook.example.com/in",
            "enabled": True,
            "webhookByEvents": True,
            "webhookBase64": True,
            "events": ["SEND_MESSAGE"],
        },
        {"url": "https://hook.example.com/in", "webhookByEvents": True, "webhookBase64": True},
    ),
    "n8n, webhook": (
        "/webhook/set",
        {"webhook": {"enabled": False, "url": "vazio", "webhookByEvents": True, "webhookBase64": True, "events": []}},
        {"enabled": False, "events": [], "webhookByEvents": True},
    ),
    "cogno-gateway, connect": (
        "/webhook/set",
        {
            "webhook": {
                "enabled": True,
                "url": "https://hook.example.com/webhook/loja",
                "base64": True,
                "events": ["MESSAGES_UPSERT", "CONNECTION_UPDATE", "PRESENCE_UPDATE"],
                "headers": {"apikey": "secret"},
            }
        },
        {"url": "https://hook.example.com/webhook/loja", "headers.apikey": "secret"},
    ),
    "n8n, instance-settings": (
        "/settings/set",
        {
            "rejectCall": True,
            "msgCall": "no",
            "groupsIgnore": True,
            "alwaysOnline": True,
            "readMessages": True,
            "syncFullHistory": True,
            "readStatus": True,
        },
        {"settings.settings.rejectCall": True, "settings.settings.msgCall": "no"},
    ),
    "n8n, set-proxy": (
        "/proxy/set",
        {"enabled": True, "host": "p.example.com", "port": "80", "protocol": "http", "username": "", "password": ""},
        {"proxy.proxy.enabled": True, "proxy.proxy.port": "80"},
    ),
}


@pytest.mark.parametrize(("route", "body", "members"), SETS.values(), ids=SETS)
def test_clients_set_up_an_instance(server: Server, engine: Number, route: str, body: Any, members: Any):
    response = server.post(server.path(route, engine), body, key=engine.token)
    assert response.status == 201, response.body
    assert {path: member(response.json, path) for path in members} == members


def test_the_node_of_n8n_creates_an_instance_with_all_its_options(server: Server):
    body = {
        "instanceName": "loja-n8n",
        "integration": "WHATSAPP-BAILEYS",
        "token": "a-token-of-n8n-0123456789",
        "number": ANA,
        **{"rejectCall": True, "msgCall": "no", "groupsIgnore": True, "alwaysOnline": True, "readMessages": True},
        **{"proxyHost": "p.example.com", "proxyPort": "1234", "proxyProtocol": "http", "proxyUsername": ""},
        "webhook": {"url": "https://hook.example.com/in", "byEvents": True, "base64": True, "events": ["CALL"]},
        "rabbitmq": {"enabled": True, "events": ["CALL"]},
        **{"chatwootAccountId": "1", "chatwootToken": "t", "chatwootUrl": "https://c.example.com"},
    }
    created = server.post("/instance/create", body)
    assert (created.status, created.json["hash"], created.json["instance"]["status"]) == (201, body["token"], "close")
    webhook = server.get("/webhook/find/loja-n8n").json
    assert (webhook["enabled"], webhook["events"], webhook["webhookByEvents"]) == (True, ["CALL"], True)


def part(name: str, value: str, type: str = "text/plain") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"\r\nContent-Type: {type}'
    return f"--XX\r\n{head}\r\n\r\n{value}\r\n".encode()


def test_the_official_client_sends_a_file(server: Server, engine: Number):
    """Each part of its form has a type, the one of `delay` with a parameter of its own."""
    texts = {"number": ANA, "mediatype": "image", "mimetype": "image/png", "caption": "Hi", "fileName": "a.png"}
    file = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: image/png\r\n\r\nPNG'
    parts = [part(name, value) for name, value in texts.items()] + [part("delay", "1", "text/plain; type=number")]
    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    body = b"".join(parts) + file + b"\r\n--XX--\r\n"
    response = server.post(f"/message/sendMedia/{engine.name}", body, key=engine.token, headers=headers)
    assert response.status == 201, response.body
    assert response.json["message"]["imageMessage"] == {"caption": "Hi", "fileName": "a.png", "mimetype": "image/png"}


def test_the_official_client_restarts_by_a_post_of_json_without_a_body(server: Server, engine: Number):
    headers = {"Content-Type": "application/json", "Content-Length": "0"}
    response = server.post(f"/instance/restart/{engine.name}", key=engine.token, headers=headers)
    assert (response.status, response.json["instance"]["state"]) == (200, "open")


# Version 1


#: A body of version 1 beside the same body of today.
VERSION_1: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sendLocation": (
        {"locationMessage": {"name": "MASP", "address": "Paulista", "latitude": -23.5, "longitude": -46.6}},
        {"name": "MASP", "address": "Paulista", "latitude": -23.5, "longitude": -46.6},
    ),
    "sendContact": (
        {"contactMessage": [{"fullName": "Bia", "wuid": "5521977776666", "phoneNumber": "+55 21 97777-6666"}]},
        {"contact": [{"fullName": "Bia", "wuid": "5521977776666", "phoneNumber": "+55 21 97777-6666"}]},
    ),
    "sendReaction": (
        {"reactionMessage": {"key": {"id": "wamid.X", "remoteJid": JID, "fromMe": False}, "reaction": "👍"}},
        {"key": {"id": "wamid.X", "remoteJid": JID, "fromMe": False}, "reaction": "👍"},
    ),
    "sendList": (
        {
            "listMessage": {
                "title": "Menu",
                "description": "What?",
                "footerText": "",
                "buttonText": "Choose",
                "sections": [{"title": "Pizza", "rows": [{"title": "A", "description": "", "rowId": "a"}]}],
            }
        },
        {
            "title": "Menu",
            "description": "What?",
            "footerText": "",
            "buttonText": "Choose",
            "sections": [{"title": "Pizza", "rows": [{"title": "A", "description": "", "rowId": "a"}]}],
        },
    ),
    "sendSticker": ({"stickerMessage": {"image": FILE}}, {"sticker": FILE}),
}


@pytest.mark.parametrize(("kind", "old", "new"), [(kind, *bodies) for kind, bodies in VERSION_1.items()], ids=VERSION_1)
def test_version_1_had_the_members_of_a_message_in_an_object(
    server: Server, cloud: Number, running_graph: Graph, kind: str, old: dict[str, Any], new: dict[str, Any]
):
    sent = []
    for body in (old | {"options": {"delay": 1, "presence": "composing"}}, new):
        running_graph.forget()
        response = send(server, cloud, kind, body)
        assert response.status == 201, response.body
        sent.append((response.json["message"], running_graph.requests[0].body))
    assert sent[0] == sent[1]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("sendPoll", {"pollMessage": {"name": "When?", "selectableCount": 1, "values": ["Monday", "Friday"]}}),
        ("sendStatus", {"statusMessage": {"type": "text", "content": "Open", "allContacts": True}}),
    ],
)
def test_what_only_a_phone_sends_is_read_of_version_1_before_it_is_refused(server, cloud, kind, body):
    assert send(server, cloud, kind, {}).json["response"]["message"][0][0].startswith("instance requires property")
    refused = send(server, cloud, kind, body)
    assert refused.json["response"]["message"] == ["Method not available on WhatsApp Business API"]


@pytest.mark.parametrize(("kind", "wrapper"), [("sendPoll", "pollMessage"), ("sendContact", "contactMessage")])
def test_an_object_of_version_1_that_is_none_is_refused(server, cloud, kind, wrapper):
    assert send(server, cloud, kind, {wrapper: "x"}).status == 400


def send(server: Server, instance: Number, kind: str, body: dict[str, Any]) -> Response:
    return server.post(server.path(f"/message/{kind}", instance), {"number": ANA} | body, key=GLOBAL_KEY)
