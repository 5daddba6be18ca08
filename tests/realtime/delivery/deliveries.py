"""Endpoints, recorded events and pending deliveries for tests."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from instances.events import EventType
from instances.models import Subscription
from realtime.delivery.models import Delivery, State, load_bodies
from realtime.log.models import Event
from tests.in_process import until


def endpoint(instance, receiver, events=("CALL",), **options):
    subscription = Subscription(
        instance=instance, transport="webhook", events=list(events), options={"url": receiver.url} | options
    )
    subscription.keep_secrets(headers={}, signing=["whsec_" + "A" * 32])
    subscription.save()
    return subscription


def record(instance, *numbers, event_type=EventType.CALL):
    with transaction.atomic():
        return [Event.objects.record(instance, event_type, {"number": number}) for number in numbers]


def finished(count=1):
    return until(lambda: Delivery.objects.exclude(state=State.PENDING).count() >= count, 20)


def payload(delivery):
    """Return the bytes that are sent for a delivery."""
    load_bodies([delivery])
    return bytes(delivery.payload())


def pending(endpoint_id, instance, seq, due_in=0.0, **fields):
    due_at = timezone.now() + timedelta(seconds=due_in)
    values = {"event_id": f"{'e' * 16}.{seq}", "instance_id": instance.pk, "name": instance.name, "type": "call"}
    values |= {"transport": "webhook", "destination": "http://a.example", "body": b"{}", "size": 2}
    return Delivery(endpoint_id=endpoint_id, seq=seq, due_at=due_at, **values | fields)
