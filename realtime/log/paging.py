"""Pages of the log for sockets and event streams: the next events of one instance, or of all.

A page holds REPLAY_PAGE_EVENTS and REPLAY_PAGE_BYTES at most, but one event at least, whatever it was asked for. An
event that cannot be read has its place in the page, so that the others are sent and it is known to be missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import QuerySet

from instances.bounds import REPLAY_PAGE_BYTES, REPLAY_PAGE_EVENTS
from instances.sql import database_id
from instances.unreadable import readable, unreadable
from realtime.envelope import check
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.stream import Stream


class Page(NamedTuple):
    """A page of the log: events and UnreadableEvents, each with the position after it; the position after the page."""

    entries: Sequence[tuple[Any, Any]]
    end: Any
    has_more: bool


class EventHead(NamedTuple):
    """An event of the log without its envelope."""

    pk: int
    #: None for a row whose instance or seq is none.
    instance_id: uuid.UUID | None
    seq: int
    type: str
    #: Bytes of the envelope.
    size: int


class UnreadableEvent(NamedTuple):
    """An event that cannot be read, or is not found where it was."""

    #: Its row; None if that is not known.
    pk: int | None
    #: None if it is not known.
    instance_id: uuid.UUID | None
    #: 0 without `instance_id`.
    seq: int
    #: Empty if it is not known.
    type: str = ""


def page_of_instance(instance_id: uuid.UUID, after: int, upto: int) -> Page:
    """Return the next events of an instance with after < seq <= upto."""
    key = database_id(instance_id)
    heads, has_more = _first("instance_id = %s AND seq > %s AND seq <= %s ORDER BY seq", (key, after, upto))
    end = heads[-1].seq if has_more else upto
    entries = [(event.seq, event) for event in _events(heads)]
    if len(heads) < end - after:
        entries += _missing(instance_id, after, end, {head.seq for head in heads})
        entries.sort(key=lambda entry: entry[0])
    return Page(entries, end, has_more)


def _missing(instance_id: uuid.UUID, after: int, end: int, found: Collection[int]) -> list[tuple[int, UnreadableEvent]]:
    """Return the events that are not there although they were not pruned: their rows may be damaged."""
    first = Stream.objects.filter(pk=instance_id).values_list("first_seq", flat=True).first()
    if first is None:
        return []
    begin = max(after + 1, first, end - REPLAY_PAGE_EVENTS)
    return [(seq, UnreadableEvent(None, instance_id, seq)) for seq in range(begin, end + 1) if seq not in found]


def page_of_all(cursor: Cursor, upto: Cursor | None = None, with_envelopes: bool = True) -> Page:
    """Return the next events of all instances, not beyond `upto`, or EventHeads where no envelopes are wanted.

    Events above the horizon are left for a later page, since others may still be committed before them.
    """
    horizon = upto.high if upto else Event.objects.horizon()
    windows = [cursor, Cursor(cursor.high, horizon, 0)] if cursor.high < horizon else [cursor]
    entries: list[tuple[Cursor, Any]] = []
    for window in windows:
        heads, has_more = _first_of_window(window, upto, [event for _, event in entries])
        events: Iterable[Any] = _events(heads) if with_envelopes else map(_known, heads)
        entries += [(window._replace(row=event.pk), event) for event in events]
        if has_more:
            return Page(entries, window._replace(row=heads[-1].pk) if heads else window, has_more)
    return Page(entries, upto or window._replace(row=heads[-1].pk if heads else window.row), has_more)


def _first_of_window(window: Cursor, upto: Cursor | None, before: list[Any]) -> tuple[list[EventHead], bool]:
    """Return the first events of a window that fit into a page behind those `before`, and whether there are more."""
    rows = rows_of(window)
    if rows is None:
        return [], False
    where, parameters = rows
    if upto:
        where += " AND (transaction_id + 0 < %s OR (transaction_id + 0 < %s AND id <= %s))"
        parameters += upto
    return _first(f"{where} ORDER BY id", parameters, before)


def rows_of(window: Cursor) -> tuple[str, list[int]] | None:
    """Return the SQL condition, with its parameters, of the events of a window that are not passed; None for none."""
    if connection.vendor != "postgresql":
        return "id > %s", [window.row]
    first, last = _rows_of_window(window.low, window.high)
    if last <= window.row:
        return None
    # walked in the order of rows, from the first of the window to its last: each page goes on where the one before
    # ended. Adding 0 keeps the planner from reading the complete window by its transactions, and sorting it.
    where = "id > %s AND id <= %s AND transaction_id + 0 >= %s AND transaction_id + 0 < %s"
    return where, [max(window.row, first - 1), last, window.low, window.high]


@lru_cache(maxsize=1000)
def _rows_of_window(low: int, high: int) -> tuple[int, int]:
    """Return the first and the last row of the transactions from `low` to below `high`; 1 and 0 where there is none.

    It is cached, as all these transactions have ended. Only the index is read.
    """
    if low >= high:
        return 1, 0
    with connection.cursor() as cursor:
        # COUNT keeps the planner from walking the index of rows instead, from the beginning of the log
        cursor.execute(
            """
            SELECT MIN(id), MAX(id), COUNT(*) FROM realtime_event WHERE transaction_id >= %s AND transaction_id < %s
            """,
            [low, high],
        )
        first, last, count = cursor.fetchone()
        return (first, last) if count else (1, 0)


def _first(where: str, parameters: Sequence[Any], before: Sequence[Any] = ()) -> tuple[list[EventHead], bool]:
    """Return the first events that fit into a page behind those `before`, and whether there are more."""
    count = REPLAY_PAGE_EVENTS - len(before)
    with connection.cursor() as cursor:
        # sizes first, and no ORM: thousands may read a page at once
        cursor.execute(
            f"SELECT id, instance_id, seq, type, LENGTH(envelope) FROM realtime_event WHERE {where} LIMIT %s",  # noqa: S608
            [*parameters, count + 1],
        )
        rows = cursor.fetchall()
    size = sum(_size(event) for event in before)
    heads: list[EventHead] = []
    for pk, instance_id, seq, event_type, length in rows[:count]:
        size += length
        if size > REPLAY_PAGE_BYTES and (heads or before):
            break
        heads.append(EventHead(pk, *_place(pk, instance_id, seq), event_type, length))
    return heads, len(heads) < len(rows)


def _size(event: Any) -> int:
    return len(event.envelope) if isinstance(event, Event) else getattr(event, "size", 0)


def _place(pk: int, instance_id: Any, seq: Any) -> tuple[uuid.UUID | None, int]:
    """Return instance and seq of a row; None and 0 if they are none, as SQLite takes any text."""
    try:
        return instance_id if isinstance(instance_id, uuid.UUID) else uuid.UUID(instance_id), int(seq)
    except ValueError:
        readable_events(Event.objects.filter(pk=pk))  # which keeps it in mind
        return None, 0


def _known(head: EventHead) -> EventHead | UnreadableEvent:
    return head if head.instance_id else UnreadableEvent(head.pk, None, 0, head.type)


def _events(heads: Sequence[EventHead]) -> list[Event | UnreadableEvent]:
    """Return the events of these heads, without those that were pruned meanwhile."""
    if not heads:
        return []
    found = {event.pk: event for event in readable_events(Event.objects.filter(pk__in=[head.pk for head in heads]))}
    events: list[Event | UnreadableEvent] = []
    for head in heads:
        if head.pk in found:
            events.append(found[head.pk])
        elif (Event, head.pk) in unreadable:
            events.append(UnreadableEvent(head.pk, head.instance_id, head.seq, head.type))
    return events


def readable_events(rows: QuerySet[Event]) -> list[Event]:
    """Return events without those that cannot be read, or whose envelopes are none."""
    return readable(rows, check=lambda event: check(event.envelope))
