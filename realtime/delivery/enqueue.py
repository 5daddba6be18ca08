"""Enqueues an event for the endpoints that want it, in the event's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.utils import timezone

from instances.errors import describe
from instances.events import EventType
from instances.models import Instance, Subscription
from instances.sql import insert
from realtime.delivery import backlog
from realtime.delivery.bodies import Body
from realtime.delivery.models import Delivery, FormerEndpoint, State
from realtime.delivery.transports.base import Endpoint, global_endpoints, read_secrets, transports
from realtime.envelope import members


class Recipients:
    """The endpoints that may want an instance's events."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        """`subscriptions` are the instance's, and those of all instances."""
        registered = transports()
        self.subscriptions = [s for s in subscriptions if s.is_endpoint and s.is_enabled and s.transport in registered]
        # without secrets: stored bytes need none, and decrypting them would take time inside the event's transaction
        self._endpoints = [Endpoint.of(subscription, secrets={}) for subscription in self.subscriptions]
        self._trusted = global_endpoints()

    def __bool__(self) -> bool:
        return bool(self._endpoints or self._trusted)

    def of(self, event_type: EventType) -> list[Endpoint]:
        """Return the endpoints that want events of a type."""
        if event_type is EventType.DELIVERIES_DROPPED:  # it would be dropped, too
            return []
        endpoints = zip(self.subscriptions, self._endpoints, strict=True)
        wanting = [endpoint for subscription, endpoint in endpoints if subscription.wants(event_type)]
        return wanting + [endpoint for endpoint in self._trusted if endpoint.wants(event_type)]


class Enqueued(NamedTuple):
    """The result of enqueuing events."""

    #: True if there are deliveries to send.
    has_pending: bool
    #: The reasons why deliveries were dropped, a sentence each: of those to the operator's endpoints (True), and of
    #: those to the instance's own.
    dropped: Mapping[bool, str]


def enqueue(instance: Instance, events: Iterable[Any], subscriptions: Sequence[Subscription]) -> Enqueued:
    """Store the deliveries of these events, in the caller's transaction.

    `events` (realtime.log.models.Event) belong to one instance, `subscriptions` are all that may want them. Deliveries
    that are too many for a backlog are stored as dropped, unless the instance's has them already (`is_admitted`).
    """
    recipients = Recipients(subscriptions)
    if not recipients:
        return Enqueued(has_pending=False, dropped={})
    bodies: list[Body] = []
    deliveries: list[Delivery] = []
    for event in events:
        event_type = EventType(event.type)
        if wanting := recipients.of(event_type):
            envelope = members(event.envelope)
            bodies_of_event, deliveries_of_event = new_deliveries(instance, event.seq, envelope, event_type, wanting)
            _drop_excess(instance, deliveries_of_event, is_admitted=event.is_admitted)
            bodies += bodies_of_event
            deliveries += deliveries_of_event
        if event_type is EventType.REMOVE_INSTANCE:
            for subscription in recipients.subscriptions:
                if subscription.instance_id:
                    FormerEndpoint.store(subscription)
    insert(bodies)
    insert(deliveries)
    return Enqueued(
        has_pending=any(delivery.state == State.PENDING for delivery in deliveries),
        # the first of each
        dropped={each.is_operators: each.reason for each in reversed(deliveries) if each.state == State.DROPPED},
    )


def new_deliveries(
    instance: Instance, seq: int, envelope: Mapping[str, Any], event_type: EventType, endpoints: Iterable[Endpoint]
) -> tuple[list[Body], list[Delivery]]:
    """Return the deliveries of an event to endpoints, and the bodies that they share, all of them unsaved.

    Deliveries by a transport that is off are dropped, and so are those to an endpoint that cannot be read.
    """
    bodies: dict[str, Body] = {}
    deliveries = []
    for endpoint in endpoints:
        transport = transports()[endpoint.transport]
        body = bodies.get(transport.name)
        if body is None:
            data, offset = transport.body(envelope)
            body = Body(event_id=envelope["id"], transport=transport.name, data=data, offset=offset)
            bodies[transport.name] = body
        delivery = Delivery(
            event_id=envelope["id"],
            instance_id=instance.pk,
            name=instance.name,
            seq=seq,
            type=event_type.value,
            endpoint_id=endpoint.id,
            transport=endpoint.transport,
            is_operators=endpoint.is_operators,
            shared_size=len(body.data),
        )
        reason = endpoint.error or _apply_settings(delivery, event_type, endpoint) or transport.off_reason
        if reason:
            _drop(delivery, reason)
        deliveries.append(delivery)
    return list(bodies.values()), deliveries


def _apply_settings(delivery: Delivery, event_type: EventType, endpoint: Endpoint) -> str:
    """Set what a delivery has of its endpoint; returns an empty string, or the reason why that cannot be done.

    One endpoint with damaged settings must not undo the change that the event reports.
    """
    transport = transports()[endpoint.transport]
    try:
        delivery.destination = transport.destination(event_type, endpoint)
        delivery.is_ordered = transport.is_ordered(endpoint)
        delivery.own_part = transport.own_part(endpoint)
    except Exception as error:
        return f"The settings of its endpoint cannot be used: {describe(error)}. Set them anew"
    finally:
        delivery.own_part = delivery.own_part or b""
        delivery.size = (delivery.shared_size or 0) + len(delivery.own_part)
    return ""


def backlog_size(deliveries: Iterable[Delivery]) -> int:
    """Return the bytes that these deliveries add to a backlog: those of their bodies, each once."""
    sizes = {(delivery.event_id, delivery.transport): delivery.shared_size or delivery.size for delivery in deliveries}
    return sum(sizes.values())


def _drop_excess(instance: Instance, deliveries: list[Delivery], is_admitted: bool) -> None:
    """Drop an event's deliveries if they are too many for the instance's backlog, or for the operator's."""
    for is_operators in (False, True):
        pending = [each for each in deliveries if each.state == State.PENDING and each.is_operators is is_operators]
        if not pending or (is_admitted and not is_operators):
            continue
        try:
            backlog.reserve(instance.pk, len(pending), backlog_size(pending), is_operators)
        except backlog.BacklogFull as full:
            for delivery in pending:
                _drop(delivery, str(full))


def _drop(delivery: Delivery, reason: str) -> None:
    delivery.state, delivery.reason, delivery.finished_at = State.DROPPED, reason[:200], timezone.now()


def endpoints_of(ids: Collection[int]) -> dict[int, Endpoint]:
    """Return the current endpoints by id, without those that are disabled or deleted.

    Endpoints of a deleted instance are there: its last events are still sent.
    """
    found = {endpoint.id: endpoint for endpoint in global_endpoints() if endpoint.id in ids}
    for former in FormerEndpoint.objects.in_bulk(list(ids)).values():
        secrets, error = read_secrets(former)
        found[former.pk] = Endpoint(former.pk, former.transport, former.options, secrets, error=error)
    for subscription in Subscription.objects.endpoints().in_bulk(list(ids)).values():
        found.pop(subscription.pk, None)
        if subscription.is_enabled and subscription.transport in transports():
            found[subscription.pk] = Endpoint.of(subscription)
    return found
