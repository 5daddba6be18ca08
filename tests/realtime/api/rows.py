"""Rows and shortcuts for the tests of deliveries over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from instances.events import EventType
from instances.models import ApiKey, Instance, Subscription
from realtime.delivery.models import Attempt, Delivery
from realtime.log.models import Event

URL = "https://hook.example.com/in"
OTHER = "https://other.example.com/in"
SECRET = "whsec_" + "A" * 32
#: A digit for `str.isdigit()` and `int()`, but not in an id.
ARABIC_ONE = "\u0661"
#: Members of a delivery in responses, in order.
ROW = [
    *("id", "eventId", "seq", "event", "endpoint", "transport", "destination", "state", "attempts"),
    *("lastAttempt", "dueAt", "createdAt", "finishedAt", "reason", "resentFrom", "askedBy"),
]


def an_endpoint(instance: Instance | None, **fields: Any) -> Subscription:
    defaults = {"transport": "webhook", "options": {"url": URL}, "events": ["CALL"]}
    subscription = Subscription(instance=instance, **defaults | fields)
    subscription.keep_secrets(headers={"authorization": "Bearer abc", "jwt_key": "s3cret"}, signing=[SECRET])
    subscription.save()
    return subscription


def a_delivery(endpoint: Subscription, created: datetime | None = None, **fields: Any) -> Delivery:
    instance = fields.pop("instance", endpoint.instance)
    defaults = {"event_id": f"{uuid4().hex[:16]}.7", "name": instance.name, "seq": 7, "type": "call"}
    defaults |= {"endpoint_id": endpoint.pk, "transport": "webhook", "destination": URL, "body": b'{"event": "call"}'}
    defaults |= {"is_operators": endpoint.instance is None}
    delivery = Delivery.objects.create(instance_id=instance.pk, **defaults | fields)
    if created:
        Delivery.objects.filter(pk=delivery.pk).update(created_at=created)
    return delivery


def an_attempt(delivery: Delivery, number: int = 1, **fields: Any) -> Attempt:
    defaults = {"at": timezone.now(), "duration_ms": 12, "status": 500, "excerpt": "oops", "error": "HTTP 500"}
    return Attempt.objects.create(delivery=delivery, number=number, **defaults | fields)


def key_with(*scopes: str, **fields: Any) -> str:
    """Issue an API key for the instance "loja" and return its secret."""
    key, secret = ApiKey.objects.issue("a key", list(scopes), **fields)
    key.instances.set(Instance.objects.filter(name="loja"))
    return secret


def message(content: Any) -> Any:
    """Return the texts of an error in Evolution's shape."""
    return content["response"]["message"]


def ids(content: Any) -> list[int]:
    return [int(row["id"]) for row in content["deliveries"]]


def record(instance: Instance, event_type: EventType = EventType.CALL) -> Event:
    with transaction.atomic():
        event = Event.objects.record(instance, event_type, {"a": 1})
    return Event.objects.get(instance_id=instance.pk, seq=event.seq)


def explanation(call: Any, reference: Any, key: str | None = None) -> Any:
    status, content = call("GET", f"/webhook/why/loja/{reference}", key=key)
    assert status == 200, content
    return content
