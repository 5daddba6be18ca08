"""Evolution API's routes answer in any letter case and with a slash at their end; no other path does."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote

import pytest

from instances.access.path_spelling import spelled
from instances.evolution_routes import ROUTES
from tests.environment import GLOBAL_KEY, VERIFY_TOKEN
from tests.server import Server

pytestmark = pytest.mark.any_database

#: A name with each kind of character that must stay as it is; nobody has it.
NAME = "Niemand São %41 日"


@pytest.mark.slow
def test_each_route_is_answered_however_it_is_spelled(server: Server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def answer(method: str, path: str) -> tuple[int, Any, Any]:
        body = None if method == "GET" else b"{}"
        connection.request(method, path, body, {"apikey": GLOBAL_KEY, "Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read(), response.headers["Location"]

    for method, template in [(route.method, route.path) for route in ROUTES]:
        end = template.find("{")
        head, rest = (template, "") if end < 0 else (template[:end], template[end:])
        rest = rest.format(name=quote(NAME, safe=""), id="Ab1", file="None.js")
        expected = answer(method, head + rest)
        spellings = {head.upper() + rest, head.lower() + rest, head.swapcase() + rest + "/", head + rest + "/"}
        if template == "/":
            spellings = {"/"}
        for path in spellings:
            assert answer(method, path) == expected, path
        if "{name}" in template and expected[0] == 404 and b"exist" in expected[1]:
            assert NAME in json.loads(expected[1])["response"]["message"][0]
    connection.close()


def test_payloads_reach_their_endpoints(server: Server):
    instance = server.create(name="Loja São")
    message = {"numberId": instance.number, "key": {"remoteJid": "5511", "id": "A"}, "message": {"conversation": "x"}}

    assert server.post("/Webhook/Evolution/", message, key=instance.token).json == {"status": "success"}
    assert server.counts(instance)["Message"] == 1
    assert server.post("/WEBHOOK/META/", {}, key=None).status == server.post("/webhook/meta", {}, key=None).status
    handshake = f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=77"
    assert server.get(f"/Webhook/Meta/?{handshake}", key=None).body == b"77"
    text = {"number": "5511988887777", "text": "x"}
    sent = server.post(f"/MESSAGE/sendtext/{quote(instance.name)}/", text, key=instance.token)
    assert sent.status == 201
    assert server.get("/Instance/FetchInstances/?instanceName=Loja%20S%C3%A3o").json[0]["name"] == "Loja São"


def test_the_name_of_an_instance_keeps_its_letters(server: Server):
    server.create(name="Caixa")
    assert server.get("/Instance/ConnectionState/Caixa/").status == 200
    for name in ("caixa", "CAIXA", "Caixa%2F", "Caixa//", "/Caixa", "Caixa/x"):
        assert server.get(f"/instance/connectionState/{name}").status == 404, name


@pytest.mark.parametrize(
    "path",
    [
        *("/Admin/", "/ADMIN/login/", "/event/find/x/", "/Event/find/x", "/event/publish/x/", "/Socket.IO/", "/docs/"),
        *("/console/", "/Console", "/openapi.json/", "/OPENAPI.JSON", "/webhook/endpoints/x/", "/Webhook/why/x/1"),
        *("//", "/instance//create", "/instance/create//", "/instance", "/Instance/", "/webhoo\u212a/meta", "/x/"),
    ],
)
def test_no_other_path_is_changed(path):
    scope = {"type": "http", "path": path, "raw_path": quote(path).encode()}
    assert spelled(scope) is scope


def test_a_slash_that_was_percent_encoded_is_part_of_a_name():
    scope = {"type": "http", "path": "/instance/connect/Loja/"}
    assert spelled(scope | {"raw_path": b"/instance/connect/Loja/"})["path"] == "/instance/connect/Loja"
    assert spelled(scope)["path"] == "/instance/connect/Loja"  # of a server that does not say
    assert spelled(scope | {"raw_path": b"/instance/connect/Loja%2F"})["path"] == "/instance/connect/Loja/"
