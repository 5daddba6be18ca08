"""Deliveries that are pending although their transport is off: they wait for OFF_HOURS, then they are given up."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from instances.bounds import OFF_HOURS
from realtime.delivery.causes import Cause
from realtime.delivery.models import PENDING_ENDPOINTS, Delivery, State
from realtime.delivery.transports.base import off_reason


def waiting_endpoints() -> dict[int, str]:
    """Return the endpoints with pending deliveries that this process does not send, and the reason of each."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE {PENDING_ENDPOINTS}
            SELECT endpoint, (SELECT transport FROM realtime_delivery
                              WHERE state = 'pending' AND endpoint_id = pending_endpoints.endpoint LIMIT 1)
            FROM pending_endpoints WHERE endpoint IS NOT NULL
            """  # noqa: S608 (nothing of it is input)
        )
        reasons = {endpoint: off_reason(transport) for endpoint, transport in cursor.fetchall() if transport}
    return {endpoint: reason for endpoint, reason in reasons.items() if reason}


def give_up_old(endpoint_id: int, reason: str, limit: int) -> int:
    """Give up to `limit` deliveries of an endpoint up that have waited for OFF_HOURS; return their number."""
    now = timezone.now()
    # a lease that has ended was of a process that sent, before the transport was switched off
    waiting = Delivery.objects.pending().filter(Q(lease=None) | Q(due_at__lt=now), endpoint_id=endpoint_id)
    old = waiting.filter(created_at__lt=now - timedelta(hours=OFF_HOURS)).unlocked(limit)
    text = f"It waited for {OFF_HOURS} hours. {reason}"
    cause = Cause.TRANSPORT_OFF.code
    return old.update(state=State.DEAD, finished_at=now, reason=text[:200], cause=cause, lease=None)
