"""The OpenAPI document, and the conformance of the routes to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from drf_spectacular.validation import validate_schema

import instances.urls
import realtime.api.urls
from evoapi.openapi_descriptions import descriptions
from instances.api.openapi import Generator, document
from instances.events import EventType
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
    assert row["properties"]["resentFrom"].items() >= {"type": "string", "nullable": True}.items()
    assert set(row["required"]) == set(row["properties"])


def undescribed(part: Any, place: str) -> Iterator[str]:
    """Yield the members without a description in a part of the document."""
    if isinstance(part, dict):
        members = part.get("properties")
        for name, member in members.items() if isinstance(members, dict) else ():
            if isinstance(member, dict) and not member.get("description"):
                yield f"{place}.{name}"
        for name, inner in part.items():
            if name not in ("example", "examples"):
                yield from undescribed(inner, place)
    if isinstance(part, list):
        for inner in part:
            yield from undescribed(inner, place)


@pytest.mark.any_database
def test_every_member_and_parameter_has_a_description(described):
    schemas = described["components"]["schemas"].items()
    assert [found for name, schema in schemas for found in undescribed(schema, name)] == [], "describe them"
    for path, operations in described["paths"].items():
        assert list(undescribed(operations, path)) == [], "describe them in evoapi/openapi_descriptions.json"
        for operation in operations.values():
            nameless = [each["name"] for each in operation.get("parameters", ()) if not each.get("description")]
            assert nameless == [], f"describe the parameters of {path} in evoapi/openapi_descriptions.json"


@pytest.mark.any_database
def test_every_description_is_of_a_member_or_parameter(described):
    names = set(re.findall(r'"([\w.-]+)":', orjson.dumps(described["components"]).decode()))
    names |= set(re.findall(r'"([\w.-]+)":', orjson.dumps(described["paths"]).decode()))
    assert {key.rpartition(".")[2] for key in descriptions()["members"]} <= names
    parameters = [
        each
        for path in described["paths"].values()
        for operation in path.values()
        for each in operation.get("parameters", ())
    ]
    assert set(descriptions()["parameters"]) <= {each["name"] for each in parameters}
    schemas = {name.removesuffix("Request") for name in described["components"]["schemas"]}
    assert descriptions()["of"].keys() <= schemas


def enums(part: Any) -> Iterator[list[Any]]:
    """Yield every enum in a part of the document."""
    if isinstance(part, dict):
        if "enum" in part:
            yield part["enum"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from enums(each)


@pytest.mark.any_database
def test_an_enum_has_one_spelling_of_each_value(described):
    """Generators of clients make a member of each value, named in capitals, and stop at two of one name."""
    found = list(enums(described))
    assert any("messages.upsert" in enum for enum in found)
    assert any("MESSAGES_UPSERT" in enum for enum in found)
    for enum in found:
        members = [re.sub(r"[^A-Z0-9]+", "_", str(value).upper()) for value in enum]
        types = [event_type for value in enum if (event_type := EventType.named(value))]
        assert len(set(members)) == len(members), enum
        assert len(set(types)) == len(types), enum


def test_both_spellings_of_an_event_are_taken(server: Server):
    instance = server.create()
    for name in ("messages.upsert", "MESSAGES_UPSERT"):
        published = server.post(server.path("/event/publish", instance), {"event": name, "data": {}})
        assert published.status == 201
        found = server.get(server.path("/event/find", instance) + f"?type={name}")
        assert {event["event"] for event in found.json["events"]} == {"messages.upsert"}
    for name in ("GROUP_UPDATE", "GROUPS_UPDATE"):
        settings = {"websocket": {"enabled": True, "events": [name]}}
        assert server.post(server.path("/websocket/set", instance), settings).status == 201


@pytest.mark.any_database
def test_the_document_is_served_without_a_key(client):
    response = client.get("/openapi.json")
    assert (response.status_code, response["content-type"]) == (200, "application/json")
    assert response.content == document()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.postgres  # the stricter database: about numbers, and characters in texts
def test_the_routes_conform_to_the_document(conformance: Callable[[str], int]):
    """Valid requests are accepted, invalid ones refused, and all responses documented: each rule of the schemas."""
    assert conformance("coverage") > 40


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.postgres
def test_random_requests_conform_to_it(conformance: Callable[[str], int]):
    assert conformance("fuzzing") > 60


@pytest.fixture
def conformance(start_server: Callable[[], Server], tmp_path: Path) -> Callable[[str], int]:
    """Run a phase of schemathesis; returns the number of operations that it has tested."""

    def run(phase: str) -> int:
        server = start_server()
        instance = server.create()
        schemathesis = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run"),
                *(f"{server.url}/openapi.json", "--header", f"apikey: {GLOBAL_KEY}", "--no-color"),
                *("--phases", phase, "--workers", "2"),
            ],
            cwd=tmp_path,  # where it writes its files
            env=os.environ | {"INSTANCE": instance.name},
            capture_output=True,
            text=True,
        )
        assert schemathesis.returncode == 0, schemathesis.stdout + schemathesis.stderr
        return int(schemathesis.stdout.partition("Tested: ")[2].split()[0])

    return run
