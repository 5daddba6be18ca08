"""Explanations of why each endpoint and each audience of sockets did, or did not, receive an event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from instances.bounds import OFF_HOURS
from instances.errors import NotFound
from instances.events import EventType
from instances.models import Instance, Subscription
from instances.numbers import whole_number
from instances.timestamps import iso
from realtime.api.responses import AudienceRow, EndpointExplanation, Explanation, SocketsExplanation
from realtime.delivery.models import Attempt, Delivery, State
from realtime.delivery.transports.base import Endpoint, off_reason, transports
from realtime.envelope import event_id
from realtime.fanout.relay import Relay
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.operation.models import GONE, Process

#: The loop that claims and sends deliveries, by its name in the supervisor.
CLAIMING = "deliveries"
#: Deliveries of an endpoint that are counted, at most.
COUNTED = 100


@dataclass(frozen=True)
class Subject:
    """The event to explain."""

    id: str
    seq: int
    type: EventType
    at: datetime
    #: None if only deliveries of the event are left.
    is_heard: bool | None


def explain(instance: Instance, reference: str, is_for_all: bool) -> Explanation:
    """Explain what became of an event, given its id or its sequence number.

    Without `is_for_all` the destinations and errors of global endpoints are left out. Raises NotFound, with the reason,
    for an unknown event.
    """
    subject = _subject(instance, reference)
    endpoints = list(_endpoints(instance, subject, is_for_all))
    sockets = _sockets(instance, subject, is_for_all)
    return {
        "event": {"id": subject.id, "seq": subject.seq, "event": subject.type.value, "at": iso(subject.at)},
        "summary": [*(endpoint["text"] for endpoint in endpoints), sockets["text"]],
        "endpoints": endpoints,
        "sockets": sockets,
    }


# The event


def _subject(instance: Instance, reference: str) -> Subject:
    stream = Stream.objects.state(instance.pk)
    epoch, _, number = reference.rpartition(".")
    if epoch == "test":
        return _from_deliveries(instance, Q(event_id=reference), _unknown(instance, reference))
    seq = whole_number(number)
    if not seq or epoch not in ("", stream.epoch):
        raise _unknown(instance, reference)
    event = Event.objects.filter(instance_id=instance.pk, seq=seq).defer("envelope").first()
    if event is not None:
        return Subject(event_id(stream.epoch, seq), seq, EventType(event.type), event.created_at, event.is_heard)
    if seq > stream.last_seq:
        raise NotFound(f'Event {seq} of "{instance.name}" has not happened: the last one is {stream.last_seq}')
    retention = f"{settings.EVENT_RETENTION_HOURS} hours"
    gone = NotFound(f'Event {seq} of "{instance.name}" is not kept any more: events are kept for {retention}')
    return _from_deliveries(instance, Q(seq=seq, event_id=event_id(stream.epoch, seq)), gone)


def _unknown(instance: Instance, reference: str) -> NotFound:
    return NotFound(f'The "{instance.name}" instance knows no event {reference[:64]}')


def _from_deliveries(instance: Instance, condition: Q, missing: NotFound) -> Subject:
    """Return an event that is not in the log from its deliveries. Raises `missing` if there are none."""
    delivery = Delivery.objects.filter(condition, instance_id=instance.pk).defer("body").order_by("pk").first()
    if delivery is None:
        raise missing
    return Subject(delivery.event_id, delivery.seq, EventType(delivery.type), delivery.created_at, None)


# Endpoints


def _endpoints(instance: Instance, subject: Subject, is_for_all: bool) -> Iterable[EndpointExplanation]:
    by_endpoint = defaultdict(list)
    rows = Delivery.objects.filter(instance_id=instance.pk, seq=subject.seq, event_id=subject.id)
    for delivery in rows.defer("body").order_by("pk"):
        by_endpoint[delivery.endpoint_id].append(delivery)
    all_deliveries = (delivery for deliveries in by_endpoint.values() for delivery in deliveries)
    # the errors of attempts may name the hosts of global endpoints
    attempts = Attempt.last_of(each for each in all_deliveries if is_for_all or not each.is_operators)
    subscriptions = Subscription.objects.endpoints().filter(Q(instance=instance) | Q(instance=None)).order_by("pk")
    for subscription in subscriptions.even_unreadable():
        is_shown = (is_for_all or subscription.instance_id is not None) and not subscription.unreadable
        destination = _destination(Endpoint.of(subscription, secrets={}), subject) if is_shown else None
        deliveries = by_endpoint.pop(subscription.pk, [])
        reason = _no_delivery(subscription, subject)
        yield _explanation(subscription.pk, subscription.transport, destination, deliveries, attempts, reason)
    for endpoint in [endpoint for transport in transports().values() for endpoint in transport.global_endpoints()]:
        destination = _destination(endpoint, subject) if is_for_all else None
        reason = _WANTED_LATER if endpoint.wants(subject.type) else "receives all instances' events, but not this type"
        deliveries = by_endpoint.pop(endpoint.id, [])
        yield _explanation(endpoint.id, endpoint.transport, destination, deliveries, attempts, reason)
    for pk, deliveries in by_endpoint.items():
        destination = deliveries[0].destination if is_for_all or not deliveries[0].is_operators else None
        yield _explanation(pk, deliveries[0].transport, destination, deliveries, attempts, "")


#: Reason of an endpoint that wants the event now, though there is no delivery.
_WANTED_LATER = "wants such events now, but did not when this one happened"


def _destination(endpoint: Endpoint, subject: Subject) -> str:
    transport = transports().get(endpoint.transport)
    try:
        return transport.destination(subject.type, endpoint) if transport else ""
    except (KeyError, TypeError, ValueError):  # its settings were edited by hand
        return ""


def _no_delivery(subscription: Subscription, subject: Subject) -> str:
    """Return the reason why a subscription has no delivery of the event."""
    if subscription.transport not in transports():
        return f"is of a kind that this server does not send to: {subscription.transport}"
    if subscription.unreadable:
        return f"has no delivery of it. {subscription.unreadable}"
    if subscription.created_at > subject.at:
        return f"was created after it, at {iso(subscription.created_at)}"
    if not subscription.is_enabled:
        reason = f": {subscription.disabled_reason}" if subscription.disabled_reason else ""
        return f"is switched off{reason}"
    if not subscription.wants(subject.type):
        return f"is not subscribed to {subject.type.name}"
    return f"{_WANTED_LATER}; its settings last changed at {iso(subscription.updated_at)}"


def _explanation(
    pk: int,
    transport: str,
    destination: str | None,
    deliveries: list[Delivery],
    attempts: dict[int, Attempt],
    reason: str,
) -> EndpointExplanation:
    """Return an endpoint's explanation. `attempts`: the last ones by delivery; `reason`: used without deliveries."""
    name = f"The {transport} endpoint {pk}" if pk > 0 else f"The {transport} endpoint of all instances"
    texts = [status(delivery, attempts.get(delivery.pk)) for delivery in deliveries] or [reason]
    return {
        "endpoint": str(pk),
        "transport": transport,
        "destination": destination,
        "wanted": bool(deliveries),
        "state": deliveries[-1].state if deliveries else "not owed",
        "deliveries": [str(delivery.pk) for delivery in deliveries],
        "text": f"{name} " + "; then it ".join(texts) + ".",
    }


def status(delivery: Delivery, last: Attempt | None) -> str:
    """Return what became of a delivery: the end of a sentence about its endpoint. `last`: its last attempt."""
    times = f"{delivery.attempts} attempt{'s' if delivery.attempts != 1 else ''}"
    at = f" at {iso(delivery.finished_at)}" if delivery.finished_at else ""
    if delivery.state == State.DELIVERED:
        return f"accepted it{at}, after {times}"
    if delivery.state == State.DEAD:
        return f"did not accept it: given up{at}, after {times}{_reason(delivery)}{_error(last)}"
    if delivery.state == State.DROPPED:
        return f"was not sent it any more{at}{_reason(delivery) or ', as it was deleted or disabled'}{_error(last)}"
    if off := off_reason(delivery.transport):
        end = iso(delivery.created_at + timedelta(hours=OFF_HOURS))
        return f"is not sent it for now: {off}. It is given up at {end}"
    if not delivery.attempts and delivery.is_ordered and (before := _before(delivery)):
        return f"waits for event {before}, because its events are delivered in order"
    is_later = delivery.due_at > timezone.now()
    if delivery.lease and is_later:  # claimed: `due_at` is the end of the lease
        waits = f"it waits since {iso(delivery.created_at)}"
        if not delivery.attempts:
            return f"is being sent it now, and has not answered yet; {waits}"
        what = f"the next one is under way; {waits}"
    elif is_later:
        what = f"the next one is due at {iso(delivery.due_at)}"
    else:
        what = _waiting(delivery)
    if not delivery.attempts:
        return f"has not been sent it yet: {what}"
    return f"has not accepted it yet: {times}, {what}{_error(last)}"


def _waiting(delivery: Delivery) -> str:
    """Return why a delivery that is due was not claimed: others are before it, or nothing delivers."""
    texts = [f"it is due since {iso(max(delivery.due_at, delivery.created_at))}"]
    if not _is_delivering():
        texts.append("no process that delivers is running: start the server, or `manage.py deliver`")
    ahead = Delivery.objects.pending().filter(endpoint_id=delivery.endpoint_id).exclude(pk=delivery.pk)
    under_way = ahead.exclude(lease=None)[: COUNTED + 1].count()
    if under_way:
        texts.append(f"others that are under way and not answered yet: {_many(under_way)}")
    failing = Subscription.objects.filter(pk=delivery.endpoint_id).values_list("failing_since", flat=True).first()
    if failing:
        texts.append(f"the endpoint has accepted nothing since {iso(failing)}")
    return "; ".join(texts)


def _is_delivering() -> bool:
    """Return whether a running process on this database sends deliveries."""
    running = [process for process in Process.objects.filter(seen_at__gt=timezone.now() - GONE) if process.is_running]
    return any(loop.name == CLAIMING for process in running for loop in process.loop_states)


def _many(count: int) -> str:
    return f"more than {COUNTED}" if count > COUNTED else str(count)


def _before(delivery: Delivery) -> int | None:
    """Return the sequence number of the pending event that an ordered endpoint has to be sent first, if any."""
    same = Delivery.objects.pending().filter(endpoint_id=delivery.endpoint_id, instance_id=delivery.instance_id)
    return same.filter(is_ordered=True, seq__lt=delivery.seq).order_by("seq").values_list("seq", flat=True).first()


def _reason(delivery: Delivery) -> str:
    return f". {delivery.reason}" if delivery.reason else ""


def _error(last: Attempt | None) -> str:
    if last is None:
        return ""
    status = f"HTTP {last.status}" if last.status else ""
    return f". The last time: {' '.join(filter(None, (status, last.error))) or 'no reason is on record'}"


# Sockets


def _sockets(instance: Instance, subject: Subject, is_for_all: bool) -> SocketsExplanation:
    audiences = _audiences(instance, subject, is_for_all)
    here = sum(audience["sockets"] for audience in audiences if audience["wants"])
    if subject.is_heard is None:
        text = "It is not in the log, so no socket receives it any more"
    elif not subject.is_heard:
        text = f"Sockets were not to receive it: the instance's websocket settings left out {subject.type.name}"
    elif not settings.WEBSOCKET_ENABLED:
        text = "Sockets were to receive it, but WEBSOCKET_ENABLED is off"
    else:
        text = f"Sockets were to receive it; {here} that receive such events are connected to this process now"
    return {"isHeard": subject.is_heard, "audiences": audiences, "text": f"{text}."}


def _audiences(instance: Instance, subject: Subject, is_for_all: bool) -> list[AudienceRow]:
    """Return the audiences connected to this process now; those at the time of the event are not recorded."""
    found: list[AudienceRow] = []
    for relay in list(Relay.running):
        feeds: list[Any] = [relay.feeds.get(instance.pk)]
        if is_for_all and settings.WEBSOCKET_GLOBAL_EVENTS:
            feeds.append(relay.global_feed)
        for feed in filter(None, feeds):
            found += [
                {
                    "namespace": feed.namespace,
                    "sockets": room.listeners,
                    "events": sorted(audience.events) if audience.events is not None else None,
                    "wants": audience.events is None or subject.type.value in audience.events,
                }
                for audience, room in list(feed.rooms.items())
            ]
    return found
