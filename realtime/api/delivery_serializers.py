"""What the routes of deliveries take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from instances.api.fields import Array, Text
from instances.api.serializers import Body
from instances.api.webhook import Url
from instances.events import EventType
from realtime.api.endpoints import SigningSecret, is_id
from realtime.api.event_serializers import Count, EventTypes, spellings
from realtime.delivery.models import State

#: Rows in one page.
MAX_PAGE = 1000
#: Deliveries that can be named in one call.
MAX_IDS = 1000


class Timestamp(serializers.Field):
    """A time in ISO 8601; UTC where it does not say."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not a time such as 2026-01-31T12:00:00Z")

    def to_internal_value(self, data: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(data)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.fail("type")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class RowId(serializers.Field):
    """A row's primary key, as the routes answer it or as a number."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not an id")

    def to_internal_value(self, data: Any) -> int:
        text = str(data) if isinstance(data, int) and not isinstance(data, bool) else data
        if not isinstance(text, str) or not is_id(text):
            self.fail("type")
        return int(text)

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 1 - 10**18, "maximum": 10**18 - 1}
        return {"oneOf": [{"type": "string", "pattern": "^-?[0-9]{1,18}$"}, number]}


class States(serializers.Field):
    """Some of them, as a list or with commas between."""

    default_error_messages = dict.fromkeys(("enum", "null"), "is not one of enum values: " + ",".join(State.values))

    def to_internal_value(self, data: Any) -> list[str]:
        told = data.split(",") if isinstance(data, str) else data
        if not isinstance(told, list) or not all(isinstance(one, str) and one in State.values for one in told):
            self.fail("enum")
        return told

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "enum": State.values}}


class SubscribableType(serializers.Field):
    """In either spelling."""

    default_error_messages = dict.fromkeys(
        ("enum", "null"), "is not one of enum values: " + ",".join(t.value for t in EventType if t.is_subscribable)
    )

    def to_internal_value(self, data: Any) -> EventType:
        event_type = EventType.named(data)
        if event_type is None or not event_type.is_subscribable:
            self.fail("enum")
        return event_type

    def schema(self) -> dict[str, Any]:
        return spellings([event_type for event_type in EventType if event_type.is_subscribable])


class DeliveriesQuery(Body):
    state = States(required=False, source="state__in")
    endpoint = RowId(required=False, source="endpoint_id")
    type = EventTypes(required=False, source="type__in")
    event = Text(required=False, max_length=64, source="event_id")
    since = Timestamp(required=False, source="created_at__gte")
    until = Timestamp(required=False, source="created_at__lt")
    before = Count(required=False, max_value=2**63 - 1, source="pk__lt")
    limit = Count(default=100, min_value=1, max_value=MAX_PAGE)

    @classmethod
    def of(cls, query: Any) -> DeliveriesQuery:
        """From a request's query; what nobody asked for is ignored."""
        return cls(data={name: query.getlist(name) if name == "type" else query[name] for name in query})

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "type__in" in asked:
            asked["type__in"] = [event_type.value for event_type in asked["type__in"]]
        kind, _, number = asked.get("event_id", "").rpartition(".")
        if kind not in ("", "test") and is_id(number):
            asked["seq"] = int(number)  # by which there is an index
        return asked


class ResendOneBody(Body):
    url = Url(required=False)
    secret = SigningSecret(required=False)


class ResendBody(ResendOneBody):
    since = Timestamp(required=False)
    until = Timestamp(required=False)
    state = States(required=False)
    endpoint = RowId(required=False)
    ids = Array(
        child=RowId(),
        required=False,
        max_length=MAX_IDS,
        error_messages={"max_length": f"does not meet maximum length of {MAX_IDS}"},
    )


class TestBody(Body):
    event = SubscribableType()
    endpoint = RowId(required=False)
