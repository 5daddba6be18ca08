"""The charts of the first page: figures of 24 hours as SVG, with the table of the very figures behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from django.utils import timezone
from django.utils.safestring import SafeString

from instances.admin import admin_url
from instances.models import Subscription
from realtime.admin.overview.hour_filters import AttemptedFilter, OutcomeFilter, RecordedFilter, hour_value
from realtime.admin.overview.svg import Bar, Part, bar_chart, meter, top_of
from realtime.admin.overview.words import clock, day_and_clock, milliseconds, percent, plural, rate
from realtime.counters.figures import EndpointFigures, Figures
from realtime.counters.hours import HOUR, hour_of
from realtime.counters.models import HourTotal
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from realtime.operation.models import Process


@dataclass(frozen=True)
class Cell:
    """A figure, with the URL of the list that it counts; empty where nothing can be listed."""

    text: str
    url: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with its table."""

    key: str
    title: str
    #: The figures above it.
    lead: list[Cell]
    svg: SafeString
    #: The value at the top of the drawing, in words.
    scale: str
    #: Texts below the drawing, from its left to its right.
    axis: list[str]
    #: The parts of each bar, as class and name; empty for one.
    legend: list[tuple[str, str]]
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class RankedEndpoint:
    """A row of the slowest endpoints, with its figures in words."""

    name: Cell
    mean: str
    bar: SafeString
    attempts: Cell
    failed: Cell
    longest: str


def event_chart(figures: Figures) -> Chart:
    """Return the chart of events per minute."""
    per_minute = [row.events / minutes_of(row.hour) for row in figures.hours]
    total = figures.sum("events")
    return _chart(
        "events",
        "Events per minute",
        figures.hours,
        [
            Bar(f"{day_and_clock(row.hour)}: {rate(value)} a minute", [Part(value, "events")])
            for row, value in zip(figures.hours, per_minute, strict=True)
        ],
        rate,
        lead=[
            Cell(f"{rate(per_minute[-1])} a minute now", _events(figures.hours[-1])),
            Cell(f"{total:,} in 24 h", admin_url("changelist", Event, recorded=RecordedFilter.DAY)),
        ],
        columns=["Events", "Per minute"],
        cells=[
            [Cell(f"{row.events:,}", _events(row) if row.events else ""), Cell(rate(value))]
            for row, value in zip(figures.hours, per_minute, strict=True)
        ],
    )


def delivery_chart(figures: Figures) -> Chart:
    """Return the chart of deliveries and failed attempts."""
    delivered, failed, dead = (figures.sum(name) for name in ("delivered", "failed", "dead"))
    day = AttemptedFilter.DAY
    attempts = delivered + failed
    success = f"{percent(delivered / attempts)} succeeded" if attempts else "no attempts in 24 h"
    return _chart(
        "deliveries",
        "Deliveries and failures per hour",
        figures.hours,
        [
            Bar(
                f"{day_and_clock(row.hour)}: {row.delivered:,} delivered, {plural(row.failed, 'failed attempt')}",
                [Part(row.failed, "failed"), Part(row.delivered, "delivered")],
            )
            for row in figures.hours
        ],
        rate,
        lead=[
            Cell(f"{delivered:,} delivered", _deliveries(day, OutcomeFilter.DELIVERED)),
            Cell(plural(failed, "failed attempt"), _deliveries(day, OutcomeFilter.FAILED)),
            Cell(f"{dead:,} given up", admin_url("changelist", Delivery, attempted=day, state__exact="dead")),
            Cell(success),
        ],
        legend=[("delivered", "delivered"), ("failed", "failed attempts")],
        columns=["Delivered", "Failed attempts", "Given up", "Succeeded", "Mean latency", "Longest attempt"],
        cells=[_delivery_cells(row) for row in figures.hours],
    )


def _delivery_cells(row: HourTotal) -> list[Cell]:
    hour = hour_value(row.hour)
    of_dead = admin_url("changelist", Delivery, attempted=hour, state__exact="dead")
    return [
        Cell(f"{row.delivered:,}", _deliveries(hour, OutcomeFilter.DELIVERED) if row.delivered else ""),
        Cell(f"{row.failed:,}", _deliveries(hour, OutcomeFilter.FAILED) if row.failed else ""),
        Cell(f"{row.dead:,}", of_dead if row.dead else ""),
        Cell("-" if row.success_rate is None else percent(row.success_rate)),
        Cell(milliseconds(row.mean_latency_ms)),
        Cell(milliseconds(row.max_latency_ms) if row.attempts else "-"),
    ]


def connection_chart(figures: Figures, now: int, url: str) -> Chart:
    """Return the chart of connections. `now`: those of all running processes; `url`: the list of them."""
    return _chart(
        "connections",
        "Connections",
        figures.hours,
        [
            Bar(f"{day_and_clock(row.hour)}: {row.connections:,} at most", [Part(row.connections, "connections")])
            for row in figures.hours
        ],
        rate,
        lead=[Cell(f"{now:,} now", url), Cell(f"{max(row.connections for row in figures.hours):,} at most in 24 h")],
        columns=["Most at a time"],
        cells=[[Cell(f"{row.connections:,}")] for row in figures.hours],
    )


def lag_chart(figures: Figures, now: int) -> Chart:
    """Return the chart of the relay's lag. `now`: the longest of the running processes, in milliseconds."""
    return _chart(
        "lag",
        "Relay lag",
        figures.hours,
        [
            Bar(f"{day_and_clock(row.hour)}: {milliseconds(row.relay_lag_ms)}", [Part(row.relay_lag_ms, "lag")])
            for row in figures.hours
        ],
        milliseconds,
        lead=[
            Cell(f"{milliseconds(now)} now", admin_url("changelist", Process)),
            Cell(f"{milliseconds(max(row.relay_lag_ms for row in figures.hours))} at most in 24 h"),
        ],
        columns=["Longest from recording an event to emitting it"],
        cells=[[Cell(milliseconds(row.relay_lag_ms))] for row in figures.hours],
    )


def ranking(found: Sequence[EndpointFigures], names: dict[int, str]) -> list[RankedEndpoint]:
    """Return the slowest endpoints. `names`: those that the user may open, by id."""
    top = max((row.mean_ms for row in found), default=0)
    return [
        RankedEndpoint(
            Cell(
                names.get(row.endpoint_id, _name_of_other(row.endpoint_id)),
                admin_url("change", Subscription, row.endpoint_id) if row.endpoint_id in names else "",
            ),
            milliseconds(row.mean_ms),
            meter(row.mean_ms, top),
            Cell(f"{row.attempts:,}", _deliveries(AttemptedFilter.RECENT, endpoint_id=row.endpoint_id)),
            Cell(
                f"{row.failed:,}",
                _deliveries(AttemptedFilter.RECENT, OutcomeFilter.FAILED, endpoint_id=row.endpoint_id)
                if row.failed
                else "",
            ),
            milliseconds(row.max_ms),
        )
        for row in found
    ]


def _name_of_other(endpoint_id: int) -> str:
    return "endpoint of the environment" if endpoint_id <= 0 else f"former endpoint {endpoint_id}"


def _chart(
    key: str,
    title: str,
    hours: Sequence[HourTotal],
    bars: list[Bar],
    words: Callable[[float], str],
    *,
    lead: list[Cell],
    columns: list[str],
    cells: Iterable[list[Cell]],
    legend: Sequence[tuple[str, str]] = (),
) -> Chart:
    values = [bar.value for bar in bars]
    description = (
        f"{len(bars)} bars, one for each hour; the highest is {words(max(values))}, the last {words(values[-1])}."
    )
    axis = [clock(row.hour) for row in hours[:: len(hours) // 4]]
    return Chart(
        key,
        title,
        lead,
        bar_chart(f"chart-{key}", f"{title}, last {len(bars)} hours", description, bars),
        words(top_of(bars)),
        [*axis, "now"],
        list(legend),
        ["Hour (UTC)", *columns],
        # the latest hour first
        [[Cell(day_and_clock(row.hour)), *of_hour] for row, of_hour in zip(hours, cells, strict=True)][::-1],
    )


def minutes_of(hour: int) -> float:
    """Return the minutes of an hour that have passed."""
    now = timezone.now()
    if hour < hour_of(now):
        return 60
    return max((now.timestamp() - hour * HOUR) / 60, 1)


def _events(row: HourTotal) -> str:
    return admin_url("changelist", Event, recorded=hour_value(row.hour))


def _deliveries(attempted: str, outcome: str = "", **query: object) -> str:
    outcomes = {"outcome": outcome} if outcome else {}
    return admin_url("changelist", Delivery, attempted=attempted, **outcomes, **query)
