"""Pages of an instance's log: the envelopes of its events for sockets, byte for byte."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Length

from instances.bounds import FIND_BYTES
from realtime.log.cursor import Cursor
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


#: Rows of the log that are looked through for a page of all instances' events: sockets may receive few of them.
LOOKED_THROUGH = 20_000


@dataclass(frozen=True)
class GlobalPage:
    """Events of all instances, the oldest first."""

    envelopes: list[bytes]
    #: The row before which the events before these are found; None where there are none.
    older: int | None


def last_events_of_all(limit: int, upto: Cursor, before: int | None = None) -> GlobalPage:
    """Return the last events for sockets up to a position in the order of all events; with `before`, below that row.

    Events that cannot be read are left out.
    """
    rows = Event.objects.past(upto)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return GlobalPage([], None)
    floor = newest - LOOKED_THROUGH
    heard = rows.filter(pk__gt=floor, is_heard=True).order_by("-pk")
    pks: list[int] = []
    size = 0
    for pk, length in heard.values_list("pk", Length("envelope"))[:limit]:
        size += length
        if pks and size > FIND_BYTES:
            break
        pks.append(pk)
    is_end = len(pks) < limit and size <= FIND_BYTES  # all of these rows were looked through
    oldest = floor + 1 if is_end else pks[-1]
    has_older = Event.objects.filter(pk__lt=oldest).exists()
    found = readable_events(Event.objects.filter(pk__in=pks).order_by("pk"))
    return GlobalPage([bytes(event.envelope) for event in found], oldest if has_older else None)
