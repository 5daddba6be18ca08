"""Enqueues an event for the endpoints that want it, in the event's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from instances.events import EventType
from instances.models import Instance, Subscription
from instances.sql import insert
from realtime.delivery.models import Delivery, FormerEndpoint
from realtime.delivery.transports.base import Endpoint, global_endpoints, transports


def enqueue(instance: Instance, events: Iterable[Any], subscriptions: Sequence[Subscription]) -> int:
    """Store the deliveries of these events, in the caller's transaction; returns their number.

    `events` (realtime.log.models.Event) belong to one instance, `subscriptions` are all that may want them.
    """
    registered = transports()
    wanted = [s for s in subscriptions if s.is_endpoint and s.is_enabled and s.transport in registered]
    trusted = global_endpoints()
    if not wanted and not trusted:
        return 0
    deliveries = []
    # without secrets: stored bytes need none, and decrypting them would take time inside the event's transaction
    endpoints = [(subscription, Endpoint.of(subscription, secrets={})) for subscription in wanted]
    for event in events:
        event_type = EventType(event.type)
        wanting = [endpoint for subscription, endpoint in endpoints if subscription.wants(event_type)]
        wanting += [endpoint for endpoint in trusted if endpoint.wants(event_type)]
        envelope = orjson.loads(event.envelope) if wanting else {}
        deliveries += [new_delivery(instance, event.seq, envelope, event_type, endpoint) for endpoint in wanting]
        if event_type is EventType.REMOVE_INSTANCE:
            for subscription in wanted:
                if subscription.instance_id:
                    FormerEndpoint.store(subscription)
    insert(deliveries)
    return len(deliveries)


def new_delivery(
    instance: Instance, seq: int, envelope: Mapping[str, Any], event_type: EventType, endpoint: Endpoint
) -> Delivery:
    """Return the delivery of an event to an endpoint, unsaved."""
    transport = transports()[endpoint.transport]
    body = transport.body(dict(envelope), endpoint)
    return Delivery(
        event_id=envelope["id"],
        instance_id=instance.pk,
        name=instance.name,
        seq=seq,
        type=event_type.value,
        endpoint_id=endpoint.id,
        transport=endpoint.transport,
        destination=transport.destination(event_type, endpoint),
        is_ordered=transport.is_ordered(endpoint),
        is_operators=endpoint.is_operators,
        body=body,
        size=len(body),
    )


def endpoints_of(ids: Collection[int]) -> dict[int, Endpoint]:
    """Return the current endpoints by id, without those that are disabled or deleted.

    Endpoints of a deleted instance are there: its last events are still sent.
    """
    found = {endpoint.id: endpoint for endpoint in global_endpoints() if endpoint.id in ids}
    for former in FormerEndpoint.objects.in_bulk(list(ids)).values():
        found[former.pk] = Endpoint(former.pk, former.transport, former.options, former.all_secrets)
    for subscription in Subscription.objects.endpoints().in_bulk(list(ids)).values():
        found.pop(subscription.pk, None)
        if subscription.is_enabled and subscription.transport in transports():
            found[subscription.pk] = Endpoint.of(subscription)
    return found
