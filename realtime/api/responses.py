"""Response bodies of the routes of events, endpoints and deliveries; OpenAPI's components are made of these types."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, TypedDict

import orjson
from multidict import CIMultiDict

from instances.access.access import Access
from instances.access.rights import MANAGE
from instances.api.responses import shown_headers, shown_url
from instances.crypto import MASK
from instances.models import Subscription
from instances.outbound.signing_secrets import active_secrets, overlap_end
from instances.outbound.webhook_headers import JWT_KEY
from instances.outbound.webhook_urls import masked_url
from instances.timestamps import iso
from realtime.counters.figures import EndpointFigures, figures_of_endpoints
from realtime.counters.hours import last_hours
from realtime.delivery.bodies import Body
from realtime.delivery.models import Attempt, Delivery, State
from realtime.delivery.payload import Payload
from realtime.delivery.transports.event_headers import event_headers
from realtime.delivery.transports.webhook import HEADERS

#: Hours of which an endpoint's health is.
HEALTH_HOURS = 24

# Events


class PublishedRow(TypedDict):
    """`id` and `seq` are null while the event is deferred: the latest of its interval is emitted when that is over."""

    id: str | None
    seq: int | None
    event: str
    isRepeat: bool
    isHeld: bool


class PublishedEvents(TypedDict):
    events: list[PublishedRow]


class FoundEvents(TypedDict):
    """Envelopes as sockets received them; `first` and `last` are the sequence numbers at the ends of the log."""

    events: list[dict[str, Any]]
    first: int
    last: int
    epoch: str
    hasMore: bool


# Endpoints


class EndpointHealth(TypedDict):
    """The attempts of the last 24 hours, as far as they are counted: some seconds late. Null without any."""

    attempts: int
    failed: int
    successRate: float | None
    meanMs: float | None
    maxMs: int | None


class EndpointRow(TypedDict):
    """Secrets, values of headers and those of the URL's query are masked for keys that may not set them."""

    id: str
    url: str
    headers: dict[str, str] | None
    events: list[str]
    enabled: bool
    byEvents: bool
    base64: bool
    ordered: bool
    followRedirects: bool
    secrets: list[str]
    oldSecretUntil: str | None
    failingSince: str | None
    disabledReason: str | None
    health: EndpointHealth
    createdAt: str
    updatedAt: str


def endpoint_rows(endpoints: Iterable[Subscription], access: Access) -> list[EndpointRow]:
    """Return endpoints with their health, which takes one query for all."""
    found = list(endpoints)
    figures = figures_of_endpoints(last_hours(HEALTH_HOURS), [endpoint.pk for endpoint in found])
    return [_endpoint_row(endpoint, access, figures.get(endpoint.pk)) for endpoint in found]


def endpoint_row(endpoint: Subscription, access: Access) -> EndpointRow:
    return endpoint_rows([endpoint], access)[0]


def _endpoint_row(endpoint: Subscription, access: Access, figures: EndpointFigures | None) -> EndpointRow:
    stored, now = endpoint.shown_secrets, time.time()
    signing, until = active_secrets(stored, now), overlap_end(stored, now)
    return {
        "id": str(endpoint.pk),
        "url": shown_url(endpoint.options.get("url", ""), access),
        "headers": shown_headers(endpoint, access),
        "events": endpoint.shown_events,
        "enabled": endpoint.is_enabled,
        "byEvents": endpoint.options.get("byEvents", False),
        "base64": endpoint.options.get("base64", False),
        "ordered": endpoint.options.get("ordered", False),
        "followRedirects": endpoint.options.get("followRedirects", False),
        "secrets": signing if access.may(MANAGE) else [MASK] * len(signing),
        "oldSecretUntil": iso(until) if until else None,
        "failingSince": iso(endpoint.failing_since) if endpoint.failing_since else None,
        "disabledReason": endpoint.disabled_reason or None,
        "health": {
            "attempts": figures.attempts if figures else 0,
            "failed": figures.failed if figures else 0,
            "successRate": round(figures.success_rate, 4) if figures else None,
            "meanMs": round(figures.mean_ms, 1) if figures else None,
            "maxMs": figures.max_ms if figures else None,
        },
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
    """`reason`: the cause, if it ended without another attempt.

    For keys without the scope `manage`, `askedBy` and the values in the destination's query are masked.
    """

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
    """`count`: deliveries that were enqueued again. Pending ones are not: `dueAtOnce` counts those that are sent now
    instead of later, `beingSent` those that are being sent at this moment. `hasMore`: the limit of a call was reached;
    repeat the call to continue.
    """

    count: int
    dueAtOnce: int
    beingSent: int
    hasMore: bool


class SentTest(TypedDict):
    id: str
    endpoint: str


class SentTests(TypedDict):
    event: str
    deliveries: list[SentTest]


def delivery_row(delivery: Delivery, last: Attempt | None, access: Access) -> DeliveryRow:
    """Return a delivery without its body. `last`: its last attempt."""
    asked_by = delivery.asked_by if access.may(MANAGE) else MASK  # it names keys and staff users
    return {
        "id": str(delivery.pk),
        "eventId": delivery.event_id,
        "seq": delivery.seq,
        "event": delivery.type,
        "endpoint": str(delivery.endpoint_id),
        "transport": delivery.transport,
        "destination": shown_url(delivery.destination, access),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "lastAttempt": _attempt(last) if last else None,
        "dueAt": iso(delivery.due_at) if delivery.state == State.PENDING else None,
        "createdAt": iso(delivery.created_at),
        "finishedAt": iso(delivery.finished_at) if delivery.finished_at else None,
        "reason": delivery.reason or None,
        "resentFrom": str(delivery.resent_from) if delivery.resent_from else None,
        "askedBy": asked_by if delivery.asked_by else None,
    }


def delivery_detail(
    delivery: Delivery, tries: Iterable[Attempt], endpoint: Subscription | None, access: Access
) -> WholeDelivery:
    """Return a delivery with its request and every attempt. `endpoint`: None if it was deleted."""
    tries = list(tries)
    return {
        **delivery_row(delivery, tries[-1] if tries else None, access),
        "request": _request(delivery, endpoint, access),
        "tries": [{**_attempt(attempt), "excerpt": attempt.excerpt} for attempt in tries],
    }


def _request(delivery: Delivery, endpoint: Subscription | None, access: Access) -> dict[str, Any]:
    """Return the request with the body as stored, None if that cannot be read, and the headers as of now, masked."""
    destination = shown_url(delivery.destination, access)
    payload = readable_payload(delivery)
    body = _body(payload, access)
    if delivery.transport != Subscription.WEBHOOK:
        return {"destination": destination, "body": body}
    headers = masked_headers(delivery, endpoint, payload)
    return {"method": "POST", "url": destination, "headers": headers, "body": body}


def readable_payload(delivery: Delivery) -> Payload | None:
    """Return the bytes of a delivery, None if they cannot be read."""
    try:
        return delivery.payload()
    except Body.DoesNotExist:
        return None


def _body(payload: Payload | None, access: Access) -> str | None:
    if payload is None:
        return None
    return (bytes(payload) if access.may(MANAGE) else masked_body(bytes(payload))).decode(errors="replace")


#: The beginning of the member of a webhook's body that names its URL, and the URL as a JSON string.
_DESTINATION = b',"destination":'
_URL = re.compile(rb'"https?://(?:[^"\\]|\\.){0,65536}"')


def masked_body(body: bytes) -> bytes:
    """Return the body of a delivery with its destination masked.

    The destination is behind the event's data, so it is the last member of its name, and the data is not searched.
    """
    at = body.rfind(_DESTINATION) + len(_DESTINATION)
    found = _URL.match(body, at) if at >= len(_DESTINATION) else None
    if found is None:
        return body
    return body[:at] + orjson.dumps(masked_url(orjson.loads(found[0]))) + body[found.end() :]


def masked_headers(delivery: Delivery, endpoint: Subscription | None, payload: Payload | None = None) -> dict[str, str]:
    """Return the headers of a webhook request with secret and per-attempt values masked."""
    stored = endpoint.shown_secret("headers", {}) if endpoint else {}
    headers = CIMultiDict(HEADERS)
    headers.update({"Authorization" if name == JWT_KEY else name: MASK for name in stored})
    headers.update(event_headers(str(delivery.instance_id), delivery.name, delivery.type, payload or Payload()))
    # timestamp and signature differ with each attempt
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


# Explanations of events


class SubjectRow(TypedDict):
    id: str
    seq: int
    event: str
    at: str


class EndpointExplanation(TypedDict):
    """`destination` is null for endpoints of all instances, unless the key is for all instances.

    For keys without the scope `manage`, the values in its query are masked.
    """

    endpoint: str
    transport: str
    destination: str | None
    wanted: bool
    state: str
    deliveries: list[str]
    text: str


class AudienceRow(TypedDict):
    """Sockets with the same filter in the process that responds; `events`: null for all types."""

    namespace: str
    sockets: int
    events: list[str] | None
    wants: bool


class SocketsExplanation(TypedDict):
    """`isHeard`: true if sockets were to receive the event; null if it is no longer in the log."""

    isHeard: bool | None
    audiences: list[AudienceRow]
    text: str


class Explanation(TypedDict):
    event: SubjectRow
    summary: list[str]
    endpoints: list[EndpointExplanation]
    sockets: SocketsExplanation
