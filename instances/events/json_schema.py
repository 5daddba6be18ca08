"""JSON Schemas of the data of events, written as Python.

https://json-schema.org/draft/2020-12, and of it only keywords that draft 7 has in the same meaning: AsyncAPI 3 takes
those, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def text(description: str, *, is_nullable: bool = False, **keywords: Any) -> Schema:
    return _of("string", description, is_nullable, keywords)


def whole(description: str, *, is_nullable: bool = False, **keywords: Any) -> Schema:
    """Return the schema of a whole number."""
    return _of("integer", description, is_nullable, keywords)


def number(description: str, *, is_nullable: bool = False, **keywords: Any) -> Schema:
    return _of("number", description, is_nullable, keywords)


def flag(description: str) -> Schema:
    return _of("boolean", description, False, {})


def array(items: Schema, description: str, **keywords: Any) -> Schema:
    return _of("array", description, False, {"items": items} | keywords)


def record(
    description: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **keywords: Any
) -> Schema:
    """Return the schema of an object; it may have other members, as later versions and engines add some."""
    members = {"properties": {**required, **(optional or {})}}
    return _of("object", description, False, members | ({"required": list(required)} if required else {}) | keywords)


def either(*schemas: Schema, description: str = "") -> Schema:
    """Return the schema of a value that has one of several forms, or more than one."""
    return ({"description": description} if description else {}) | {"anyOf": list(schemas)}


def nothing(description: str) -> Schema:
    """Return the schema of null."""
    return _of("null", description, False, {})


def _of(kind: str, description: str, is_nullable: bool, keywords: Mapping[str, Any]) -> Schema:
    return {"description": description, "type": [kind, "null"] if is_nullable else kind, **keywords}
