"""Problems that the server has now, as sentences, each with the link to the list where it is mended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, F, IntegerField, Q, Sum, Value, When, Window
from django.db.models.functions import RowNumber
from django.urls import reverse
from django.utils import timezone

from instances.admin import admin_url
from instances.models import Instance, Subscription
from instances.models.instance import ConnectionState
from realtime.admin.overview.hour_filters import AttemptedFilter, RecordedFilter
from realtime.admin.overview.pending import MAX_COUNTED, Pending
from realtime.admin.overview.words import age, milliseconds, plural
from realtime.counters.figures import Figures, connection_updated_sql, last_error
from realtime.counters.hours import time_of
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from realtime.operation.models import Process

#: Examples of a problem that are listed.
MAX_EXAMPLES = 5
#: The age of a pending delivery, and the lag of a relay in milliseconds, from which they are a problem.
OLD, LATE_MS = timedelta(minutes=2), 1000
#: The time for which the failure of a loop is shown, and after which counters have stopped.
RECENT, STOPPED = timedelta(minutes=10), timedelta(minutes=2)
#: The use of the page of failures by cause, as a continuation of its name.
RETRY = "sends those of one cause again"
#: The part of the disk, and its bytes, below which little is free.
FREE_PART, FREE_BYTES = 0.05, 1024**3


class Gravity(IntEnum):
    """The gravity of a problem; the page shows the highest first. Its name is the class in `realtime/overview.css`."""

    NOTICE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True)
class ProblemExample:
    """One of the things that a problem is about."""

    name: str
    url: str
    text: str
    #: A figure with the list that it counts.
    figure: str = ""
    figure_url: str = ""


@dataclass(frozen=True)
class Problem:
    gravity: Gravity
    text: str
    url: str
    examples: list[ProblemExample] = field(default_factory=list)
    #: The number of further examples.
    more: int = 0
    #: An instruction, where the link does not say what to do.
    cure: str = ""


def of_instances(instances: Any) -> Iterator[Problem]:
    """Yield the instances that are not open and the weak tokens among these instances, by one query."""
    is_closed = ~Q(connection_state=ConnectionState.OPEN)
    is_weak = Q(has_short_token=True) | Q(has_shared_token=True)
    selected = (
        instances.with_token_strength()
        .filter(is_closed | is_weak)
        .annotate(
            is_closed=_one_if(is_closed),
            closed=_sum_of(is_closed),
            logged_out=_sum_of(is_closed & Q(logged_out_at__isnull=False)),
            weak=_sum_of(is_weak),
        )
        .order_by("-is_closed", F("logged_out_at").desc(nulls_last=True), "name")
        .only("name", "connection_state", "logged_out_at")
    )[:MAX_EXAMPLES]
    sql, parameters = selected.query.sql_with_params()
    rows: list[Any] = list(
        Instance.objects.raw(
            f"WITH shown AS ({sql}) SELECT shown.*, ({connection_updated_sql('shown.id')}) AS updated FROM shown",  # noqa: S608
            parameters,
        )
    )
    if not rows:
        return
    closed = [row for row in rows if row.is_closed]
    closed.sort(key=lambda row: (-row.logged_out_at.timestamp() if row.logged_out_at else 0, row.name))
    if closed:
        out = f", {rows[0].logged_out:,} of them logged out" if rows[0].logged_out else ""
        yield Problem(
            Gravity.ERROR,
            f"{plural(rows[0].closed, 'instance is', 'instances are')} not connected{out}",
            admin_url("changelist", Instance, connection_state__in="close,connecting"),
            [_closed_example(row) for row in closed],
            rows[0].closed - len(closed),
        )
    if rows[0].weak:
        yield Problem(
            Gravity.NOTICE,
            f"{plural(rows[0].weak, 'instance has a weak token', 'instances have weak tokens')}, short or shared",
            admin_url("changelist", Instance, token_strength="weak"),  # noqa: S106
            cure="Rotate them: a token gives full access to its instance.",
        )


def _one_if(condition: Q) -> Case:
    return Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField())


def _sum_of(condition: Q) -> Window:
    return Window(Sum(_one_if(condition)))


def _closed_example(row: Any) -> ProblemExample:
    since = row.logged_out_at or time_of(row.updated)
    state = "logged out" if row.logged_out_at else {"close": "closed"}.get(row.connection_state, "connecting")
    return ProblemExample(
        row.name, admin_url("change", Instance, row.pk), f"{state} for {age(since)}" if since else state
    )


class Endpoints:
    """The endpoints that fail, those that the server switched off, and the names of some others, by one query."""

    def __init__(self, endpoints: Any, others: Sequence[int]) -> None:
        is_failing = Q(is_enabled=True, failing_since__isnull=False)
        is_off = Q(is_enabled=False) & ~Q(disabled_reason="")
        kind = Case(When(is_failing, then=Value("failing")), When(is_off, then=Value("off")), default=Value(""))
        columns = ("pk", "transport", "instance__name", "failing_since", "disabled_reason", "kind", "number", "count")
        rows = list(
            endpoints.filter(is_failing | is_off | Q(pk__in=others))
            .annotate(
                kind=kind,
                count=Window(Count("pk"), partition_by=[kind]),
                number=Window(RowNumber(), partition_by=[kind], order_by=["failing_since", "pk"]),
                error=last_error(),
            )
            .filter(Q(number__lte=MAX_EXAMPLES) | Q(pk__in=others))
            .order_by("number")
            .values_list(*columns, "error", named=True)
        )
        self.failing, self.off = (
            [row for row in rows if row.kind == kind and row.number <= MAX_EXAMPLES] for kind in ("failing", "off")
        )
        self.names = {row.pk: _endpoint_name(row) for row in rows}

    def problems(self, waiting: Mapping[int, int]) -> Iterator[Problem]:
        """Yield the endpoints that fail, each with the deliveries that wait for it, and those that are off."""
        if self.failing:
            count = self.failing[0].count
            yield Problem(
                Gravity.ERROR,
                plural(count, "endpoint fails", "endpoints fail"),
                admin_url("changelist", Subscription, state="failing"),
                [_failing_example(row, waiting.get(row.pk, 0)) for row in self.failing],
                count - len(self.failing),
            )
        if self.off:
            count = self.off[0].count
            yield Problem(
                Gravity.WARNING,
                f"{plural(count, 'endpoint was', 'endpoints were')} switched off by the server",
                admin_url("changelist", Subscription, state="disabled"),
                [
                    ProblemExample(_endpoint_name(row), admin_url("change", Subscription, row.pk), row.disabled_reason)
                    for row in self.off
                ],
                count - len(self.off),
            )


def _failing_example(row: Any, waiting: int) -> ProblemExample:
    url = admin_url("changelist", Delivery, endpoint_id=row.pk, state__exact=State.PENDING.value)
    error = f": {row.error}" if row.error else ""
    return ProblemExample(
        _endpoint_name(row),
        admin_url("change", Subscription, row.pk),
        f"for {age(row.failing_since)}{error}",
        f"{waiting:,} waiting" if waiting else "",
        url if waiting else "",
    )


def _endpoint_name(row: Any) -> str:
    return f"{row.transport} {row.pk} of {row.instance__name or 'all instances'}"


def of_deliveries(pending: Pending, figures: Figures) -> Iterator[Problem]:
    """Yield deliveries that wait for long, and those that were given up or dropped in the last day."""
    if pending.oldest and pending.oldest < timezone.now() - OLD:
        count = f"More than {MAX_COUNTED:,}" if pending.number > MAX_COUNTED else f"{pending.number:,}"
        verb = "delivery waits" if pending.number == 1 else "deliveries wait"
        yield Problem(
            Gravity.WARNING,
            f"{count} {verb}, the oldest for {age(pending.oldest)}",
            admin_url("changelist", Delivery, state__exact=State.PENDING.value),
        )
    if dead := figures.sum("dead"):
        yield Problem(
            Gravity.WARNING,
            f"{plural(dead, 'delivery was', 'deliveries were')} given up in the last 24 hours",
            admin_url("changelist", Delivery, attempted=AttemptedFilter.DAY, state__exact=State.DEAD.value),
            [ProblemExample("Failures by cause", reverse("admin:realtime_delivery_failures"), RETRY)],
        )


def of_drops(figures: Figures) -> Iterator[Problem]:
    """Yield that deliveries were dropped in the last day, because too many were pending."""
    if notices := figures.sum("drop_notices"):
        hours = "one hour" if notices == 1 else f"{notices:,} hours"
        yield Problem(
            Gravity.ERROR,
            f"Deliveries were dropped in the last 24 hours, as too many were pending: in {hours} of an instance",
            admin_url("changelist", Event, recorded=RecordedFilter.DAY, type="deliveries.dropped"),
        )


def of_processes(processes: Sequence[Process], counted_at: datetime | None) -> Iterator[Problem]:
    """Yield processes that are gone, loops that fail, rows that are left out, and counters that have stopped."""
    running = [process for process in processes if process.is_running]
    for process in processes:
        url = admin_url("change", Process, process.pk)
        if process not in running:
            how = process.ended or f"gone without a word for {age(process.seen_at)}"
            yield Problem(Gravity.ERROR if not running else Gravity.WARNING, f"{_capital(process)}: {how}", url)
            continue
        for loop in process.loop_states:
            if loop.failed_at and loop.failed_at > timezone.now() - RECENT:
                text = f"The loop “{loop.name}” of {process} failed {age(loop.failed_at)} ago: {loop.error}"
                yield Problem(Gravity.ERROR, text, url)
        if process.set_aside:
            number = plural(len(process.set_aside), "row or endpoint", "rows or endpoints")
            yield Problem(Gravity.ERROR, f"{_capital(process)} leaves out {number} that cannot be read, or fail", url)
        if process.relay_lag_ms > LATE_MS:
            text = f"{_capital(process)} emits events late, by {milliseconds(process.relay_lag_ms)}"
            yield Problem(Gravity.WARNING, text, url)
    if processes and not any(loop.name == "delivery claims" for each in running for loop in each.loop_states):
        yield Problem(
            Gravity.ERROR,
            "No process sends deliveries",
            admin_url("changelist", Process),
            cure="Start manage.py deliver, or the server with DELIVERY_EMBEDDED=true.",
        )
    if counted_at and counted_at < timezone.now() - STOPPED:
        text = f"The counters have stopped: the charts are {age(counted_at)} old"
        yield Problem(Gravity.WARNING, text, admin_url("changelist", Process))


def _capital(process: Process) -> str:
    text = str(process)
    return text[:1].upper() + text[1:]


def of_disk() -> Iterator[Problem]:
    """Yield that the disk of DATA_DIR is nearly full."""
    disk = shutil.disk_usage(settings.DATA_DIR)
    if disk.free < max(FREE_BYTES, FREE_PART * disk.total) and disk.free < 20 * FREE_BYTES:
        yield Problem(
            Gravity.ERROR if disk.free < FREE_BYTES else Gravity.WARNING,
            f"The disk of the server's data is nearly full: {disk.free / 1024**3:,.1f} GiB are free",
            admin_url("changelist", Process),
            cure="Make room, or set EVENT_RETENTION_HOURS lower.",
        )
