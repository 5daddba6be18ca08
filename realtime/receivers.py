"""The seam between the two apps: what happened is recorded."""

from typing import Any

from django.dispatch import receiver

from instances.events import EventType, event_occurred
from realtime.log.models import EventDraft
from realtime.log.recorder import record


@receiver(event_occurred)
def record_event(instance: Any, event_type: str, data: Any, dedupe_key: str | None = None, **kwargs: Any) -> None:
    record(instance, EventDraft(EventType(event_type), data, dedupe_key))
