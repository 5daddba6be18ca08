"""The log, page by page, for those who ask for it: what the sockets of an instance hear, exactly as they hear it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Length

from instances.events import EventType
from realtime.log.models import Event, EventQuerySet
from realtime.log.stream import Stream

#: The most that one page holds, whatever is asked for.
MAX_EVENTS = 1000
#: Bytes after which a page ends; one event is always given, however large.
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class HistoryPage:
    """Events in order, and the state of the stream when they were read."""

    stream: Stream
    envelopes: list[bytes]
    #: Whether there are others on the side that the page goes on to.
    has_more: bool


def page(
    instance_id: Any,
    limit: int,
    after: int | None = None,
    before: int | None = None,
    types: list[EventType] | None = None,
) -> HistoryPage:
    """With `after`, the first events beyond it; without, the last ones. Both bounds are left out."""
    stream = Stream.objects.state(instance_id)
    upto = stream.last_seq if before is None else min(before - 1, stream.last_seq)
    events = Event.objects.between(instance_id, after or 0, upto).filter(is_heard=True)
    if types:
        events = events.filter(type__in=types)
    seqs, has_more = _fitting(events.order_by("-seq") if after is None else events, limit)
    found = events.filter(seq__gte=min(seqs), seq__lte=max(seqs)) if seqs else events.none()
    envelopes = [bytes(envelope) for envelope in found.values_list("envelope", flat=True)]
    return HistoryPage(stream, envelopes, has_more)


def _fitting(events: EventQuerySet, limit: int) -> tuple[list[int], bool]:
    """The numbers of the first events that make a page, and whether there are others."""
    # sizes first: a thousand events may be more than there is memory for
    sizes = list(events.values_list("seq", Length("envelope"))[: limit + 1])
    seqs: list[int] = []
    size = 0
    for seq, length in sizes[:limit]:
        size += length
        if seqs and size > MAX_BYTES:
            break
        seqs.append(seq)
    return seqs, len(seqs) < len(sizes)
