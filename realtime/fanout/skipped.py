"""Events that could not be read when it was their turn, and the listeners that were sent the others without them.

They are tried again, less and less often, and sent late where they can be read: out of order, but sent.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from realtime.fanout.feeds import Listener
from realtime.log.models import Event
from realtime.log.paging import UnreadableEvent, readable_events

#: An instance's id and a seq; or the id of a row, while its instance or seq is not known.
Key = Any

#: Events that are kept in mind; beyond it the oldest is forgotten, and only clients that ask for it get it.
MAX_EVENTS = 1000
#: Seconds until an event is tried again, at first and at most; each failure doubles them.
FIRST_REST, MAX_REST = 1.0, 60.0


@dataclass
class _Skipped:
    #: In the order in which they were skipped; the values are nothing.
    listeners: dict[Listener, None] = field(default_factory=dict)
    rest: float = FIRST_REST
    #: When it is tried again (time.monotonic).
    retry_at: float = 0.0


class SkippedEvents:
    """The events that were skipped, and for whom."""

    def __init__(self) -> None:
        self._events: OrderedDict[Key, _Skipped] = OrderedDict()

    def add(self, event: UnreadableEvent, listeners: Iterable[Listener]) -> None:
        """Note that these listeners were not sent an event. Without any, it is kept if its instance is not known."""
        missing = dict.fromkeys(listeners)
        if not missing and event.instance_id:
            return
        key = (event.instance_id, event.seq) if event.instance_id else event.pk
        skipped = self._events.setdefault(key, _Skipped(retry_at=time.monotonic() + FIRST_REST))
        skipped.listeners |= missing
        if len(self._events) > MAX_EVENTS:
            self._events.popitem(last=False)

    def discard(self, event: Event, listener: Listener) -> None:
        """Note that a listener is sent an event in its turn, as it was set back to before it."""
        if self._events and (skipped := self._events.get((event.instance_id, event.seq))):
            skipped.listeners.pop(listener, None)

    def due(self, is_there: Callable[[Listener], bool]) -> list[Key]:
        """Return the keys of the events that are to be tried again; listeners that have left are forgotten."""
        now = time.monotonic()
        due = []
        for key, skipped in list(self._events.items()):
            if skipped.retry_at > now:
                continue
            skipped.listeners = {listener: None for listener in skipped.listeners if is_there(listener)}
            if not skipped.listeners and isinstance(key, tuple):
                del self._events[key]
                continue
            skipped.rest = min(skipped.rest * 2, MAX_REST)
            skipped.retry_at = now + skipped.rest
            due.append(key)
        return due

    def pop(self, key: Key) -> list[Listener]:
        """Forget an event; returns the listeners that it was skipped for."""
        skipped = self._events.pop(key, None)
        return list(skipped.listeners) if skipped else []


def read_again(keys: Iterable[Key]) -> dict[Key, Event]:
    """Return those of these events that can be read now."""
    wanted = set(keys)
    condition = Q(pk__in=[key for key in wanted if not isinstance(key, tuple)])
    for instance_id, seq in (key for key in wanted if isinstance(key, tuple)):
        condition |= Q(instance_id=instance_id, seq=seq)
    found = {}
    for event in readable_events(Event.objects.filter(condition)):
        key = (event.instance_id, event.seq)
        found[key if key in wanted else event.pk] = event
    return found
