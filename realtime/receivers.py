"""Receivers of the signals of `instances`, the only way from there to this app."""

from typing import Any

from django.dispatch import receiver

from instances.events import EventType, check_extra, event_occurred
from realtime.log.models import EventDraft
from realtime.log.recorder import record


@receiver(event_occurred)
def record_event(
    instance: Any, event_type: str, data: Any, dedupe_key: str | None = None, extra: Any = None, **kwargs: Any
) -> None:
    """Record an announced event.

    Raises ValueError for an event type that is not in the catalogue, and for `extra` that its envelope cannot have.
    """
    known = EventType(event_type)
    record(instance, EventDraft(known, data, dedupe_key, extra=check_extra(known, extra)))
