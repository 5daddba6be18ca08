"""Pages of events and of attempts to count, of a bounded number of rows, without envelopes and bodies.

The statements read only what no damaged row can make a driver refuse: hours as numbers, texts of SQLite as bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from django.db import connection, transaction

from instances.bounds import COUNTED_PAGE_EVENTS
from instances.events import EventType
from realtime.counters.models import MAX_ERROR
from realtime.delivery.models import State
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.paging import rows_of


class EventRow(NamedTuple):
    """An event to count."""

    pk: int
    #: None for a value that is none.
    instance_id: uuid.UUID | None
    #: Seconds since 1970; None for a time that is none; it may be any number.
    time: float | None
    is_drop_notice: bool
    is_connection_update: bool


class CountedAttempt(NamedTuple):
    """An attempt to count, with what is known of its delivery."""

    pk: int
    endpoint_id: int
    #: None for an endpoint of all instances, and for a value that is none.
    instance_id: uuid.UUID | None
    #: As that of an EventRow.
    time: float | None
    duration_ms: int
    is_delivered: bool
    #: True for the last attempt of a delivery that was given up.
    is_dead: bool
    #: A few words about the failure; empty for a success.
    error: str


class EventPage(NamedTuple):
    """Events, the position after them, and whether there may be more of them."""

    rows: list[EventRow]
    end: Cursor
    has_more: bool


def seconds_sql(column: str) -> str:
    """Return SQL for a time in seconds since 1970, as a number or NULL."""
    if connection.vendor == "postgresql":
        return f"EXTRACT(EPOCH FROM {column})::float8"
    return f"CAST(strftime('%%s', {column}) AS INTEGER)"


@contextmanager
def _walking() -> Iterator[Any]:
    """Yield a database cursor whose pages are read in the order of an index, up to their last row and no further.

    PostgreSQL might read all that is left instead, and sort it, while it has no statistics of a table that was filled.
    """
    is_postgres = connection.vendor == "postgresql"
    with transaction.atomic() if is_postgres else nullcontext(), connection.cursor() as cursor:
        if is_postgres:
            cursor.execute("SET LOCAL enable_sort = off")
        yield cursor


def next_events(cursor: Cursor) -> EventPage:
    """Return the next events of all instances, in the order of their transactions' commits.

    Events above the horizon are left for a later page, since others may still be committed before them.
    """
    horizon = Event.objects.horizon()
    windows = [cursor, Cursor(cursor.high, horizon, 0)] if cursor.high < horizon else [cursor]
    rows: list[EventRow] = []
    for window in windows:
        count = COUNTED_PAGE_EVENTS - len(rows)
        found = _events_of_window(window, count)
        rows += found
        if len(found) == count:
            return EventPage(rows, window._replace(row=found[-1].pk), True)
    return EventPage(rows, window._replace(row=found[-1].pk) if found else window, False)


def _events_of_window(window: Cursor, count: int) -> list[EventRow]:
    condition = rows_of(window)
    if condition is None:
        return []
    where, parameters = condition
    instance = "instance_id" if connection.vendor == "postgresql" else "CAST(instance_id AS BLOB)"
    statement = (
        f"SELECT id, {instance}, {seconds_sql('created_at')}, "  # noqa: S608
        "CASE type WHEN %s THEN 1 WHEN %s THEN 2 ELSE 0 END "
        f"FROM realtime_event WHERE {where} ORDER BY id LIMIT %s"
    )
    with _walking() as cursor:
        types = (EventType.DELIVERIES_DROPPED.value, EventType.CONNECTION_UPDATE.value)
        cursor.execute(statement, [*types, *parameters, count])
        found = cursor.fetchall()
    ids = _Ids()
    return [EventRow(pk, ids[key], seconds, kind == 1, kind == 2) for pk, key, seconds, kind in found]


def next_attempts(after: int, upto: int) -> list[CountedAttempt]:
    """Return the first attempts with after < id <= upto. Those whose deliveries are gone are left out."""
    instance, error = "d.instance_id", f"SUBSTR(a.error, 1, {MAX_ERROR})"
    if connection.vendor != "postgresql":
        instance, error = f"CAST({instance} AS BLOB)", f"CAST({error} AS BLOB)"
    statement = f"""
        SELECT a.id, d.endpoint_id, CASE WHEN d.is_operators THEN NULL ELSE {instance} END, {seconds_sql("a.at")},
               a.duration_ms, a.status, {error},
               CASE WHEN a.number = d.attempts AND d.state = %s THEN 1 ELSE 0 END,
               CASE WHEN a.number = d.attempts AND d.state = %s THEN 1 ELSE 0 END
        FROM realtime_attempt AS a JOIN realtime_delivery AS d ON d.id = a.delivery_id
        WHERE a.id > %s AND a.id <= %s ORDER BY a.id LIMIT %s
        """  # noqa: S608 (nothing of it is input)
    with _walking() as cursor:
        cursor.execute(statement, [State.DELIVERED.value, State.DEAD.value, after, upto, COUNTED_PAGE_EVENTS])
        found = cursor.fetchall()
    ids = _Ids()
    return [_attempt(ids, *row) for row in found]


def _attempt(
    ids: _Ids,
    pk: int,
    endpoint_id: int,
    instance: Any,
    seconds: float | None,
    duration: Any,
    status: Any,
    error: Any,
    has_delivered: int,
    is_dead: int,
) -> CountedAttempt:
    text = error.decode(errors="replace") if isinstance(error, bytes) else error or ""
    has_success = isinstance(status, int) and 200 <= status < 300
    is_delivered = bool(has_delivered) or (not text and (status is None or has_success) and not is_dead)
    cause = "" if is_delivered else " ".join(filter(None, (f"HTTP {status}" if status else "", text)))[:MAX_ERROR]
    milliseconds = max(duration, 0) if isinstance(duration, int) else 0
    return CountedAttempt(pk, endpoint_id, ids[instance], seconds, milliseconds, is_delivered, bool(is_dead), cause)


class _Ids(dict[Any, uuid.UUID | None]):
    """The ids of instances by what the database has, each converted once; None for what is no id."""

    def __missing__(self, value: Any) -> uuid.UUID | None:
        found = value if isinstance(value, uuid.UUID) else None
        if isinstance(value, bytes):
            try:
                found = uuid.UUID(value.decode("ascii"))
            except ValueError:
                found = None
        self[value] = found
        return found
