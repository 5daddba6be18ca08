"""The OpenAPI document, and the conformance of the routes to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drf_spectacular.validation import validate_schema

import instances.urls
import realtime.api.urls
from evoapi.openapi import document
from instances.api.openapi import Generator
from tests.environment import GLOBAL_KEY
from tests.server import Server

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return Generator().get_schema(request=None, public=True)


@pytest.mark.any_database
def test_the_document_is_openapi(described):
    validate_schema(described)


@pytest.mark.any_database
def test_every_route_is_described(described):
    patterns = [*instances.urls.urlpatterns, *realtime.api.urls.urlpatterns]
    routes = {"/" + re.sub(r"<str:(\w+)>", r"{\1}", str(route.pattern)).replace("{pk}", "{id}") for route in patterns}
    assert set(described["paths"]) == routes
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert [each["operationId"] for each in operations if not each.get("description")] == []


@pytest.mark.any_database
def test_the_schema_of_a_response_is_that_of_its_type(described):
    row = described["components"]["schemas"]["DeliveryRow"]
    assert row["properties"]["resentFrom"] == {"type": "string", "nullable": True}
    assert set(row["required"]) == set(row["properties"])


@pytest.mark.any_database
def test_the_document_is_served_without_a_key(client):
    response = client.get("/openapi.json")
    assert (response.status_code, response["content-type"]) == (200, "application/json")
    assert response.content == document()


@pytest.mark.postgres  # the stricter database: about numbers, and characters in texts
def test_the_routes_conform_to_the_document(server: Server, tmp_path: Path):
    """Valid requests are accepted, invalid ones refused, and all responses documented."""
    instance = server.create()
    schemathesis = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run"),
            *(f"{server.url}/openapi.json", "--header", f"apikey: {GLOBAL_KEY}", "--no-color"),
        ],
        cwd=tmp_path,  # where it writes its files
        env=os.environ | {"INSTANCE": instance.name},
        capture_output=True,
        text=True,
    )
    assert schemathesis.returncode == 0, schemathesis.stdout + schemathesis.stderr
    assert "Tested: 30" in schemathesis.stdout
