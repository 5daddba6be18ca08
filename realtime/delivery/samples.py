"""Test events: samples of the event types, in an envelope."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import orjson

from instances.events import EventType, Example
from instances.models import Instance
from realtime.envelope import EventNumber, render


def sample(instance: Instance, event_type: EventType) -> dict[str, Any]:
    """Return a sample envelope with `test: true`; it is not in the log, so its `seq` is 0."""
    data = event_type.sample(Example(instance.name, str(instance.pk), datetime.now(UTC)))
    envelope = orjson.loads(render(instance, event_type, data, EventNumber("test", 0, 0)))
    return envelope | {"id": f"test.{secrets.token_hex(8)}", "test": True}
