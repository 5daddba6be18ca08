"""docs/events.md, made of the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from instances.events.example import Example
from instances.events.types import EventType

#: The instance of the document's samples.
EXAMPLE = Example("loja", "0b0a7c5e-3f0f-4b0e-9a55-6f5a6a2d1c11", datetime(2026, 1, 31, 12, 0, tzinfo=UTC))


def document() -> str:
    """Return docs/events.md."""
    types = [event_type for event_type in EventType if event_type.is_subscribable]
    lines = [_INTRODUCTION, "| Subscribe to | Receive | When | |", "|---|---|---|---|"]
    for event_type in types:
        note = "" if event_type.is_publishable else "not to be published"
        lines.append(f"| `{event_type.name}` | `{event_type.value}` | {event_type.label} | {note} |")
    lines.append(_SAMPLES)
    for event_type in types:
        data = orjson.dumps(event_type.sample(EXAMPLE), option=orjson.OPT_INDENT_2).decode()
        lines.append(f"### {event_type.value}\n\n```json\n{data}\n```\n")
    return "\n".join(lines).rstrip("\n") + "\n"


_INTRODUCTION = """\
# Events

A subscription lists names from the first column; an empty list stands for all. Sockets, webhooks and RabbitMQ receive
the event by its value, in the second. Types that `POST /event/publish` refuses report this server's own state.

This page is made from `instances/events/types.py` by `make events`.
"""

_SAMPLES = """
## Samples of `data`

`POST /webhook/test/<instance>` and "Send test" in the admin send these, with `test: true`. Real events may have further
members.
"""
