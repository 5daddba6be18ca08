"""Deliveries that somebody asks for: what was sent before, sent again, and test events."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.core.exceptions import EmptyResultSet
from django.db import connection, models, transaction
from django.db.models import CharField, DateTimeField, F, Value
from django.utils import timezone

from instances.crypto import Secret
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery import wakeup
from realtime.delivery.enqueue import delivery
from realtime.delivery.models import Delivery, FormerEndpoint, State
from realtime.delivery.samples import sample
from realtime.delivery.transports.base import Endpoint, transports

#: Deliveries that one call sends again.
MAX_RESENT = 10_000

#: The ids of endpoints that were named for one resending begin here, where no row's will ever be.
ONE_OFF = 2**62


@dataclass(frozen=True)
class TargetOverride:
    """Where deliveries go that are not to go where they went."""

    url: str
    #: What they are signed with there.
    secret: str
    #: Whether it is the operator who wants it so; then the URL is shown to nobody else.
    is_operators: bool


def resend(
    deliveries: models.QuerySet[Delivery], limit: int, asked_by: str, override: TargetOverride | None = None
) -> int:
    """Owe up to `limit` of these once more, the oldest first, under the same ids and with the same bytes.

    Returns how many they are. One statement copies them: no body comes here. `asked_by`: for the record.
    """
    new = _fresh(asked_by) | (_to(override) if override else {})
    aliases = {f"new_{name}": value for name, value in new.items()}
    copied = [field.attname for field in Delivery._meta.concrete_fields if not field.primary_key]
    kept = [name for name in copied if name not in new]
    rows = deliveries.order_by("pk").annotate(**aliases).values_list(*kept, *aliases)[:limit]
    try:
        statement, values = rows.query.sql_with_params()
    except EmptyResultSet:  # Django sees that there can be none
        return 0
    columns = ", ".join(f'"{name}"' for name in [*kept, *new])
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {Delivery._meta.db_table} ({columns}) {statement}", values)
        count = cursor.rowcount
    transaction.on_commit(wakeup.wake, robust=True)
    return count


def _fresh(asked_by: str) -> dict[str, Any]:
    now = Value(timezone.now(), DateTimeField())
    return {
        "state": Value(State.PENDING.value),
        "attempts": Value(0),
        "due_at": now,
        "lease": Value(None, CharField()),
        "created_at": now,
        "finished_at": Value(None, DateTimeField()),
        "reason": Value(""),
        "resent_from": F("pk"),
        "asked_by": Value(asked_by),
    }


def _to(override: TargetOverride) -> dict[str, Any]:
    """Without the headers of any endpoint."""
    endpoint = FormerEndpoint.objects.create(
        pk=ONE_OFF + secrets.randbits(61),
        transport=Subscription.WEBHOOK,
        options={"url": override.url, "byEvents": False, "base64": False, "ordered": False},
        secrets=Secret(orjson.dumps({"signing": [override.secret]}).decode()),
    )
    return {
        "endpoint_id": Value(endpoint.pk),
        "transport": Value(endpoint.transport),
        "destination": Value(override.url),
        "is_ordered": Value(False),
        "is_operators": Value(override.is_operators),
    }


def requeue_dead(endpoint_id: int) -> int:
    """Make what died at this endpoint due now, with all its attempts before it; returns how many they are.

    Bytes and ids stay, and what was tried before stays on record. What somebody has had repeated is left out.
    """
    repeats = Delivery.objects.filter(endpoint_id=endpoint_id, resent_from__isnull=False)
    dead = Delivery.objects.filter(state=State.DEAD, endpoint_id=endpoint_id)
    count = dead.exclude(pk__in=repeats.values("resent_from")).update(
        state=State.PENDING, due_at=timezone.now(), attempts=0, lease=None, finished_at=None, reason=""
    )
    transaction.on_commit(wakeup.wake, robust=True)
    return count


def in_range(
    deliveries: models.QuerySet[Delivery],
    instance_id: Any,
    since: datetime | None = None,
    until: datetime | None = None,
    state: Collection[str] = (State.DEAD.value,),
    endpoint: int | None = None,
) -> models.QuerySet[Delivery]:
    """Those of an instance from `since` until before `until`, by when they were made, that nobody has sent again.

    What was sent again and died again is a delivery of its own, and is among them.
    """
    asked = {"created_at__gte": since, "created_at__lt": until, "endpoint_id": endpoint}
    repeats = Delivery.objects.filter(instance_id=instance_id, resent_from__isnull=False)
    found = deliveries.filter(instance_id=instance_id, state__in=state)
    found = found.filter(**{name: value for name, value in asked.items() if value is not None})
    return found.exclude(pk__in=repeats.values("resent_from"))


def live_endpoints(instance: Instance, with_global: bool) -> Collection[int]:
    """The ids of endpoints that are on: the instance's and, if asked for, those of all instances."""
    rows = Subscription.objects.endpoints().filter(is_enabled=True)
    found = list(rows.filter(instance=instance).values_list("pk", flat=True))
    if with_global:
        found += rows.filter(instance=None).values_list("pk", flat=True)
        found += [one.id for transport in transports().values() for one in transport.global_endpoints()]
    return found


def send_test(
    instance: Instance, event_type: EventType, endpoints: Sequence[Subscription], asked_by: str
) -> list[Delivery]:
    """Owe these a sample of an event, which no socket hears and no log keeps."""
    envelope = sample(instance, event_type)
    deliveries = [delivery(instance, 0, envelope, event_type, Endpoint.of(one)) for one in endpoints]
    for one in deliveries:
        one.is_ordered, one.asked_by = False, asked_by  # it must not hold up what is told in order
    transaction.on_commit(wakeup.wake, robust=True)
    return Delivery.objects.bulk_create(deliveries)
