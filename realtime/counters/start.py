"""The position from which an installation begins to count: the last FIRST_HOURS, however old the log is."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.utils import timezone

from realtime.counters.hours import HOUR, this_hour
from realtime.counters.models import CounterPosition
from realtime.counters.pages import seconds_sql
from realtime.log.models import Event

#: Hours that are counted of a log that was written before, without the current one.
FIRST_HOURS = 24


def first_position() -> CounterPosition:
    """Return the position at the beginning of the first hour to count, not saved."""
    hour = this_hour() - FIRST_HOURS
    horizon = Event.objects.horizon()
    row = _first_row("realtime_event", "created_at", hour)
    low = 0
    if connection.vendor == "postgresql" and row > 1:
        # a window that begins there, so that its rows are found without reading the complete index
        found = Event.objects.filter(pk__gte=row).order_by("pk").values_list("transaction_id", flat=True).first()
        low = horizon if found is None else min(found, horizon)
    attempt = _first_row("realtime_attempt", "at", hour)
    return CounterPosition(
        pk=CounterPosition.ID, low=low, high=horizon, row=row - 1, attempt=attempt - 1, counted_at=timezone.now()
    )


def _first_row(table: str, column: str, hour: int) -> int:
    """Return an id of which all rows below are older than this hour, by bisection: ids follow the time nearly."""
    low, high = _one(f"SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) + 1 FROM {table}")  # noqa: S608
    while low < high:
        middle = (low + high) // 2
        found = _one(
            f"SELECT id, {seconds_sql(column)} FROM {table} WHERE id >= %s ORDER BY id LIMIT 1",  # noqa: S608
            middle,
        )
        if found is None or (found[1] is not None and found[1] >= hour * HOUR):
            high = middle
        else:
            low = found[0] + 1
    return low


def _one(statement: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values) or None)
        return cursor.fetchone()
