"""What the routes of the log, of endpoints and of deliveries answer; the OpenAPI document is made of these types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from multidict import CIMultiDict

from instances.access.access import MANAGE, Access
from instances.api.responses import shown_headers
from instances.api.timestamps import iso
from instances.models import Subscription
from instances.outbound.webhook_headers import JWT_KEY, MASK
from realtime.delivery.models import Attempt, Delivery, State
from realtime.delivery.transports.webhook import HEADERS

# The log


class PublishedRow(TypedDict):
    """`id` and `seq` are null while the event is held: the latest of a burst is told when its interval is over."""

    id: str | None
    seq: int | None
    event: str
    isRepeat: bool
    isHeld: bool


class PublishedEvents(TypedDict):
    events: list[PublishedRow]


class FoundEvents(TypedDict):
    """Envelopes as sockets heard them; `first` and `last` are the numbers that the log begins and ends with."""

    events: list[dict[str, Any]]
    first: int
    last: int
    epoch: str
    hasMore: bool


# Endpoints


class EndpointRow(TypedDict):
    """Values of headers and secrets are for those who may set them."""

    id: str
    url: str
    headers: dict[str, str] | None
    events: list[str]
    enabled: bool
    byEvents: bool
    base64: bool
    ordered: bool
    secrets: list[str]
    failingSince: str | None
    disabledReason: str | None
    createdAt: str
    updatedAt: str


def endpoint_row(endpoint: Subscription, access: Access) -> EndpointRow:
    signing = endpoint.secret("signing", [])
    return {
        "id": str(endpoint.pk),
        "url": endpoint.options.get("url", ""),
        "headers": shown_headers(endpoint, access),
        "events": endpoint.events,
        "enabled": endpoint.is_enabled,
        "byEvents": endpoint.options.get("byEvents", False),
        "base64": endpoint.options.get("base64", False),
        "ordered": endpoint.options.get("ordered", False),
        "secrets": signing if access.may(MANAGE) else [MASK] * len(signing),
        "failingSince": iso(endpoint.failing_since) if endpoint.failing_since else None,
        "disabledReason": endpoint.disabled_reason or None,
        "createdAt": iso(endpoint.created_at),
        "updatedAt": iso(endpoint.updated_at),
    }


# Deliveries


class AttemptRow(TypedDict):
    number: int
    at: str
    durationMs: int
    status: int | None
    error: str | None


class WholeAttempt(AttemptRow):
    excerpt: str


class DeliveryRow(TypedDict):
    """`reason`: why it ended without another attempt."""

    id: str
    eventId: str
    seq: int
    event: str
    endpoint: str
    transport: str
    destination: str
    state: str
    attempts: int
    lastAttempt: AttemptRow | None
    dueAt: str | None
    createdAt: str
    finishedAt: str | None
    reason: str | None
    resentFrom: str | None
    askedBy: str | None


class WholeDelivery(DeliveryRow):
    request: dict[str, Any]
    tries: list[WholeAttempt]


class DeliveriesPage(TypedDict):
    deliveries: list[DeliveryRow]
    hasMore: bool


class Resent(TypedDict):
    """`hasMore`: one call sends no more; the same one again goes on."""

    count: int
    hasMore: bool


class SentTest(TypedDict):
    id: str
    endpoint: str


class SentTests(TypedDict):
    event: str
    deliveries: list[SentTest]


def delivery_row(delivery: Delivery, last: Attempt | None) -> DeliveryRow:
    """Without the body. `last`: its last attempt."""
    return {
        "id": str(delivery.pk),
        "eventId": delivery.event_id,
        "seq": delivery.seq,
        "event": delivery.type,
        "endpoint": str(delivery.endpoint_id),
        "transport": delivery.transport,
        "destination": delivery.destination,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "lastAttempt": _attempt(last) if last else None,
        "dueAt": iso(delivery.due_at) if delivery.state == State.PENDING else None,
        "createdAt": iso(delivery.created_at),
        "finishedAt": iso(delivery.finished_at) if delivery.finished_at else None,
        "reason": delivery.reason or None,
        "resentFrom": str(delivery.resent_from) if delivery.resent_from else None,
        "askedBy": delivery.asked_by or None,
    }


def whole_delivery(delivery: Delivery, tries: Iterable[Attempt], endpoint: Subscription | None) -> WholeDelivery:
    """With its request and every attempt. `endpoint`: its own, if it still is one."""
    tries = list(tries)
    return {
        **delivery_row(delivery, tries[-1] if tries else None),
        "request": request_of(delivery, endpoint),
        "tries": [{**_attempt(attempt), "excerpt": attempt.excerpt} for attempt in tries],
    }


def request_of(delivery: Delivery, endpoint: Subscription | None) -> dict[str, Any]:
    """The bytes as they are stored; the headers as they would be now, without what is secret in them."""
    body = bytes(delivery.body).decode(errors="replace")
    if delivery.transport != Subscription.WEBHOOK:
        return {"destination": delivery.destination, "body": body}
    headers = masked_headers(delivery, endpoint)
    return {"method": "POST", "url": delivery.destination, "headers": headers, "body": body}


def masked_headers(delivery: Delivery, endpoint: Subscription | None) -> dict[str, str]:
    stored = endpoint.secret("headers", {}) if endpoint else {}
    headers = CIMultiDict(HEADERS)
    headers.update({"Authorization" if name == JWT_KEY else name: MASK for name in stored})
    # the time and the signature are each attempt's own
    headers.update({"webhook-id": delivery.event_id, "webhook-timestamp": MASK, "webhook-signature": MASK})
    return {str(name): value for name, value in headers.items()}


def _attempt(attempt: Attempt) -> AttemptRow:
    return {
        "number": attempt.number,
        "at": iso(attempt.at),
        "durationMs": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error or None,
    }


# Why somebody did, or did not, get an event


class SubjectRow(TypedDict):
    id: str
    seq: int
    event: str
    at: str


class EndpointExplanation(TypedDict):
    """`destination` is null for endpoints of all instances, but for keys of all instances."""

    endpoint: str
    transport: str
    destination: str | None
    wanted: bool
    state: str
    deliveries: list[str]
    text: str


class AudienceRow(TypedDict):
    """Sockets of one filter in the process that answers; `events`: null for all types."""

    namespace: str
    sockets: int
    events: list[str] | None
    wants: bool


class SocketsExplanation(TypedDict):
    """`isHeard` is null where the event is in the log no more."""

    isHeard: bool | None
    audiences: list[AudienceRow]
    text: str


class Explanation(TypedDict):
    event: SubjectRow
    summary: list[str]
    endpoints: list[EndpointExplanation]
    sockets: SocketsExplanation
