"""What listeners get of an event: rendered once, when it is recorded, and stored as bytes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.utils import timezone

from instances.api.timestamps import iso
from instances.events import EventType
from instances.models import Instance


@dataclass(frozen=True)
class EventNumber:
    """An event's place in its stream."""

    epoch: str
    seq: int
    #: The seq before it in the audience of sockets; 0 for the first one.
    prev: int


def event_id(epoch: str, seq: int) -> str:
    """Names an event wherever and however often it is delivered."""
    return f"{epoch}.{seq}"


#: Whatever member it hides in, the key to everything goes nowhere. A very short one would match other things too.
_GLOBAL_KEY_MASK = (
    (settings.AUTHENTICATION_API_KEY.encode(), b"********") if len(settings.AUTHENTICATION_API_KEY) >= 16 else None
)


def encode(value: Any) -> bytes:
    """As JSON, without the global key. Raises TypeError for what JSON cannot hold."""
    try:
        encoded = orjson.dumps(value, default=_plain)
    except TypeError:  # members named by numbers are rare, and looking for them costs as much again
        encoded = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return encoded.replace(*_GLOBAL_KEY_MASK) if _GLOBAL_KEY_MASK else encoded


def render(instance: Instance, event_type: EventType, data: Any, number: EventNumber) -> bytes:
    """The envelope that every listener gets: Evolution API's members in its order, then ours.

    `id` is the same wherever and however often the event is delivered; `prev` is the `seq` before it among those
    that sockets hear, so a client that sees another one has missed something.
    """
    envelope = {
        "event": event_type.value,
        "instance": instance.name,
        "data": event_type.scrub(data),
        "server_url": settings.SERVER_URL or None,
        "date_time": iso(timezone.now()),
        "sender": instance.sender,
        "apikey": None,
        "id": event_id(number.epoch, number.seq),
        "seq": number.seq,
        "prev": number.prev,
    }
    for name in ("server_url", "sender"):
        if envelope[name] is None:
            del envelope[name]
    return encode(envelope)


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not JSON")
