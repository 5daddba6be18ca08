"""Resends earlier deliveries, and sends test events, on request."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection, models, transaction
from django.db.models import CharField, DateTimeField, F, Q, Value
from django.utils import timezone

from instances.crypto import Secret
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery import backlog, wakeup
from realtime.delivery.backlog import ONE_OFF
from realtime.delivery.bodies import Body
from realtime.delivery.causes import UNKNOWN, Cause
from realtime.delivery.enqueue import backlog_size, endpoints_of, new_deliveries
from realtime.delivery.inline_bodies import share
from realtime.delivery.models import Delivery, DeliveryQuerySet, FormerEndpoint, State
from realtime.delivery.samples import sample
from realtime.delivery.transports.base import Endpoint, global_endpoints, off_reason, transports


@dataclass(frozen=True)
class TargetOverride:
    """A target for resent deliveries other than their endpoint."""

    url: str
    #: The signing secret of the target.
    secret: str
    #: True if the operator asks for it; the URL is then shown to the operator only.
    is_operators: bool


class ResendResult(NamedTuple):
    """The result of a request to send deliveries again."""

    #: Deliveries that were enqueued again.
    copied: int
    #: Pending deliveries that are due at once, and were not copied: they are sent anyway.
    due: int = 0
    #: Pending deliveries that are being sent at this moment, and were left alone.
    in_flight: int = 0
    #: True if there may be others, because a limit was reached.
    has_more: bool = False

    def __str__(self) -> str:
        """Return the numbers in words: "Sent again: 2, due at once: 1"."""
        due = f", due at once: {self.due}" if self.due else ""
        in_flight = f", being sent at this moment: {self.in_flight}" if self.in_flight else ""
        return f"Sent again: {self.copied}{due}{in_flight}"


def send_again(
    deliveries: DeliveryQuerySet, limit: int, asked_by: str, override: TargetOverride | None = None
) -> ResendResult:
    """Enqueue up to `limit` deliveries again, but make as many pending ones due at once. Needs a transaction.

    With another target the pending ones are enqueued for it too, and stay what they are for their own. Raises ApiError
    (429) if they are too many for a backlog.
    """
    if override is not None:
        copied = resend(deliveries, limit, asked_by, override)
        return ResendResult(copied, has_more=copied == limit)
    pending = deliveries.pending()
    copied = resend(deliveries.exclude(state=State.PENDING), limit, asked_by)
    now = timezone.now()
    due = pending.filter(due_at__lte=now).count()
    hastened = pending.filter(lease=None, due_at__gt=now).order_by("pk").unlocked(limit).update(due_at=now)
    in_flight = pending.filter(due_at__gt=now).exclude(lease=None).count()
    if due + hastened:
        transaction.on_commit(wakeup.wake, robust=True)
    return ResendResult(copied, due + hastened, in_flight, has_more=limit in (copied, hastened))


def sendable(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return those of these deliveries whose endpoints there are, switched on, with a transport that is on."""
    usable = endpoints_of({delivery.endpoint_id for delivery in deliveries})
    usable = {pk: endpoint for pk, endpoint in usable.items() if not off_reason(endpoint.transport)}
    return [delivery for delivery in deliveries if delivery.endpoint_id in usable]


def resend(
    deliveries: models.QuerySet[Delivery], limit: int, asked_by: str, override: TargetOverride | None = None
) -> int:
    """Enqueue up to `limit` deliveries again, the oldest first; returns their number. Needs a transaction.

    Event ids and bytes stay: the new deliveries share the bodies of the old ones. `asked_by` is recorded with each.
    Raises ApiError (429) if they are too many for a backlog.
    """
    # locked, so that they are not pruned meanwhile with the bodies
    found = list(deliveries.order_by("pk").select_for_update().only(*_READ)[:limit])
    if not found:
        return 0
    by_backlog = defaultdict(list)
    for delivery in found:
        is_operators = override.is_operators if override else delivery.is_operators
        by_backlog[delivery.instance_id, is_operators].append(delivery)
    for (instance_id, is_operators), of_backlog in by_backlog.items():
        backlog.require(instance_id, len(of_backlog), backlog_size(of_backlog), is_operators)
    share(found)
    new = _pending_values(asked_by) | (_target_values(override) if override else {})
    aliases = {f"new_{name}": value for name, value in new.items()}
    copied = [field.attname for field in Delivery._meta.concrete_fields if not field.primary_key]
    kept = [name for name in copied if name not in new]
    rows = Delivery.objects.filter(pk__in=[delivery.pk for delivery in found]).order_by("pk")
    statement, values = rows.annotate(**aliases).values_list(*kept, *aliases).query.sql_with_params()
    columns = ", ".join(f'"{name}"' for name in [*kept, *new])
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {Delivery._meta.db_table} ({columns}) {statement}", values)
        count = cursor.rowcount
    if override is None:  # a copy to another target leaves them undelivered at their own
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in found], state=State.DEAD).update(
            cause=Cause.RESENT.code
        )
    transaction.on_commit(wakeup.wake, robust=True)
    return count


#: The fields of a delivery that resending reads.
_READ = ("instance_id", "event_id", "seq", "transport", "shared_size", "size", "is_operators")


def _pending_values(asked_by: str) -> dict[str, Any]:
    now = Value(timezone.now(), DateTimeField())
    return {
        "state": Value(State.PENDING.value),
        "attempts": Value(0),
        "due_at": now,
        "lease": Value(None, CharField()),
        "created_at": now,
        "finished_at": Value(None, DateTimeField()),
        "reason": Value(""),
        "cause": Value(""),
        "resent_from": F("pk"),
        "asked_by": Value(asked_by),
    }


def _target_values(override: TargetOverride) -> dict[str, Any]:
    """Store an endpoint for the target, without stored headers; returns the values of its deliveries."""
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


def requeue_dead(deliveries: DeliveryQuerySet, limit: int) -> int:
    """Make up to `limit` dead ones of these deliveries pending and due, the oldest first, with all attempts again.

    Returns their number. Bytes, ids and the records of earlier attempts stay. Those that were sent again to the same
    endpoint are left out. Needs a transaction. Raises ApiError (429) if they are too many for a backlog.
    """
    # earlier versions did not note which were sent again
    copies = Delivery.objects.filter(endpoint_id__in=deliveries.values("endpoint_id"), resent_from__isnull=False)
    dead = deliveries.filter(~Q(cause=UNKNOWN, pk__in=copies.values("resent_from")), state=State.DEAD)
    dead = dead.exclude(cause=Cause.RESENT.code)
    columns = ("pk", "instance_id", "is_operators", "size")
    found = list(dead.order_by("pk").select_for_update().values_list(*columns)[:limit])
    sizes: dict[tuple[UUID, bool], list[int]] = defaultdict(list)
    for _, instance_id, is_operators, size in found:
        sizes[instance_id, is_operators].append(size)
    for (instance_id, is_operators), each in sizes.items():
        backlog.require(instance_id, len(each), sum(each), is_operators)
    fields = {"attempts": 0, "lease": None, "finished_at": None, "reason": "", "cause": ""}
    rows = Delivery.objects.filter(pk__in=[row[0] for row in found])
    rows.update(state=State.PENDING, due_at=timezone.now(), **fields)
    if found:
        transaction.on_commit(wakeup.wake, robust=True)
    return len(found)


def in_range(
    deliveries: DeliveryQuerySet,
    instance_id: Any,
    since: datetime | None = None,
    until: datetime | None = None,
    state: Collection[str] = (State.DEAD.value,),
    endpoint: int | None = None,
    url: str = "",
) -> DeliveryQuerySet:
    """Return an instance's deliveries that were created from `since` until before `until` and were not resent.

    Those count as resent that were sent again to their own endpoint or, given another `url` to send them to, to that. A
    resent delivery is a delivery of its own: if it ended in one of these states, it is among them. So are pending ones,
    which are not resent, but sent at once.
    """
    optional = {"created_at__gte": since, "created_at__lt": until, "endpoint_id": endpoint}
    found = deliveries.filter(instance_id=instance_id, state__in=state)
    found = found.filter(**{name: value for name, value in optional.items() if value is not None})
    copies = Delivery.objects.filter(instance_id=instance_id, resent_from__isnull=False)
    if url:
        resent = Q(pk__in=copies.filter(endpoint_id__gte=ONE_OFF, destination=url).values("resent_from"))
    else:  # a copy has its endpoint, or one that was made for another URL
        resent = Q(pk__in=copies.filter(endpoint_id__lt=ONE_OFF).values("resent_from"))
        resent |= Q(endpoint_id__gte=ONE_OFF, pk__in=copies.values("resent_from"))
    return found.exclude(~Q(state=State.PENDING) & resent)


def live_endpoints(instance: Instance, with_global: bool) -> Collection[int]:
    """Return the ids of an instance's endpoints that are on and, `with_global`, of those of all instances."""
    on = [transport.name for transport in transports().values() if transport.is_on]
    rows = Subscription.objects.endpoints().filter(is_enabled=True, transport__in=on)
    found = list(rows.filter(instance=instance).values_list("pk", flat=True))
    if with_global:
        found += rows.filter(instance=None).values_list("pk", flat=True)
        found += [endpoint.id for endpoint in global_endpoints()]
    return found


def send_test(
    instance: Instance, event_type: EventType, endpoints: Sequence[Subscription], asked_by: str
) -> list[Delivery]:
    """Enqueue a sample event for endpoints; it is neither logged nor emitted to sockets.

    Raises ApiError (429) if the deliveries are too many for the instance's backlog.
    """
    targets = [Endpoint.of(endpoint, secrets={}) for endpoint in endpoints]
    bodies, deliveries = new_deliveries(instance, 0, sample(instance, event_type), event_type, targets)
    backlog.require(instance.pk, len(deliveries), backlog_size(deliveries), is_operators=False)
    Body.objects.bulk_create(bodies)
    for delivery in deliveries:
        delivery.is_ordered, delivery.asked_by = False, asked_by  # it must not block ordered deliveries
    transaction.on_commit(wakeup.wake, robust=True)
    return Delivery.objects.bulk_create(deliveries)
