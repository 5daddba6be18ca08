"""The OpenAPI document, and whether the routes keep to it."""

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
    routes = {"/" + re.sub(r"<str:(\w+)>", r"{\1}", str(one.pattern)).replace("{pk}", "{id}") for one in patterns}
    assert set(described["paths"]) == routes
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert [one["operationId"] for one in operations if not one.get("description")] == []


@pytest.mark.any_database
def test_an_answers_schema_is_that_of_its_type(described):
    row = described["components"]["schemas"]["DeliveryRow"]
    assert row["properties"]["resentFrom"] == {"type": "string", "nullable": True}
    assert set(row["required"]) == set(row["properties"])


@pytest.mark.any_database
def test_it_is_served_without_a_key(client):
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer["content-type"]) == (200, "application/json")
    assert answer.content == document()


@pytest.mark.postgres  # the stricter one: of numbers, and of characters in texts
def test_the_routes_keep_to_it(server: Server, tmp_path: Path):
    """What the document allows is taken, what it does not is refused, and every answer is one that it tells of."""
    instance = server.create()
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run"),
            *(f"{server.url}/openapi.json", "--header", f"apikey: {GLOBAL_KEY}", "--no-color"),
        ],
        cwd=tmp_path,  # where it leaves what it found
        env=os.environ | {"INSTANCE": instance.name},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "Tested: 30" in asked.stdout
