"""The health of endpoints: records consecutive failures, and disables an endpoint that is gone or fails for days."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from instances.events import EventType, announce
from instances.models import Instance, Subscription
from instances.sql import set_lock_timeout
from realtime.delivery.models import Attempt, Delivery, State
from realtime.delivery.transports.base import Result

logger = logging.getLogger(__name__)

#: The length of a failure after which a success makes deliveries that wait for their next attempt due at once.
OUTAGE = timedelta(minutes=1)
#: The length of a failure after which an endpoint is disabled, if there were several failures in that time.
PATIENCE = timedelta(days=5)
#: The failures that are several. Those of the beginning do not count: many at once say no more than one.
SEVERAL, BEGINNING = 5, timedelta(hours=1)
#: Milliseconds that disabling waits for an instance's lock.
LOCK_TIMEOUT = 1000


def failing_endpoints() -> list[int]:
    """Return the ids of enabled endpoints whose last attempt failed."""
    rows = Subscription.objects.endpoints().filter(is_enabled=True).exclude(failing_since=None)
    return list(rows.values_list("pk", flat=True))


def changing(succeeded: Collection[int], failed: Collection[int]) -> list[int]:
    """Return the endpoints whose rows change when these have succeeded and those have failed."""
    rows = Subscription.objects.filter(pk__in=[*succeeded, *failed]).values_list("pk", "failing_since")
    return [pk for pk, since in rows if (since is None) == (pk in failed)]


def record_success(endpoint_ids: list[int]) -> None:
    """Mark endpoints as healthy; after an outage, their waiting deliveries are retried now."""
    now = timezone.now()
    failing = Subscription.objects.filter(pk__in=endpoint_ids).exclude(failing_since=None).order_by("pk")
    for endpoint_id, since in failing.values_list("pk", "failing_since"):
        Subscription.objects.filter(pk=endpoint_id).update(failing_since=None)
        if since and since < now - OUTAGE:
            Delivery.objects.retry_now(endpoint_id)


def record_failure(endpoint_id: int, results: list[Result]) -> str:
    """Mark an endpoint as failing; returns the reason to disable it, or an empty string."""
    now = timezone.now()
    Subscription.objects.filter(pk=endpoint_id, failing_since=None).update(failing_since=now)
    if Result.GONE in results:
        return "It answered 410 Gone"
    failing = Subscription.objects.filter(pk=endpoint_id, failing_since__lt=now - PATIENCE, is_enabled=True)
    since = failing.values_list("failing_since", flat=True).first()
    if since and _has_failed_since(endpoint_id, since + BEGINNING):
        return f"Nothing could be delivered for {PATIENCE.days} days"
    return ""


def _has_failed_since(endpoint_id: int, since: datetime) -> bool:
    """Return whether SEVERAL attempts have failed since then; there was no success."""
    attempts = Attempt.objects.filter(delivery__endpoint_id=endpoint_id, at__gte=since).order_by("-delivery_id", "-pk")
    return len(attempts.values_list("pk")[:SEVERAL]) == SEVERAL


@transaction.atomic
def disable(endpoint_id: int, reason: str) -> None:
    """Disable an endpoint, end its pending deliveries and announce `endpoint.disabled`.

    Raises OperationalError if its instance stays locked for LOCK_TIMEOUT.
    """
    set_lock_timeout(LOCK_TIMEOUT)
    instance = Instance.objects.locked().filter(subscriptions=endpoint_id).first()
    endpoint = Subscription.objects.filter(pk=endpoint_id, is_enabled=True).first()
    if endpoint is None:
        return
    endpoint.is_enabled, endpoint.disabled_reason = False, reason
    endpoint.save(update_fields=["is_enabled", "disabled_reason", "updated_at"])
    Delivery.objects.give_up([endpoint_id], State.DEAD, f"Its endpoint was switched off: {reason}")
    logger.warning("The %s endpoint %s was switched off: %s", endpoint.transport, endpoint_id, reason)
    if instance:
        data = {"endpoint": endpoint_id, "transport": endpoint.transport, "reason": reason}
        announce(EventType.ENDPOINT_DISABLED, instance, data)
