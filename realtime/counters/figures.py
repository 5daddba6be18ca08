"""Figures of the hourly counts, for charts and lists: of everything, or of some instances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import F, FloatField, IntegerField, Max, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Cast

from instances.sql import database_id
from realtime.counters.hours import time_of
from realtime.counters.models import CounterPosition, EndpointHour, HourTotal, InstanceHour
from realtime.counters.pages import seconds_sql

#: Ids of instances: a subquery, or those that were read.
Ids = QuerySet[Any, UUID] | Collection[UUID]

_COUNTS = ("events", "drop_notices", "delivered", "failed", "dead", "latency_ms", "max_latency_ms")


class Figures(NamedTuple):
    """The counts of some hours."""

    #: One for each hour in order, also for those in which nothing was counted; they are not saved.
    hours: list[HourTotal]
    #: The time up to which everything was counted; None where that was not read, or nothing was counted.
    counted_at: datetime | None = None

    def sum(self, name: str) -> int:
        """Return the sum of a column over the hours."""
        return sum(getattr(hour, name) for hour in self.hours)


class EndpointFigures(NamedTuple):
    """The attempts to an endpoint in some hours."""

    endpoint_id: int
    #: One at least.
    attempts: int
    failed: int
    #: Milliseconds of an attempt, on average and at most.
    mean_ms: float
    max_ms: int

    @property
    def success_rate(self) -> float:
        """The part of the attempts that succeeded, from 0 to 1."""
        return 1 - self.failed / self.attempts


def figures_of_all(hours: range) -> Figures:
    """Return the counts of all instances, endpoints and processes together, by one query."""
    counted_at = Subquery(CounterPosition.objects.filter(pk=CounterPosition.ID).values("counted_at"))
    found = {row.hour: row for row in _within(HourTotal.objects, hours).annotate(counted_at=counted_at)}
    times = [row.counted_at for row in found.values()]
    return Figures([found.get(hour) or HourTotal(hour=hour) for hour in hours], times[0] if times else None)


def figures_of_instances(hours: range, ids: Ids) -> Figures:
    """Return the counts of some instances and of their own endpoints, by one query."""
    zero = Value(0, IntegerField())
    of_instances = _within(InstanceHour.objects, hours).filter(instance_id__in=ids).values("hour").order_by()
    of_endpoints = _within(EndpointHour.objects, hours).filter(instance_id__in=ids).values("hour").order_by()
    events = of_instances.annotate(
        **{f"{name}_": Sum(name) if name in ("events", "drop_notices") else zero for name in _COUNTS}
    )
    attempts = of_endpoints.annotate(
        **{
            f"{name}_": zero
            if name in ("events", "drop_notices")
            else (Max(name) if name == "max_latency_ms" else Sum(name))
            for name in _COUNTS
        }
    )
    rows = {hour: HourTotal(hour=hour) for hour in hours}
    for found in events.union(attempts, all=True):
        row = rows[found["hour"]]
        for name in _COUNTS:
            setattr(row, name, getattr(row, name) + found[f"{name}_"])
    return Figures(list(rows.values()))


def events_by_instance(hours: range, ids: Collection[UUID]) -> dict[UUID, list[int]]:
    """Return the events of each of these instances, a number for each hour in order, by one query."""
    counts = {pk: [0] * len(hours) for pk in ids}
    rows = _within(InstanceHour.objects, hours).filter(instance_id__in=list(counts))
    for pk, hour, events in rows.order_by().values_list("instance_id", "hour", "events"):
        counts[pk][hour - hours.start] = events
    return counts


def slowest_endpoints(hours: range, count: int, ids: Ids | None = None) -> list[EndpointFigures]:
    """Return the endpoints whose attempts took longest on average; with `ids`, of those instances alone."""
    rows = _within(EndpointHour.objects, hours)
    if ids is not None:
        rows = rows.filter(instance_id__in=ids)
    return [EndpointFigures(*row) for row in _figures(rows).order_by("-mean", "endpoint_id")[:count]]


def figures_of_endpoints(hours: range, endpoint_ids: Collection[int]) -> dict[int, EndpointFigures]:
    """Return the attempts to these endpoints, by one query; endpoints without any are left out."""
    rows = _within(EndpointHour.objects, hours).filter(endpoint_id__in=endpoint_ids)
    return {row[0]: EndpointFigures(*row) for row in _figures(rows)}


def _figures(rows: QuerySet[EndpointHour]) -> Any:
    """Return the values of EndpointFigures for each endpoint that has attempts in these rows."""
    sums = (
        rows.order_by()
        .values("endpoint_id")
        .annotate(
            tries=Sum(F("delivered") + F("failed")),
            failures=Sum("failed"),
            time=Sum("latency_ms"),
            longest=Max("max_latency_ms"),
        )
    )
    means = sums.filter(tries__gt=0).annotate(mean=Cast(F("time"), FloatField()) / F("tries"))
    return means.values_list("endpoint_id", "tries", "failures", "mean", "longest")


def last_error(endpoint: str = "pk") -> Subquery:
    """Return an expression for the last error that was counted of an endpoint, whose id the query has by this name."""
    rows = EndpointHour.objects.filter(endpoint_id=OuterRef(endpoint)).exclude(last_error="").order_by("-hour")
    return Subquery(rows.values("last_error")[:1])


def connection_updated_sql(instance_id: str) -> str:
    """Return SQL for the last event connection.update of an instance, in seconds since 1970, or NULL."""
    return f"SELECT MAX(h.connection_updated) FROM realtime_instancehour AS h WHERE h.instance_id = {instance_id}"  # noqa: S608


def last_events(ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return the time of the last event of instances that have one which is kept."""
    keys = {database_id(pk): pk for pk in ids}
    if not keys:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.instance_id, (SELECT {seconds_sql("e.created_at")} FROM realtime_event AS e
                                   WHERE e.instance_id = s.instance_id AND e.seq = s.last_seq)
            FROM realtime_stream AS s WHERE s.instance_id IN ({", ".join(["%s"] * len(keys))})
            """,  # noqa: S608 (nothing of it is input)
            list(keys),
        )
        times = [(keys[key], time_of(seconds)) for key, seconds in cursor.fetchall()]
    return {pk: time for pk, time in times if time is not None}


class RowRange(NamedTuple):
    """The first and the last row that were counted in some hours; rows of other hours may be among them."""

    first: int
    last: int


def event_rows(hours: range) -> RowRange | None:
    """Return the events of some hours; None without any."""
    return _row_range(hours, "first_event", "last_event")


def attempt_rows(hours: range) -> RowRange | None:
    """Return the attempts of some hours; None without any."""
    return _row_range(hours, "first_attempt", "last_attempt")


def _row_range(hours: range, first: str, last: str) -> RowRange | None:
    rows = _within(HourTotal.objects, hours).values_list(first, last)
    found = [row for row in rows if row[0] is not None]
    return RowRange(min(low for low, _ in found), max(high for _, high in found)) if found else None


def _within(rows: Any, hours: range) -> Any:
    return rows.filter(Q(hour__gte=hours.start, hour__lt=hours.stop))
