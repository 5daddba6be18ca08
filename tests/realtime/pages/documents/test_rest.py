"""The REST reference: each operation of the OpenAPI document has a place in it."""

from __future__ import annotations

import shlex

import orjson
import pytest

from instances.api.openapi import document
from realtime.pages.documents.rest import GROUPS, grouped, operation_path
from realtime.pages.documents.schema_table import table

pytestmark = pytest.mark.any_database


def operations() -> list[tuple[str, str, str]]:
    paths = orjson.loads(document())["paths"].items()
    return [
        (method.upper(), path, each["operationId"]) for path, described in paths for method, each in described.items()
    ]


def test_every_operation_has_an_anchor_with_its_path_and_a_command(client):
    pages = {group.name: client.get(f"/docs/rest/{group.name}").content.decode() for group in grouped()}
    for method, path, id in operations():
        place, _, anchor = operation_path(f"{method} {path}").partition("#")
        page = pages[place.rpartition("/")[2]]
        assert page.count(f'<h2 id="{id}">') == 1
        assert anchor == id
    assert sum(page.count("curl ") for page in pages.values()) >= len(operations())


def test_every_group_has_operations_and_every_operation_a_group():
    assert set(grouped()) == set(GROUPS)
    assert sum(map(len, grouped().values())) == len(operations())


def test_an_unknown_group_has_no_page(client):
    assert client.get("/docs/rest/invented").status_code == 404


def test_a_command_of_a_page_is_what_a_shell_takes(client):
    page = client.get("/docs/rest/message").content.decode()
    start = page.index("curl -X POST &quot;$EVOAPI_URL/message/sendText/demo")
    command = page[start : page.index("</code>", start)].replace("&quot;", '"').replace("&#x27;", "'")
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:4] == ["curl", "-X", "POST", "$EVOAPI_URL/message/sendText/demo"]
    assert orjson.loads(words[words.index("-d") + 1])["text"]


# Tables of schemas


def test_a_table_has_the_members_within_members():
    schema = {
        "type": "object",
        "required": ["key"],
        "properties": {
            "key": {"type": "object", "properties": {"id": {"type": "string", "maxLength": 9}}},
            "tags": {"type": "array", "items": {"$ref": "#/components/schemas/Tag"}, "nullable": True},
        },
    }
    tag = {"type": "object", "properties": {"name": {"type": "string", "enum": ["a", "b"]}}}

    rows = [(row.path, row.type, row.is_required, row.limits) for row in table(schema, {"Tag": tag})]

    assert rows == [
        ("key", "object", True, ""),
        ("key.id", "text", False, "at most 9 characters"),
        ("tags", "list of object or null", False, ""),
        ("tags[].name", "text", False, "one of a, b"),
    ]


def test_a_schema_within_itself_ends_the_table():
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}},
    }
    assert [row.path for row in table(tree, {"T": tree})] == ["children"]


def test_a_table_says_which_forms_a_value_may_have():
    text = {"type": "object", "description": "A text.", "properties": {"text": {"type": "string"}}}
    file = {"type": "object", "description": "A file.", "properties": {"url": {"type": "string"}}}
    rows = table({"anyOf": [text, file, {"type": "array", "items": text}]})
    assert [(row.path, row.is_form, str(row.description)) for row in rows] == [
        ("", True, "A text."),
        ("text", False, ""),
        ("", True, "A file."),
        ("url", False, ""),
    ]


def test_a_description_passes_no_markup(client):
    [row] = table({"type": "object", "properties": {"a": {"description": "<b>`x`</b> <script>"}}})
    assert row.description == "&lt;b&gt;<code>x</code>&lt;/b&gt; &lt;script&gt;"
