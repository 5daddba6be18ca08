"""Each operation of the OpenAPI document has examples, which its schemas take, and errors of a known shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from evoapi.openapi_examples import _examples
from instances.api.openapi import Generator

pytestmark = pytest.mark.any_database


#: Answers that have another shape in Evolution API, too.
OTHER_SHAPES = {"FindChatByRemoteJid 400"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return Generator().get_schema(request=None, public=True)


def operations(described: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in described["paths"].values():
        yield from path.values()


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the content of the request, and that of each success; forms with files have the members of JSON."""
    parts = {"request": operation.get("requestBody", {})} | operation["responses"]
    for name, part in parts.items():
        if name == "request" or name.startswith("2"):
            for kind, content in part.get("content", {}).items():
                if kind != "multipart/form-data":
                    yield f"{operation['operationId']} {name}", content


def examples(content: dict[str, Any]) -> list[Any]:
    return [content["example"]] if "example" in content else [e["value"] for e in content.get("examples", {}).values()]


def as_json_schema(part: Any) -> Any:
    """Translate OpenAPI 3.0's `nullable` to JSON Schema."""
    if isinstance(part, list):
        return [as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    schema = {name: as_json_schema(each) for name, each in part.items() if name != "nullable"}
    return {"anyOf": [schema, {"type": "null"}]} if part.get("nullable") is True else schema


def test_every_request_and_every_success_has_an_example(described):
    missing = [name for each in operations(described) for name, content in contents(each) if not examples(content)]
    assert missing == [], "give the view's extend_schema an OpenApiExample, or add one to evoapi/openapi_examples.json"


def test_the_schemas_take_the_examples(described):
    document = as_json_schema(described)
    errors = []
    for operation in operations(document):
        for name, content in contents(operation):
            schema = content["schema"] | {"components": document["components"]}
            validator = jsonschema.Draft7Validator(schema)
            for example in examples(content):
                errors += [
                    f"{name}: {error.json_path} {error.message[:200]}" for error in validator.iter_errors(example)
                ]
    assert not errors, "\n".join(errors)


def test_every_refusal_has_evolutions_shape(described):
    assert set(described["components"]["schemas"]["Error"]["properties"]) == {"status", "error", "response"}
    for operation in operations(described):
        refusals = {status: each for status, each in operation["responses"].items() if status >= "4"}
        assert refusals or operation["operationId"] == "EventStream", operation["operationId"]
        for status, refusal in refusals.items():
            bodies = refusal.get("content", {}).items()
            schemas = [content["schema"].get("$ref") for kind, content in bodies if kind == "application/json"]
            name = f"{operation['operationId']} {status}"
            has_shape = all(schema and schema.rpartition("/")[2].endswith("Error") for schema in schemas)
            assert has_shape is (name not in OTHER_SHAPES), name


def test_no_example_is_left_of_a_route_that_is_gone(described):
    assert _examples().keys() <= {operation["operationId"] for operation in operations(described)}
