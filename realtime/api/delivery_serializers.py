"""Request bodies and queries of the routes of deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from instances.api.fields import Distinct, Text
from instances.api.serializers import RequestBody
from instances.api.webhook import Url
from instances.bounds import DELIVERY_PAGE, LIST_ITEMS
from instances.events import EventType
from realtime.api.endpoints import SigningSecret, is_id
from realtime.api.event_serializers import EventTypeField, EventTypes, Query, QueryInteger, enum_message
from realtime.delivery.models import State

#: Deliveries that one call can name by id.
MAX_IDS = LIST_ITEMS


class Timestamp(serializers.Field):
    """A time in ISO 8601; UTC if it has no offset."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not a time such as 2026-01-31T12:00:00Z")

    def to_internal_value(self, data: Any) -> datetime:
        try:
            time = datetime.fromisoformat(data)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.fail("type")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class RowId(serializers.Field):
    """A primary key: a string, as in responses, or a number."""

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
    """States of deliveries, as a list or separated by commas; repeats count once."""

    default_error_messages = {
        **dict.fromkeys(("enum", "null"), "is not one of enum values: " + ",".join(State.values)),
        "max_length": f"does not meet maximum length of {LIST_ITEMS}",
    }

    def to_internal_value(self, data: Any) -> list[str]:
        states = data.split(",", LIST_ITEMS) if isinstance(data, str) else data
        if isinstance(states, list) and len(states) > LIST_ITEMS:
            raise serializers.ValidationError(self.error_messages["max_length"], code="type")
        if not isinstance(states, list) or not all(state in State.values for state in states):
            self.fail("enum")
        return list(dict.fromkeys(states))

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "enum": State.values}}


class SubscribableType(EventTypeField):
    allowed = [event_type for event_type in EventType if event_type.is_subscribable]
    default_error_messages = dict.fromkeys(("enum", "null"), enum_message(allowed))


class DeliveriesQuery(Query):
    """Filters of a list of deliveries, named by the fields of the model that they look up."""

    state = States(required=False, source="state__in")
    endpoint = RowId(required=False, source="endpoint_id")
    type = EventTypes(required=False, source="type__in")
    event = Text(required=False, max_length=64, source="event_id")
    since = Timestamp(required=False, source="created_at__gte")
    until = Timestamp(required=False, source="created_at__lt")
    before = QueryInteger(required=False, max_value=2**63 - 1, source="pk__lt")
    limit = QueryInteger(default=100, min_value=1, max_value=DELIVERY_PAGE)

    def validate(self, filters: dict[str, Any]) -> dict[str, Any]:
        if "type__in" in filters and filters["type__in"] is None:  # none is listed
            del filters["type__in"]
        epoch, _, number = filters.get("event_id", "").rpartition(".")
        if epoch not in ("", "test") and is_id(number):
            filters["seq"] = int(number)  # which has an index, unlike event_id
        return filters


class ResendOneBody(RequestBody):
    is_strict = True

    url = Url(required=False)
    secret = SigningSecret(required=False)


class ResendBody(ResendOneBody):
    since = Timestamp(required=False)
    until = Timestamp(required=False)
    state = States(required=False)
    endpoint = RowId(required=False)
    ids = Distinct(child=RowId(), required=False)


class TestBody(RequestBody):
    is_strict = True

    event = SubscribableType()
    endpoint = RowId(required=False)
