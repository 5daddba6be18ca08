"""What the routes of the log take, checked as strictly as the other routes' bodies."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers

from instances.api.fields import Text
from instances.api.serializers import Body
from instances.events import EventType
from realtime.log.history import MAX_EVENTS

#: Events in one request, all or none.
MAX_PUBLISHED = 500
MAX_KEY_LENGTH = 255


def _enum_message(event_types: list[EventType]) -> str:
    return "is not one of enum values: " + ",".join(event_type.value for event_type in event_types)


def spellings(event_types: list[EventType]) -> dict[str, Any]:
    """The schema of a member that names one of them, as clients hear it or as they subscribe to it."""
    return {"type": "string", "enum": [name for one in event_types for name in (one.value, one.name)]}


class PublishedType(serializers.Field):
    """An event's type as clients hear it (`messages.upsert`) or as they subscribe to it (`MESSAGES_UPSERT`)."""

    default_error_messages = dict.fromkeys(
        ("enum", "null"), _enum_message([event_type for event_type in EventType if event_type.is_publishable])
    )

    def to_internal_value(self, data: Any) -> EventType:
        event_type = EventType.named(data)
        if event_type is None or not event_type.is_publishable:
            self.fail("enum")
        return event_type

    def schema(self) -> dict[str, Any]:
        return spellings([event_type for event_type in EventType if event_type.is_publishable])


class AnyJson(serializers.Field):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return data

    def schema(self) -> dict[str, Any]:
        return {"description": "Any JSON."}


class PublishBody(Body):
    event = PublishedType()
    data = AnyJson()  # type: ignore[assignment]
    dedupeKey = Text(required=False, allow_null=True, max_length=MAX_KEY_LENGTH)


class PublishBodies(serializers.ListField):
    child = PublishBody()
    default_error_messages = {
        "min_items": "does not meet minimum length of 1",
        "max_items": f"does not meet maximum length of {MAX_PUBLISHED}",
    }

    def to_internal_value(self, data: list[Any]) -> list[Any]:
        # first of all: a body may hold millions of them
        if not data:
            self.fail("min_items")
        if len(data) > MAX_PUBLISHED:
            self.fail("max_items")
        return super().to_internal_value(data)


class PublishBatch(Body):
    events = PublishBodies()


class Count(serializers.Field):
    """A number in a query: digits, and nothing else that could be read as one."""

    default_error_messages = {
        "type": "is not of a type(s) integer",
        "min_value": "must be greater than or equal to {limit}",
        "max_value": "must be less than or equal to {limit}",
    }

    def __init__(self, max_value: int, min_value: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_value, self.max_value = min_value, max_value

    def to_internal_value(self, data: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", data):
            self.fail("type")
        if int(data) < self.min_value:
            self.fail("min_value", limit=self.min_value)
        if int(data) > self.max_value:
            self.fail("max_value", limit=self.max_value)
        return int(data)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.min_value, "maximum": self.max_value}


class EventTypes(serializers.Field):
    """Repeated or in a comma list, in either spelling."""

    default_error_messages = {"enum": _enum_message(list(EventType))}

    def to_internal_value(self, data: list[str]) -> list[EventType]:
        event_types = [EventType.named(name) for value in data for name in value.split(",")]
        if None in event_types:
            self.fail("enum")
        return [event_type for event_type in event_types if event_type]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": spellings(list(EventType))}


class FindQuery(Body):
    after = Count(required=False, max_value=2**63 - 1)
    before = Count(required=False, max_value=2**63 - 1)
    limit = Count(default=100, min_value=1, max_value=MAX_EVENTS)
    type = EventTypes(required=False)

    @classmethod
    def of(cls, query: Any) -> FindQuery:
        """From a request's query; what nobody asked for is ignored."""
        data = {name: query.getlist(name) if name == "type" else query[name] for name in query}
        return cls(data=data)
