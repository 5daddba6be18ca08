"""The envelope of an event: the JSON object that all subscribers receive, rendered once when the event is recorded."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.utils import timezone

from instances import json_body
from instances.events import EventType
from instances.models import Instance
from instances.timestamps import iso


@dataclass(frozen=True)
class EventNumber:
    """The position of an event in its stream."""

    epoch: str
    seq: int
    #: `seq` of the previous event for sockets; 0 before the first.
    prev: int


def event_id(epoch: str, seq: int) -> str:
    """Return the id of an event, the same over every transport and in every attempt."""
    return f"{epoch}.{seq}"


#: The global API key and its mask: it must not leave in any member of any event. Keys of less than 16 characters are
#: not masked, since they would match other text too.
_GLOBAL_KEY_MASK = (
    (settings.AUTHENTICATION_API_KEY.encode(), b"********") if len(settings.AUTHENTICATION_API_KEY) >= 16 else None
)


def encode(value: Any) -> bytes:
    """Serialize a value as JSON with the global API key masked. Raises TypeError for what JSON cannot represent."""
    try:
        encoded = json_body.dumps(value, default=_encode_bytes)
    except TypeError:  # keys that are numbers are rare, and this option doubles the cost
        encoded = json_body.dumps(value, default=_encode_bytes, option=orjson.OPT_NON_STR_KEYS)
    return encoded.replace(*_GLOBAL_KEY_MASK) if _GLOBAL_KEY_MASK else encoded


def render(
    instance: Instance,
    event_type: EventType,
    data: Any,
    number: EventNumber,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Serialize the envelope of an event: Evolution API's members in its order, then `id`, `seq` and `prev`.

    `extra` (`check_extra`) stands before them.

    `id` is the same over every transport and in every attempt. `prev` is the `seq` of the previous event for sockets:
    a client whose last `seq` differs from it has missed an event.
    """
    envelope = {
        **(extra or {}),
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


def members(envelope: bytes) -> dict[str, Any]:
    """Return the members of an envelope that `render` has just rendered; `data`, which may be large, is not parsed.

    It is an orjson.Fragment. Strings hold no unescaped quotes, so the members around it are found by their names.
    """
    start = envelope.index(_DATA)
    end = envelope.rindex(_DATE)
    if settings.SERVER_URL:  # stands before it
        end -= len(encode({"server_url": settings.SERVER_URL})) - 1
    first, last = envelope[:start] + b"}", b"{" + envelope[end + 1 :]
    data = orjson.Fragment(envelope[start + len(_DATA) : end])
    return {**orjson.loads(first), "data": data, **orjson.loads(last)}


#: Bytes up to which a stored envelope is parsed to see that it is JSON; of a longer one its ends are looked at.
PARSED = 16 * 1024


def check(envelope: Any) -> None:
    """Raise ValueError for stored bytes that are no envelope: one client that parses them would fail with each."""
    if isinstance(envelope, str):
        raise ValueError("The envelope is text")
    if len(envelope) > PARSED:
        is_sound = bytes(envelope[:1]) == b"{" and bytes(envelope[-1:]) == b"}"
    else:
        is_sound = isinstance(orjson.loads(envelope), dict)
    if not is_sound:
        raise ValueError("The envelope is no JSON object")


#: The beginning of the member `data`, and of the date, which is behind it.
_DATA, _DATE = b',"data":', b',"date_time":"'


def _encode_bytes(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not JSON")
