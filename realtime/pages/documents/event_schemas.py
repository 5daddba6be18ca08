"""JSON Schemas of whole events: the envelope, and with it the data of each type."""

from __future__ import annotations

from typing import Any

from instances.events import EventType
from instances.events.extra import EXTRA_TYPE, IS_LATEST, MAX_PROGRESS, PROGRESS
from instances.events.json_schema import Schema, flag, nothing, record, text, whole

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE = "envelope"

#: The members that an envelope of `messages.set` may begin with.
EXTRA: dict[str, Schema] = {
    IS_LATEST: flag("True if this part of the history is the last one."),
    PROGRESS: whole("How much of the history has come, in percent.", minimum=0, maximum=MAX_PROGRESS),
}
_REQUIRED: dict[str, Schema] = {
    "event": text("The type of the event.", enum=[each.value for each in EventType if each.is_subscribable]),
    "instance": text("The name of the instance when the event was recorded."),
    "data": {"description": "The data, of which the type of the event says what it is."},
    "date_time": text("The time at which the event was recorded, in ISO 8601.", format="date-time"),
    "apikey": nothing("Always null: no event carries a key. Evolution API has a key here."),
    "id": text("The id of the event, the same over every transport and in every attempt: drop one that was handled."),
    "seq": whole("The number of the event within the instance, from 1; 0 for a test event.", minimum=0),
}
_OPTIONAL: dict[str, Schema] = {
    "prev": whole(
        "The `seq` of the event before it among those that sockets receive: where another one came before it, something"
        " is missing. RabbitMQ's messages have none.",
        minimum=0,
    ),
    "server_url": text("SERVER_URL, where it is set.", format="uri"),
    "sender": text("The instance's own address; instances of WhatsApp Web alone have it."),
    "destination": text("Webhooks alone: the URL of the endpoint.", format="uri"),
    "test": flag("True for a test event, which is not in the log."),
}


def envelope_schema() -> Schema:
    """Return the schema of the envelope of any event."""
    return {
        "$schema": DIALECT,
        "$id": "urn:evoapi:events:envelope",
        "title": "Event",
        **record("An event as every subscriber receives it.", _REQUIRED, _OPTIONAL | EXTRA),
    }


def event_schema(event_type: EventType) -> Schema:
    """Return the schema of the events of a type, whole: it refers to no other document."""
    own = {"event": text("The type of the event.", const=event_type.value), "data": event_type.schema}
    extra = EXTRA if event_type is EXTRA_TYPE else {}
    return {
        "$schema": DIALECT,
        "$id": f"urn:evoapi:events:{event_type.value}",
        "title": event_type.value,
        **record(str(event_type.label), _REQUIRED | own, _OPTIONAL | extra),
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Return all schemas, by the names that their files have: those of the types, and ENVELOPE."""
    types = {each.value: event_schema(each) for each in EventType if each.is_subscribable}
    return {ENVELOPE: envelope_schema()} | types
