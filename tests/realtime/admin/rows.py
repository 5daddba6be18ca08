"""Rows and requests of the tests of the admin."""

from __future__ import annotations

import re

from django.utils import timezone

from instances.models import Subscription
from realtime.delivery.models import Attempt, Delivery, State
from tests.instances.admin.pages import at

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{44}")
URL = "https://hook.example.com/in"
SCRIPT = "<script>alert(1)</script>"


def create_endpoint(instance, url=URL, **fields):
    known = {"events": ["CALL"], "options": {"url": url, "byEvents": False, "base64": False, "ordered": False}}
    subscription = Subscription(instance=instance, transport="webhook", **known | fields)
    subscription.keep_secrets(headers={"X-Key": "value-of-a-header"}, signing=["whsec_" + "A" * 43 + "="])
    subscription.save()
    return subscription


def create_delivery(subscription, seq=1, state=State.DEAD, **fields):
    instance = subscription.instance
    known = {"instance_id": instance.pk, "name": instance.name, "seq": seq, "event_id": f"{'e' * 16}.{seq}"}
    known |= {"endpoint_id": subscription.pk, "transport": "webhook", "destination": subscription.options["url"]}
    known |= {"finished_at": None if state == State.PENDING else timezone.now()}
    known |= {"type": "call", "body": b'{"event":"call"}'}
    return Delivery.objects.create(state=state, **known | fields)


def create_attempt(delivery, number=1, **fields):
    known = {"at": timezone.now(), "duration_ms": 12, "status": 500, "excerpt": "sorry", "error": ""}
    return Attempt.objects.create(delivery=delivery, number=number, **known | fields)


def act(client, model, action, *rows):
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(at("changelist", model), form, follow=True).content.decode()
