"""Headers that tell a webhook's receiver what is in the body before it parses it: Evolution API 2.4's four."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import quote

from realtime.delivery.payload import Payload

#: Their names in lower case: a stored header of one of these names is not sent.
NAMES = frozenset(("x-instance-id", "x-instance-name", "x-event-type", "x-timestamp"))

#: The date of an event in the last members of its body; behind it are texts, in which JSON escapes quotes, and numbers.
_DATE = re.compile(rb',"date_time":"([0-9T:.-]{1,40}Z)"')
#: Bytes at the end of a body that hold the member and those behind it.
_END = 16 * 1024


def event_headers(instance_id: str, instance_name: str, event_type: str, payload: Payload) -> dict[str, str]:
    """Return the headers of an event, the same in each attempt and each resending: its time is that of its body.

    The instance is the one of the event, deleted or renamed as it may be by now.
    """
    headers = {
        "X-Instance-ID": instance_id,
        "X-Instance-Name": as_header(instance_name),
        "X-Event-Type": as_header(event_type),
    }
    milliseconds = _milliseconds(payload)
    return headers if milliseconds is None else headers | {"X-Timestamp": str(milliseconds)}


def as_header(text: str) -> str:
    """Return a text as the value of a header: printable ASCII as it is, all else as percent-encoded UTF-8."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isascii() and each.isprintable() else quote(each, errors="replace") for each in text)


def _milliseconds(payload: Payload) -> int | None:
    """Return the time of an event in milliseconds of Unix time, None for a body without one."""
    found = _DATE.findall(payload.end(_END))
    if not found:
        return None
    try:
        return round(datetime.fromisoformat(found[-1].decode()).timestamp() * 1000)
    except ValueError:
        return None
