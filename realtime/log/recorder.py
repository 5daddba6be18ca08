"""What requests that share a transaction tell of an instance is written at once, in the order in which they told it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from instances.ingress.batch import batch_context
from instances.models import Instance
from realtime.log.models import Event, EventDraft, Recorded
from realtime.log.stream import Stream


class PendingEvent:
    """A happening and, once it is recorded, what became of it."""

    recorded: Recorded

    def __init__(self, draft: EventDraft) -> None:
        self.draft = draft


class EventBatch:
    """What is told of one instance until it is recorded."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._told: list[tuple[PendingEvent, Callable[[], None]]] = []
        self._epoch = ""

    def add(self, draft: EventDraft) -> PendingEvent:
        def lives() -> None:
            """Django forgets it when a savepoint is given up in which the happening was told."""

        transaction.on_commit(lives, robust=True)
        told = PendingEvent(draft)
        self._told.append((told, lives))
        return told

    def record(self) -> None:
        hooks: list[Any] = connection.run_on_commit
        living = {hook for _, hook, _ in hooks}
        happened = [told for told, lives in self._told if lives in living]
        done = {lives for _, lives in self._told}
        hooks[:] = [one for one in hooks if one[1] not in done]
        recorded = Event.objects.record_all(self.instance, [told.draft for told in happened])
        for told, became in zip(happened, recorded, strict=True):
            told.recorded = became
            self._epoch = became.event.epoch if became.event else self._epoch

    @property
    def epoch(self) -> str:
        """Of the counting that gave the numbers."""
        if not self._epoch:
            self._epoch = Stream.objects.state(self.instance.pk).epoch
        return self._epoch


def event_batch(instance: Instance) -> EventBatch:
    """Where this thread's requests gather what they tell of an instance. Raises RuntimeError where there are none."""
    if batch_context.before_release is None:
        raise RuntimeError("No requests are being applied")
    key: Any = (EventBatch, instance.pk)
    found = batch_context.shared.get(key)
    if found is None:
        found = batch_context.shared[key] = EventBatch(instance)
        batch_context.before_release.append(found.record)
    return found


def record(instance: Instance, draft: EventDraft) -> None:
    """Write an event: at the end of the requests that are being applied, or now if there are none."""
    if batch_context.before_release is None:
        Event.objects.record_all(instance, [draft])
    else:
        event_batch(instance).add(draft)
