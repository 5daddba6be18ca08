"""What the routes of deliveries take and answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from multidict import CIMultiDict
from rest_framework import serializers

from instances.events import EventType
from instances.models import Subscription
from instances.serializers import Body, Several, Text, iso
from instances.webhook_rules import JWT_KEY
from instances.webhook_settings import MASK, MAX_URL_LENGTH
from realtime.deliveries import Attempt, Delivery, State
from realtime.serializers import Count, EventTypes
from realtime.transports.webhook import HEADERS
from realtime.webhook_views import SigningSecret, is_id

#: Rows in one page.
MAX_PAGE = 1000
#: Deliveries that can be named in one call.
MAX_IDS = 1000


class Moment(serializers.Field):
    """A time in ISO 8601; UTC where it does not say."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not a time such as 2026-01-31T12:00:00Z")

    def to_internal_value(self, data: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(data)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.fail("type")


class RowId(serializers.Field):
    """A row's primary key, as the routes answer it or as a number."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not an id")

    def to_internal_value(self, data: Any) -> int:
        text = str(data) if isinstance(data, int) and not isinstance(data, bool) else data
        if not isinstance(text, str) or not is_id(text):
            self.fail("type")
        return int(text)


class States(serializers.Field):
    """Some of them, as a list or with commas between."""

    default_error_messages = dict.fromkeys(("enum", "null"), "is not one of enum values: " + ",".join(State.values))

    def to_internal_value(self, data: Any) -> list[str]:
        told = data.split(",") if isinstance(data, str) else data
        if not isinstance(told, list) or not all(isinstance(one, str) and one in State.values for one in told):
            self.fail("enum")
        return told


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


class DeliveriesQuery(Body):
    state = States(required=False, source="state__in")
    endpoint = RowId(required=False, source="endpoint_id")
    type = EventTypes(required=False, source="type__in")
    event = Text(required=False, max_length=64, source="event_id")
    since = Moment(required=False, source="created_at__gte")
    until = Moment(required=False, source="created_at__lt")
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
    url = Text(required=False, max_length=MAX_URL_LENGTH)
    secret = SigningSecret(required=False)


class ResendBody(ResendOneBody):
    since = Moment(required=False)
    until = Moment(required=False)
    state = States(required=False)
    endpoint = RowId(required=False)
    ids = Several(
        child=RowId(),
        required=False,
        max_length=MAX_IDS,
        error_messages={"max_length": f"does not meet maximum length of {MAX_IDS}"},
    )


class TestBody(Body):
    event = SubscribableType()
    endpoint = RowId(required=False)


class DeliveryRow(serializers.BaseSerializer):
    """Without the body. Needs `last_attempts` in its context, by the deliveries' ids."""

    def to_representation(self, delivery: Delivery) -> dict[str, Any]:
        last = self.context["last_attempts"].get(delivery.pk)
        return {
            "id": str(delivery.pk),
            "eventId": delivery.event_id,
            "seq": delivery.seq,
            "event": delivery.type,
            "endpoint": str(delivery.endpoint_id),
            "transport": delivery.transport,
            "destination": delivery.destination,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "lastAttempt": _attempt(last) if last else None,
            "dueAt": iso(delivery.due_at) if delivery.state == State.PENDING else None,
            "createdAt": iso(delivery.created_at),
            "finishedAt": iso(delivery.finished_at) if delivery.finished_at else None,
            "resentFrom": str(delivery.resent_from) if delivery.resent_from else None,
        }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": iso(attempt.at),
        "durationMs": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error or None,
    }


class WholeDelivery(DeliveryRow):
    """With its request, and its attempts as `tries` and the `endpoint`, if it still is one, in the context."""

    def to_representation(self, delivery: Delivery) -> dict[str, Any]:
        tries = [_attempt(attempt) | {"excerpt": attempt.excerpt} for attempt in self.context["tries"]]
        return super().to_representation(delivery) | {"request": self._request(delivery), "tries": tries}

    def _request(self, delivery: Delivery) -> dict[str, Any]:
        """The bytes as they are stored; the headers as they would be now, without what is secret in them."""
        body = bytes(delivery.body).decode(errors="replace")
        if delivery.transport != Subscription.WEBHOOK:
            return {"destination": delivery.destination, "body": body}
        return {"method": "POST", "url": delivery.destination, "headers": self._headers(delivery), "body": body}

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        endpoint: Subscription | None = self.context["endpoint"]
        stored = endpoint.secret("headers", {}) if endpoint else {}
        headers = CIMultiDict(HEADERS)
        headers.update({"Authorization" if name == JWT_KEY else name: MASK for name in stored})
        # the time and the signature are each attempt's own
        headers.update({"webhook-id": delivery.event_id, "webhook-timestamp": MASK, "webhook-signature": MASK})
        return {str(name): value for name, value in headers.items()}
