"""Events of requests that share a transaction: those of an instance are written at once, in the order announced."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from instances.ingress.batch import batch_context
from instances.ingress.commit_hooks import Hook, remove_hooks
from instances.models import Instance
from realtime.log.models import Event, EventDraft, Recorded
from realtime.log.stream import Stream


class PendingEvent:
    """An event that is not written yet; once it is, `recorded` is set."""

    recorded: Recorded

    def __init__(self, draft: EventDraft) -> None:
        self.draft = draft


class EventBatch:
    """The events of one instance that are to be recorded together."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        #: Each event with a hook that does nothing: Django drops it if the savepoint of the event is rolled back.
        self._pending: dict[Hook, PendingEvent] = {}
        self._epoch = ""

    def add(self, draft: EventDraft) -> PendingEvent:
        """Add an event; it is dropped if the current savepoint is rolled back before `record`."""

        def hook() -> None: ...

        transaction.on_commit(hook, robust=True)
        pending = self._pending[hook] = PendingEvent(draft)
        return pending

    def record(self) -> None:
        """Write the events whose savepoints were not rolled back."""
        kept = remove_hooks(self._pending)
        events = [event for hook, event in self._pending.items() if hook in kept]
        recorded = Event.objects.record_all(self.instance, [event.draft for event in events])
        for event, each in zip(events, recorded, strict=True):
            event.recorded = each
            self._epoch = each.event.epoch if each.event else self._epoch

    @property
    def epoch(self) -> str:
        """The epoch of the stream that the events are numbered in."""
        if not self._epoch:
            self._epoch = Stream.objects.state(self.instance.pk).epoch
        return self._epoch


def event_batch(instance: Instance) -> EventBatch:
    """Return an instance's batch for the requests that this thread applies. Raises RuntimeError outside of them."""
    if batch_context.before_release is None:
        raise RuntimeError("No requests are being applied")
    key: Any = (EventBatch, instance.pk)
    batch = batch_context.shared.get(key)
    if batch is None:
        batch = batch_context.shared[key] = EventBatch(instance)
        batch_context.before_release.append(batch.record)
    return batch


def record(instance: Instance, draft: EventDraft) -> None:
    """Write an event: at the end of the requests that this thread applies, or at once outside of them."""
    if batch_context.before_release is None:
        Event.objects.record_all(instance, [draft])
    else:
        event_batch(instance).add(draft)
