"""The REST reference: the operations of the OpenAPI document, a page for each group of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from django.http import Http404
from django.urls import reverse

from instances.api.openapi import document
from realtime.pages.documents.navigation import DocumentPage, Heading, Section
from realtime.pages.documents.prose import inline, plain, prose
from realtime.pages.documents.schema_table import limits_of, table, type_of

JSON = "application/json"


@dataclass(frozen=True)
class Group:
    """The operations whose paths begin with some words, which have a page together."""

    name: str
    title: str
    summary: str
    #: The first parts of the paths.
    parts: frozenset[str]


def _group(name: str, title: str, summary: str, *parts: str) -> Group:
    return Group(name, title, summary, frozenset(parts or (name,)))


#: Routes whose first part is not here have a page of that part's name.
GROUPS = (
    _group("instance", "Instances", "Create, connect, log out and delete instances, and rotate their tokens."),
    _group("message", "Messages", "Send texts, files, places, contacts, polls, lists and buttons."),
    _group("chat", "Chats and contacts", "Find stored messages, chats and contacts; mark, archive, block."),
    _group("event", "Events", "Find, stream and publish events, and mint tokens for sockets.", "event", "websocket"),
    _group("webhook", "Webhooks", "Endpoints, deliveries and what became of them; what providers post."),
    _group("group", "Groups", "Groups of WhatsApp and their members."),
    _group("template", "Templates", "Templates of the Cloud API."),
    _group(
        "settings", "Settings and labels", "Settings of an instance, its proxy, labels and calls.",
        *("settings", "proxy", "label", "call"),
    ),
    _group("business", "Catalogues", "Catalogues of a business."),
    _group("brokers", "Brokers", "RabbitMQ, and those that are off.", "rabbitmq", "sqs", "nats", "kafka", "pusher"),
    _group(
        "chatbots", "Chatbots", "Integrations of Evolution API that are empty here.",
        *("typebot", "openai", "dify", "n8n", "evoai", "evolutionBot", "flowise", "chatwoot"),
    ),
    _group("media", "Stored media", "Media in an object store.", "s3"),
    _group("baileys", "Baileys", "Calls of the library Baileys."),
    _group("server", "Server", "Version, licence and metrics.", "", "license", "metrics", "verify-creds"),
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """An operation as the OpenAPI document has it."""

    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The id, which is the anchor in the page as well."""
        identifier: str = self.described["operationId"]
        return identifier

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


@cache
def _openapi() -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(document())
    return loaded


@cache
def grouped() -> dict[Group, list[Operation]]:
    """Return the operations by group, in the order of GROUPS; groups without any are left out."""
    by_part = {part: group for group in GROUPS for part in group.parts}
    found: dict[Group, list[Operation]] = {group: [] for group in GROUPS}
    for path, operations in _openapi()["paths"].items():
        part = path.split("/")[1]
        group = by_part.get(part) or _group(part, part.capitalize(), f"Routes under /{part}.")
        found.setdefault(group, []).extend(
            Operation(method.upper(), path, described) for method, described in operations.items()
        )
    return {group: operations for group, operations in found.items() if operations}


@cache
def _paths() -> dict[str, str]:
    """Return the place in the documents of each operation, by its title."""
    return {
        operation.title: f"{reverse('documents:rest_group', args=[group.name])}#{operation.id}"
        for group, operations in grouped().items()
        for operation in operations
    }


def operation_path(title: str) -> str:
    """Return the place of an operation in the documents: "POST /event/publish/{name}"."""
    return _paths()[title]


@cache
def _pages() -> list[DocumentPage]:
    index = DocumentPage("About REST", reverse("documents:rest"), "Keys, errors and all routes in one list.")
    pages = [
        DocumentPage(
            group.title,
            reverse("documents:rest_group", args=[group.name]),
            group.summary,
            [Heading(operation.title, operation.id) for operation in operations],
        )
        for group, operations in grouped().items()
    ]
    return [index, *pages]


SECTION = Section("REST", "All routes with their parameters, bodies, answers and examples.", _pages)


def index() -> dict[str, Any]:
    """Return what the page of all routes shows."""
    groups = [
        {
            "group": group,
            "path": reverse("documents:rest_group", args=[group.name]),
            "operations": [
                {"operation": each, "summary": plain(each.described.get("description", ""))} for each in operations
            ],
        }
        for group, operations in grouped().items()
    ]
    error = _openapi()["components"]["schemas"]["Error"]
    return {"title": "REST", "groups": groups, "error": table(error, _components())}


def group(name: str) -> dict[str, Any]:
    """Return what the page of a group shows. Raises Http404 for a name that none has."""
    for found, operations in grouped().items():
        if found.name == name:
            return {"title": found.title, "group": found, "operations": list(map(_shown, operations))}
    raise Http404("No group of routes has this name")


def _components() -> Mapping[str, Any]:
    components: Mapping[str, Any] = _openapi()["components"]["schemas"]
    return components


def _shown(operation: Operation) -> dict[str, Any]:
    described = operation.described
    responses = described["responses"].items()
    return {
        "operation": operation,
        "description": prose(described.get("description", "")),
        "needs_key": bool(described.get("security")),
        "parameters": [_parameter(each) for each in described.get("parameters", ())],
        "bodies": list(_contents(described.get("requestBody", {}))),
        "curl": _curl(operation),
        "answers": [_answer(status, each) for status, each in responses if status < "400"],
        "errors": [(status, inline(each.get("description", ""))) for status, each in responses if status >= "400"],
    }


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = parameter.get("schema", {})
    return {
        "name": parameter["name"],
        "place": parameter["in"],
        "type": type_of(schema, _components()),
        "is_required": parameter.get("required", False),
        "description": inline(parameter.get("description", "") or _USUAL.get(parameter["name"], "")),
        "limits": limits_of(schema),
    }


#: Descriptions of parameters that have the same meaning everywhere.
_USUAL = {"name": "The name of the instance.", "id": "The id, as the list shows it."}


def _answer(status: str, response: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": status,
        "description": inline(response.get("description", "")),
        "contents": list(_contents(response)),
    }


def _contents(holder: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the forms of a body: each content type with its schema and examples."""
    for content_type, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        yield {
            "content_type": content_type,
            "type": type_of(schema, _components()),
            "members": table(schema, _components()),
            "examples": [(name, _text(value)) for name, value in _examples(content)],
        }


def _examples(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    named = [(name, example["value"]) for name, example in content.get("examples", {}).items() if "value" in example]
    return named or ([("Example", content["example"])] if "example" in content else [])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


# A request for a shell


#: Values for the parameters of paths.
_VALUES = {"name": "demo", "instanceName": "demo"}


def _curl(operation: Operation) -> str:
    """Return a command that sends the request, with the server and the key in variables of the shell."""
    path = operation.path
    for parameter in operation.described.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", _VALUES.get(parameter["name"], "1"))
    method = "" if operation.method == "GET" else f"-X {operation.method} "
    lines = [f'curl {method}"$EVOAPI_URL{path}{_query(operation)}"']
    if operation.described.get("security"):
        lines.append('-H "apikey: $EVOAPI_KEY"')
    contents = operation.described.get("requestBody", {}).get("content", {})
    if JSON in contents:
        lines.append(f"-H 'content-type: {JSON}'")
        examples = _examples(contents[JSON])
        if examples and not isinstance(examples[0][1], str):
            lines.append(f"-d {shlex.quote(orjson.dumps(examples[0][1]).decode())}")
    return " \\\n  ".join(lines)


def _query(operation: Operation) -> str:
    """Return the query with the parameters that are required, or an empty text."""
    required = [
        f"{parameter['name']}={_VALUES.get(parameter['name'], '…')}"
        for parameter in operation.described.get("parameters", ())
        if parameter["in"] == "query" and parameter.get("required")
    ]
    return "?" + "&".join(required) if required else ""
