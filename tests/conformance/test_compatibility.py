"""Each row of docs/compatibility.md: a valid request for each kind of instance is answered as the row says."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from aiohttp import web

from instances.api.openapi import document
from instances.evolution_routes import KINDS, ROUTES, Route
from instances.evolution_routes.route import EMPTY, NO_ENGINE, REFUSED
from tests.environment import GLOBAL_KEY, VERIFY_TOKEN
from tests.instances.providers.graph_api import Graph
from tests.server import Number, Server

pytestmark = pytest.mark.any_database

ANA = "5511988887777"
KEY = {"id": "wamid.last", "remoteJid": f"{ANA}@s.whatsapp.net", "fromMe": False}

#: Valid bodies of routes, where the first example of the OpenAPI document is none for all channels, and of DELETEs,
#: whose bodies OpenAPI 3.0 cannot describe.
BODIES: dict[str, Any] = {
    "/message/sendMedia/{name}": {"number": ANA, "mediatype": "image", "media": "https://example.com/a.png"},
    "/message/sendWhatsAppAudio/{name}": {"number": ANA, "audio": "https://example.com/a.ogg"},
    "/message/sendPtv/{name}": {"number": ANA, "video": "https://example.com/a.mp4"},
    "/message/sendSticker/{name}": {"number": ANA, "sticker": "https://example.com/a.webp"},
    "/chat/fetchBusinessProfile/{name}": {},
    "/chat/deleteMessageForEveryone/{name}": KEY,
    "/chat/getPollVote/{name}": {"message": {"key": {"id": "3EB0C767D82B0A3BCD42"}}, "remoteJid": KEY["remoteJid"]},
    "/template/delete/{name}": {"name": "hello"},
    "/chat/sendPresence/{name}": {"number": ANA, "presence": "composing", "delay": 1},
    "/chat/getBase64FromMediaMessage/{name}": {"message": {"key": {"id": "wamid.picture"}}},
}
#: Queries of routes that need one.
QUERIES = {
    "/group/findGroupInfos/{name}": {"groupJid": "120363025246125486@g.us"},
    "/group/participants/{name}": {"groupJid": "120363025246125486@g.us"},
    "/group/inviteCode/{name}": {"groupJid": "120363025246125486@g.us"},
    "/group/leaveGroup/{name}": {"groupJid": "120363025246125486@g.us"},
    "/group/fetchAllGroups/{name}": {"getParticipants": "true"},
    "/group/inviteInfo/{name}": {"inviteCode": "F1EX5QZxO181L3TMVP31gY"},
    "/group/acceptInviteCode/{name}": {"inviteCode": "F1EX5QZxO181L3TMVP31gY"},
    "/chat/findChatByRemoteJid/{name}": {"remoteJid": KEY["remoteJid"]},
    "/webhook/meta": {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1"},
}
#: Routes that end an instance, or its connection.
ENDING = {"/instance/logout/{name}", "/instance/delete/{name}"}

Answer = tuple[int, Any, Any]
Call = Callable[[Route, str, Number], Answer]


class AgreeableGraph(Graph):
    """A Graph API that accepts everything."""

    async def take(self, request: web.Request) -> web.StreamResponse:
        id = f"wamid.{secrets.token_hex(12)}"
        accepted = {"success": True, "id": id, "status": "PENDING", "category": "UTILITY", "data": []}
        return web.json_response(accepted | {"messages": [{"id": id}]})


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    graph = AgreeableGraph()
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def server(environment: dict[str, str], graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all that a route may need: a Graph API, metrics, a dashboard."""
    dashboard: Path = tmp_path_factory.mktemp("dashboard")
    (dashboard / "assets").mkdir()
    (dashboard / "assets" / "x.js").write_text("1")
    (dashboard / "index.html").write_text("<!doctype html>")
    settings = {"WA_BUSINESS_URL": graph.url, "PROMETHEUS_METRICS": "true", "EVOLUTION_MANAGER_DIR": str(dashboard)}
    server = Server(environment | settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def examples() -> dict[tuple[str, str], Any]:
    """The first example of a body of each route in the OpenAPI document."""
    found = {}
    for path, methods in json.loads(document())["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            given = [content.get("example"), *(each["value"] for each in content.get("examples", {}).values())]
            found[method.upper(), path] = next(filter(None, given), None)
    return found


@pytest.fixture
def call(server: Server, examples: dict[tuple[str, str], Any]) -> Iterator[Call]:
    """Send a valid request for a row, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def call(route: Route, kind: str, instance: Number) -> Answer:
        body = BODIES.get(route.path, examples.get((route.method, route.path)))
        if route.path == "/instance/create":
            body = {
                "instanceName": secrets.token_hex(8),
                "integration": kind,
                "number": f"55{secrets.randbelow(10**9)}",
            }
            body |= {"token": secrets.token_hex(12)}
        if route.path.startswith("/webhook/") and route.method == "POST" and "{name}" not in route.path:
            return posted(server, route)
        path = route.path.format(name=quote(instance.name), id="1", file="x.js")
        if query := QUERIES.get(route.path):
            path += f"?{urlencode(query)}"
        headers = {"apikey": GLOBAL_KEY, "Content-Type": "application/json"}
        connection.request(route.method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        is_json = content and response.getheader("Content-Type", "").startswith("application/json")
        return response.status, json.loads(content) if is_json else None, response.headers

    yield call
    connection.close()


def posted(server: Server, route: Route) -> Answer:
    """Post a payload to the ingress of a provider."""
    instance = server.create()
    response = server.post_meta({"object": "page"}) if route.path == "/webhook/meta" else server.receive(instance)
    return response.status, response.json, response.headers


def instance_of(server: Server, kind: str) -> Number:
    """Create an instance that has received a text and a picture."""
    options = {"businessId": str(secrets.randbelow(10**12))} if kind == "WHATSAPP-BUSINESS" else {}
    instance = server.create(integration=kind, **options)
    text = {"from": ANA, "id": "wamid.last", "timestamp": "1700000001", "type": "text", "text": {"body": "Oi"}}
    picture = text | {"id": "wamid.picture", "timestamp": "1700000000", "type": "image", "image": {"id": "1"}}
    if kind == "WHATSAPP-BUSINESS":
        value = {"metadata": {"phone_number_id": instance.number}, "messages": [picture, text]}
        entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
        assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200
    if kind == "EVOLUTION":
        assert server.receive(instance).status == 200
    return instance


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_answered_as_it_says(server: Server, call: Call, kind: str):
    instance = instance_of(server, kind)
    wrong = []
    for route in ROUTES:
        subject = server.create(integration=kind) if route.path in ENDING else instance
        status, body, headers = call(route, kind, subject)
        if status != route.status(kind):
            wrong.append(f"{route.method} {route.path}: {status}, not {route.status(kind)}: {body}")
        answer = route.answers[list(KINDS).index(kind)]
        if answer is NO_ENGINE and not ("is not connected" in str(body) and "engine" in headers["X-Evoapi-Note"]):
            wrong.append(f"{route.method} {route.path}: {body} without the words on engines")
        if answer is EMPTY and body is not None:
            wrong.append(f"{route.method} {route.path}: {body}, which is not empty")
        if answer is REFUSED and "not available" not in str(body) and kind != "WHATSAPP-BAILEYS":
            wrong.append(f"{route.method} {route.path}: {body} without Evolution API's words")
    assert not wrong, "\n".join(wrong)
