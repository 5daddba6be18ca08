"""Schemas as tables of members: JSON Schemas of events, and those of OpenAPI 3.0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from realtime.pages.documents.prose import inline

Schema = Mapping[str, Any]

#: Levels of members within members that are shown.
MAX_DEPTH = 5
#: Values of an enum that are shown.
MAX_VALUES = 60
#: A number from which on a limit says nothing: what JSON's numbers and columns can hold anyway.
NO_LIMIT = 2**53 - 1
#: Formats that say nothing to who writes JSON.
_NO_FORMATS = {"int32", "int64", "float", "double"}
_COMPONENTS = "#/components/schemas/"


@dataclass(frozen=True)
class MemberRow:
    """A row of a table: a member, or the heading of one of several forms."""

    #: The path of the member from the beginning: `key.id`; `[]` stands for each item of a list.
    path: str
    depth: int
    type: str
    is_required: bool
    description: SafeString
    #: The values and lengths that are allowed, in words.
    limits: str
    is_form: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


def table(schema: Schema, components: Mapping[str, Schema] | None = None) -> list[MemberRow]:
    """Return the members of a schema and of the schemas within it.

    `components`: the schemas that a `$ref` names. A value that is no object and no list of any has no rows.
    """
    return list(_Walk(components or {}).members(schema, "", 1, ()))


def type_of(schema: Schema, components: Mapping[str, Schema] | None = None) -> str:
    """Return the type of a schema in words: "text or null", "list of object"."""
    return _Walk(components or {}).type(schema)


def limits_of(schema: Schema) -> str:
    """Return the values and lengths that a schema allows, in words."""
    parts = []
    if "const" in schema:
        parts.append(_value(schema["const"]))
    if values := [value for value in schema.get("enum", ()) if value is not None]:
        more = ", …" if len(values) > MAX_VALUES else ""
        parts.append("one of " + ", ".join(map(_value, values[:MAX_VALUES])) + more)
    if schema.get("format", "int64") not in _NO_FORMATS:
        parts.append(f"format {schema['format']}")
    for unit, low, high in (
        ("characters", "minLength", "maxLength"),
        ("items", "minItems", "maxItems"),
        ("", "minimum", "maximum"),
    ):
        parts.append(_range(schema.get(low), schema.get(high), unit))
    if schema.get("uniqueItems"):
        parts.append("no item twice")
    if "default" in schema:
        parts.append(f"default {_value(schema['default'])}")
    return "; ".join(filter(None, parts))


def _value(value: Any) -> str:
    """Return a value of JSON as a reader knows it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value) if value != "" else '""'


def _range(low: Any, high: Any, unit: str) -> str:
    words = f" {unit}" if unit else ""
    low = None if low is not None and low <= -NO_LIMIT else low
    high = None if high is not None and high >= NO_LIMIT else high
    if low and high is not None:
        return f"{low}{words}" if low == high else f"{low} to {high}{words}"
    if high is not None:
        return f"at most {high}{words}"
    if low is None or (low == 0 and unit):
        return ""
    return f"at least {low}{words}"


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "array": "list"}


class _Walk:
    """A walk through a schema, in which each component is entered once on the way to a member."""

    def __init__(self, components: Mapping[str, Schema]) -> None:
        self.components = components

    def resolved(self, schema: Schema) -> Schema:
        """Return the schema that a `$ref` names, or the schema itself; `allOf` of one is that one."""
        while True:
            if reference := schema.get("$ref"):
                schema = self.components.get(reference.removeprefix(_COMPONENTS), {})
            elif len(schema.get("allOf", ())) == 1:
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                schema = {**self.resolved(schema["allOf"][0]), **rest}
            else:
                return schema

    def forms(self, schema: Schema) -> list[Schema]:
        """Return the alternatives of a schema, or the schema alone."""
        schema = self.resolved(schema)
        forms = schema.get("anyOf") or schema.get("oneOf") or [schema]
        return [self.resolved(form) for form in forms]

    def type(self, schema: Schema) -> str:
        words: list[str] = []
        for form in self.forms(schema):
            kinds = form.get("type") or ("object" if "properties" in form else None)
            for kind in kinds if isinstance(kinds, list) else [kinds]:
                word = "any" if kind is None else _TYPES.get(kind, kind)
                if kind == "array" and (items := self.type(form.get("items", {}))) != "any":
                    word = f"list of {items}"
                words.append(word)
            if form.get("nullable"):
                words.append("null")
        if self.resolved(schema).get("nullable"):
            words.append("null")
        return " or ".join(dict.fromkeys(words))

    def members(self, schema: Schema, path: str, depth: int, within: tuple[int, ...]) -> Iterator[MemberRow]:
        """Yield the rows of the objects that a value may be, or that are in the lists that it may be."""
        objects = list(self._objects(schema, path, within))
        for found, place in objects:
            if len(objects) > 1 and found.get("description"):
                yield MemberRow(place, depth, self.type(found), False, inline(found["description"]), "", is_form=True)
            yield from self._properties(found, place, depth, (*within, id(found)))

    def _properties(self, schema: Schema, path: str, depth: int, within: tuple[int, ...]) -> Iterator[MemberRow]:
        required = schema.get("required", ())
        properties = schema.get("properties", {})
        for name, value in properties.items():
            yield from self._member(value, f"{path}.{name}" if path else name, depth, name in required, within)
        others = schema.get("additionalProperties")
        if isinstance(others, dict) and others:
            yield from self._member(others, f"{path}.<any>" if path else "<any>", depth, False, within)

    def _member(
        self, schema: Schema, path: str, depth: int, is_required: bool, within: tuple[int, ...]
    ) -> Iterator[MemberRow]:
        value = self.resolved(schema)
        description = inline(schema.get("description") or value.get("description") or "")
        yield MemberRow(path, depth, self.type(schema), is_required, description, limits_of(value))
        if depth < MAX_DEPTH:
            yield from self.members(value, path, depth + 1, within)

    def _objects(self, schema: Schema, path: str, within: tuple[int, ...]) -> Iterator[tuple[Schema, str]]:
        """Yield each object with members that a value may be, with its place; each once, though it stands in a list."""
        seen: list[Schema] = []
        waiting = [(form, path) for form in self.forms(schema)]
        while waiting:
            form, place = waiting.pop(0)
            if form.get("type") == "array" or "items" in form:
                waiting += [(item, f"{place}[]") for item in self.forms(form.get("items", {}))]
            elif _has_members(form) and id(form) not in within and form not in seen:
                seen.append(form)
                yield form, place


def _has_members(schema: Schema) -> bool:
    others = schema.get("additionalProperties")
    return bool(schema.get("properties")) or (isinstance(others, dict) and bool(others))
