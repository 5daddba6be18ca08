"""Request bodies and queries of the routes of events, validated as strictly as the other routes'."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from django.http import QueryDict
from rest_framework import serializers

from instances.api.fields import Array, Flag, Seconds, Text, unknown_event
from instances.api.serializers import RequestBody
from instances.bounds import FIND_EVENTS, PUBLISHED_EVENTS
from instances.events import EventType
from instances.events.extra import EXTRA_TYPE, MAX_PROGRESS, NOT_OF_TYPE
from realtime.fanout.offset import Offset
from realtime.fanout.options import InvalidOption, parse_event_filter, parse_number, parse_since

#: Characters of a dedupe key.
MAX_KEY_LENGTH = 255


def enum_message(event_types: list[EventType]) -> str:
    """Return the error text for a value that is none of these types."""
    return "is not one of enum values: " + ",".join(event_type.value for event_type in event_types)


def _schema(event_types: list[EventType]) -> dict[str, Any]:
    """Return the schema of an event type, without the names: generators of clients make one member of two spellings."""
    values = [event_type.value for event_type in event_types]
    return {"type": "string", "enum": values, "description": "The name, such as MESSAGES_UPSERT, is taken, too."}


class EventTypeField(serializers.Field):
    """One of the event types `allowed`, by its value (`messages.upsert`) or its name (`MESSAGES_UPSERT`)."""

    allowed: ClassVar[list[EventType]]

    def to_internal_value(self, data: Any) -> EventType:
        event_type = EventType.named(data)
        if event_type is None or event_type not in self.allowed:
            names = [allowed.name for allowed in self.allowed]
            raise unknown_event(str(self.error_messages["enum"]), data, names)
        return event_type

    def schema(self) -> dict[str, Any]:
        return _schema(self.allowed)


class PublishedType(EventTypeField):
    allowed = [event_type for event_type in EventType if event_type.is_publishable]
    default_error_messages = dict.fromkeys(("enum", "null"), enum_message(allowed))


class AnyJson(serializers.Field):
    """Any JSON value, including null."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return data

    def schema(self) -> dict[str, Any]:
        return {"description": "Any JSON."}


class Percent(Seconds):
    """A whole number of percent."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_PROGRESS, **kwargs)


class PublishExtra(RequestBody):
    """Members that the envelope of `messages.set` has before `event`."""

    is_strict = True

    isLatest = Flag(required=False, allow_null=True)
    progress = Percent(required=False, allow_null=True)


class PublishBody(RequestBody):
    is_strict = True

    event = PublishedType()
    data = AnyJson()  # type: ignore[assignment]
    dedupeKey = Text(required=False, allow_null=True, max_length=MAX_KEY_LENGTH)
    extra = PublishExtra(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("extra") and attrs["event"] is not EXTRA_TYPE:
            raise serializers.ValidationError(NOT_OF_TYPE)
        return attrs


class PublishBatch(RequestBody):
    """The events of one request, which are stored all or none."""

    events = Array(child=PublishBody(), allow_empty=False, max_length=PUBLISHED_EVENTS)


class QueryInteger(serializers.Field):
    """A whole number in a query, however it is spelled."""

    default_error_messages = {
        "type": "is not of a type(s) integer",
        "min_value": "must be greater than or equal to {limit}",
        "max_value": "must be less than or equal to {limit}",
    }

    def __init__(self, max_value: int, min_value: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_value, self.max_value = min_value, max_value

    def to_internal_value(self, data: str) -> int:
        number = parse_number(data)
        if number is None and (positive := parse_number(data.strip().removeprefix("-"))):
            number = -positive
        if number is None:
            self.fail("type")
        if number < self.min_value:
            self.fail("min_value", limit=self.min_value)
        if number > self.max_value:
            self.fail("max_value", limit=self.max_value)
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.min_value, "maximum": self.max_value}


class Position(serializers.Field):
    """The position after which events are wanted, as sockets and streams take it: a seq or an offset."""

    def to_internal_value(self, data: str) -> int | Offset | None:
        try:
            return parse_since(str(self.field_name), data)
        except InvalidOption as error:
            raise serializers.ValidationError(str(error)) from None

    def schema(self) -> dict[str, Any]:
        return {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}


class EventTypes(serializers.Field):
    """Event types by value or name, in a repeated field or separated by commas; repeats count once, none means all."""

    def to_internal_value(self, data: list[str]) -> list[str] | None:
        try:
            types = parse_event_filter(str(self.field_name), ",".join(filter(None, data)))
        except InvalidOption as error:
            raise serializers.ValidationError(str(error)) from None
        return sorted(types) if types else None

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": _schema(list(EventType))}


#: The fields of queries that may be repeated.
_LISTS = ("type", "events")


class Query(RequestBody):
    """A request's query; unknown fields are refused with the nearest names."""

    is_strict = True
    member_noun = "parameter"
    also_known = ("_",)  # what some libraries add so that no cache answers

    @classmethod
    def of(cls, query: QueryDict) -> Self:
        return cls(data={name: query.getlist(name) if name in _LISTS else query[name] for name in query})


class FindQuery(Query):
    """`since` and `events` mean what they do for sockets and streams; `after` and `type` are their former names."""

    since = Position(required=False)
    after = QueryInteger(required=False, max_value=2**63 - 1)
    before = QueryInteger(required=False, max_value=2**63 - 1)
    limit = QueryInteger(default=100, min_value=1, max_value=FIND_EVENTS)
    events = EventTypes(required=False)
    type = EventTypes(required=False)

    def validate(self, filters: dict[str, Any]) -> dict[str, Any]:
        for name, former in (("since", "after"), ("events", "type")):
            if name in filters and former in filters:
                raise serializers.ValidationError(f"{former} is another name of {name}: send one of them")
        return filters
