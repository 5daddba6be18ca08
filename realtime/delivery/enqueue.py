"""Which endpoints an event goes to: their deliveries are written in the event's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from instances.events import EventType
from instances.models import Instance, Subscription
from instances.sql import insert
from realtime.delivery.models import Delivery, FormerEndpoint
from realtime.delivery.transports.base import Endpoint, transports


def enqueue(instance: Instance, events: Iterable[Any], subscriptions: Sequence[Subscription]) -> int:
    """Write what endpoints are owed of these events, in the caller's transaction; returns how many deliveries.

    `events` (realtime.log.models.Event) are one instance's, `subscriptions` all that may want them.
    """
    known = transports()
    endpoints = [one for one in subscriptions if one.is_endpoint and one.is_enabled and one.transport in known]
    trusted = [one for transport in known.values() for one in transport.global_endpoints()]
    if not endpoints and not trusted:
        return 0
    owed = []
    # without secrets: what is stored needs none, and to decrypt them would take time inside the event's transaction
    bare = [(one, Endpoint.of(one, secrets={})) for one in endpoints]
    for event in events:
        event_type = EventType(event.type)
        wanting = [endpoint for one, endpoint in bare if one.wants(event_type)]
        wanting += [one for one in trusted if one.wants(event_type)]
        envelope = orjson.loads(event.envelope) if wanting else {}
        owed += [delivery(instance, event.seq, envelope, event_type, endpoint) for endpoint in wanting]
        if event_type is EventType.REMOVE_INSTANCE:
            for subscription in endpoints:
                if subscription.instance_id:
                    FormerEndpoint.keep(subscription)
    insert(owed)
    return len(owed)


def delivery(
    instance: Instance, seq: int, envelope: Mapping[str, Any], event_type: EventType, endpoint: Endpoint
) -> Delivery:
    """What an endpoint is owed of an event; the caller stores it."""
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
    """Endpoints as they are now, by id; those that are off or gone are left out, but for a deleted instance's."""
    trusted = [one for transport in transports().values() for one in transport.global_endpoints()]
    found = {one.id: one for one in trusted if one.id in ids}
    former = FormerEndpoint.objects.in_bulk(list(ids))
    found |= {one.pk: Endpoint(one.pk, one.transport, one.options, one.all_secrets) for one in former.values()}
    rows = Subscription.objects.endpoints().in_bulk(list(ids))
    for one in rows.values():
        found.pop(one.pk, None)
        if one.is_enabled and one.transport in transports():
            found[one.pk] = Endpoint.of(one)
    return found
