"""Examples of events as each kind of subscriber receives them, made by the code that sends the real ones."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson

from instances.events import EventType
from instances.events.document import EXAMPLE
from realtime.delivery.payload import Payload
from realtime.delivery.transports import signing
from realtime.delivery.transports.base import Endpoint
from realtime.delivery.transports.event_headers import event_headers
from realtime.delivery.transports.rabbitmq import QueueBinding, RabbitMQ
from realtime.delivery.transports.webhook import HEADERS, Webhook
from realtime.envelope import event_id

EPOCH, SEQ = "9c2347a1eeccb389", 8
ID = event_id(EPOCH, SEQ)
#: The endpoint of the examples: the secret signs nothing else.
URL = "https://hook.example.com/in"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105
#: Seconds of Unix time at which the webhook is sent: a second after the event.
SENT_AT = EXAMPLE.seconds + 1


def envelope(event_type: EventType) -> dict[str, Any]:
    """Return an event with the catalogue's sample as its data, with its members in the order of real ones."""
    return {
        "event": event_type.value,
        "instance": EXAMPLE.name,
        "data": event_type.sample(EXAMPLE),
        "server_url": "https://evo.example.com",
        "date_time": f"{EXAMPLE.at:%Y-%m-%dT%H:%M:%S}.000Z",
        "apikey": None,
        "id": ID,
        "seq": SEQ,
        "prev": SEQ - 1,
    }


@cache
def _webhook() -> Webhook:
    return Webhook()


def webhook_body(event_type: EventType) -> bytes:
    """Return the body of a webhook: the signature is that of these bytes."""
    rendered = _webhook().body(envelope(event_type))
    own = _webhook().own_part(Endpoint(1, Webhook.name, {"url": URL}, {}))
    return rendered.data[: rendered.offset] + own + rendered.data[rendered.offset :]


def webhook_headers(event_type: EventType) -> dict[str, str]:
    """Return the headers of the webhook, signed with SECRET."""
    body = webhook_body(event_type)
    headers = event_headers(EXAMPLE.id, EXAMPLE.name, event_type.value, Payload(body))
    return HEADERS | headers | signing.headers(ID, SENT_AT, body, [SECRET])


def rabbitmq_body(event_type: EventType) -> bytes:
    return RabbitMQ().body(envelope(event_type)).data


def rabbitmq_binding(event_type: EventType) -> QueueBinding:
    """Return where the event of an instance is published, and from which queue it is read."""
    return QueueBinding.of(event_type.value, Endpoint(1, RabbitMQ.name, {"exchange": EXAMPLE.name}, {}))


def stream_lines(event_type: EventType) -> str:
    """Return the lines of an event in a stream of server-sent events."""
    return f"id: {ID}\nevent: {event_type.value}\ndata: {orjson.dumps(envelope(event_type)).decode()}\n"
