"""Evolution API's licence routes: always active, and nobody is asked."""

from __future__ import annotations

import uuid

import pytest

from tests.server import Server

pytestmark = pytest.mark.any_database

ACTIVE = {"status": "active", "message": "License is already active"}


def test_the_licence_is_active_and_the_installation_keeps_its_random_id(server: Server, start_server):
    status = server.get("/license/status", key=None)
    assert status.status == 200
    assert status.json == {"status": "active", "instance_id": str(uuid.UUID(status.json["instance_id"], version=4))}
    other_process = start_server()
    for again in (server.get("/license/status"), other_process.get("/license/status", key="wrong")):
        assert again.json == status.json


@pytest.mark.parametrize("path", ["register?redirect_uri=https://x/", "register", "activate?code=x", "activate"])
def test_there_is_nothing_to_register_or_activate(server: Server, path: str):
    assert server.get(f"/license/{path}", key=None).json == ACTIVE


@pytest.mark.parametrize(("method", "path"), [("GET", "/license"), ("GET", "/license/x"), ("POST", "/license/status")])
def test_other_paths_are_not_found(server: Server, method: str, path: str):
    response = server.request(method, path)
    assert (response.status, response.json["response"]["message"]) == (404, [f"Cannot {method} {path}"])


def test_a_dashboard_of_another_origin_may_ask(server: Server):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "apikey"}
    origin = {"Origin": "https://panel.example.com"}
    preflight = server.request("OPTIONS", "/license/status", key=None, headers=origin | asked)
    assert preflight.status == 200
    assert "apikey" in preflight.headers["Access-Control-Allow-Headers"]
    response = server.get("/license/status", headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
