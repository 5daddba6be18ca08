"""The events reference: a page for each event type, made of the catalogue."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
from django.http import Http404
from django.urls import reverse

from instances.events import EventType, grouped_types
from realtime.pages.documents import examples, payloads
from realtime.pages.documents.event_schemas import ENVELOPE, envelope_schema, event_schema, schemas
from realtime.pages.documents.navigation import DocumentPage, Heading, Section
from realtime.pages.documents.rest import operation_path
from realtime.pages.documents.schema_table import table, type_of

#: The types by group, in the order of the groups.
GROUPED = grouped_types()
TYPES = [each for types in GROUPED.values() for each in types]


def event_path(event_type: EventType) -> str:
    """Return the path of the page of an event type."""
    return reverse("documents:event", args=[event_type.value])


@cache
def _pages() -> list[DocumentPage]:
    headings = [Heading("The envelope", "envelope"), Heading("What the schemas promise", "promise")]
    index = DocumentPage(
        "All events", reverse("documents:events"), "The envelope, and all types in one table.", headings
    )
    return [index, *(DocumentPage(each.value, event_path(each), str(each.label)) for each in TYPES)]


SECTION = Section(
    "Events", "What sockets, webhooks and brokers receive: when, of whom, with which members, with an example.", _pages
)


def index() -> dict[str, Any]:
    """Return what the page of all events shows."""
    return {
        "title": "Events",
        "groups": [(group, [(each, event_path(each)) for each in types]) for group, types in GROUPED.items() if types],
        "members": table(envelope_schema()),
        "schema_path": reverse("documents:schema", args=[ENVELOPE]),
    }


def event(name: str) -> dict[str, Any]:
    """Return what the page of an event type shows. Raises Http404 for a name that none has."""
    event_type = named(name)
    at = TYPES.index(event_type)
    schema = event_type.schema
    return {
        "title": event_type.value,
        "type": event_type,
        "emitters": [
            {"name": emitter.name, "routes": [(route, operation_path(route)) for route in emitter.routes]}
            for emitter in event_type.emitters
        ],
        "data_type": type_of(schema),
        "data_description": schema.get("description", ""),
        "members": table(schema),
        "schema": _indented(event_schema(event_type)),
        "schema_path": reverse("documents:schema", args=[event_type.value]),
        "example": _indented(examples.envelope(event_type)),
        "payloads": [
            (payload, operation_path(payload.route), _indented(payload.body), _indented(data))
            for payload, data in payloads.examples().get(event_type, ())
        ],
        "webhook": {
            "url": examples.URL,
            "headers": examples.webhook_headers(event_type).items(),
            "body": examples.webhook_body(event_type).decode(),
            "secret": examples.SECRET,
        },
        "stream": examples.stream_lines(event_type),
        "rabbitmq": {
            "binding": examples.rabbitmq_binding(event_type),
            "id": examples.ID,
            "seq": examples.SEQ,
            "body": examples.rabbitmq_body(event_type).decode(),
        },
        "before": TYPES[at - 1] if at else None,
        "after": TYPES[at + 1] if at + 1 < len(TYPES) else None,
    }


def named(name: str) -> EventType:
    """Return the event type of a page, by the value that clients receive. Raises Http404."""
    found = EventType.named(name)
    if found is None or not found.is_subscribable or found.value != name:
        raise Http404("No event has this name")
    return found


def schema(name: str) -> bytes:
    """Return the JSON Schema of an event type, or of the envelope. Raises Http404."""
    found = schemas().get(name)
    if found is None:
        raise Http404("No event has this name")
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


def _indented(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
