"""Pages of an instance's log: the envelopes of its events for sockets, byte for byte."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Length

from instances.bounds import FIND_BYTES
from realtime.log.models import Event, EventQuerySet
from realtime.log.paging import readable_events
from realtime.log.stream import Stream


@dataclass(frozen=True)
class HistoryPage:
    """Events in order, and the state of the stream when they were read."""

    stream: Stream
    envelopes: list[bytes]
    #: True if there are further events in the direction of paging.
    has_more: bool


def page(
    instance_id: Any,
    limit: int,
    after: int | None = None,
    before: int | None = None,
    types: Collection[str] | None = None,
) -> HistoryPage:
    """Return the first events after `after` or, without it, the last ones (before `before`). Bounds are exclusive.

    Events that cannot be read are left out.
    """
    stream = Stream.objects.state(instance_id)
    upto = stream.last_seq if before is None else min(before - 1, stream.last_seq)
    events = Event.objects.between(instance_id, after or 0, upto).filter(is_heard=True)
    if types:
        events = events.filter(type__in=types)
    seqs, has_more = _first_fitting(events.order_by("-seq") if after is None else events, limit)
    found = events.filter(seq__gte=min(seqs), seq__lte=max(seqs)) if seqs else events.none()
    envelopes = [bytes(event.envelope) for event in readable_events(found.order_by("seq"))]
    return HistoryPage(stream, envelopes, has_more)


def _first_fitting(events: EventQuerySet, limit: int) -> tuple[list[int], bool]:
    """Return the seqs of the first events that fit into a page, and whether there are further ones."""
    # sizes first: a thousand envelopes may not fit into memory
    sizes = list(events.values_list("seq", Length("envelope"))[: limit + 1])
    seqs: list[int] = []
    size = 0
    for seq, length in sizes[:limit]:
        size += length
        if seqs and size > FIND_BYTES:
            break
        seqs.append(seq)
    return seqs, len(seqs) < len(sizes)
