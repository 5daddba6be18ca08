"""Descriptions in the OpenAPI document for members and parameters whose serializers and types have none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson

#: `members` by name, `of` by schema and name, for those that mean something else there, and `parameters` by name.
FILE = Path(__file__).with_suffix(".json")


@cache
def descriptions() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(FILE.read_bytes())
    return found


def add_descriptions(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add descriptions to a document. A hook of drf-spectacular's, called with its generator, too."""
    for name, schema in result["components"]["schemas"].items():
        _describe(schema, descriptions()["of"].get(name.removesuffix("Request"), {}))
    for path in result["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if description := descriptions()["parameters"].get(parameter["name"]):
                    parameter.setdefault("description", description)
            for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
                for content in holder.get("content", {}).values():
                    _describe(content.get("schema", {}), {})
    return result


def _describe(schema: dict[str, Any], own: dict[str, str], parent: str = "") -> None:
    """Add descriptions to the members of a schema, and of the schemas within it: `own`, or those of all schemas.

    Those by the name of the member that holds it, such as `key.id`, come before those by its name alone.
    """
    members = schema.get("properties", {})
    for name, member in members.items():
        keys = [(table, key) for key in (f"{parent}.{name}", name) for table in (own, descriptions()["members"])]
        description = next((table[key] for table, key in keys if key in table), None)
        if description and "description" not in member:
            if "$ref" in member:  # OpenAPI 3.0 allows nothing beside it
                member = members[name] = {"allOf": [member]}
            member["description"] = description
        _describe(member, own, name)
    for part in _parts(schema):
        _describe(part, own, parent)


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of items and alternatives."""
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield schema[keyword]
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
