"""Filters of events and deliveries by the hours of the counters, to which the figures of the first page link.

They find rows by the ids that were counted in these hours, since times have no index in tables of millions of rows; a
few rows of the hour before or after may be among them. They are shown only where they are in use: the links set them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest

from instances.bounds import COUNTED_HOURS
from realtime.admin.overview.words import day_and_clock
from realtime.counters.figures import attempt_rows, event_rows
from realtime.counters.hours import hour_of, last_hours, start_of, this_hour
from realtime.delivery.models import Attempt

#: Hours of a day with the current one, and those of which the slowest endpoints are shown: of more, the attempts to
#: 10,000 endpoints take too long to sum up.
DAY_HOURS, SLOW_HOURS = 24, 6


def hour_value(hour: int) -> str:
    """Return the value of a filter for one hour: "2026-11-29T05"."""
    return f"{start_of(hour):%Y-%m-%dT%H}"


class LinkedFilter(admin.SimpleListFilter):
    """A filter without choices, shown where a link has set it, with a way to leave it out."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.used_parameters.get(self.parameter_name or "")
        return [(value, self.text(value))] if isinstance(value, str) and self.text(value) else []

    def text(self, value: str) -> str:
        """Return a value in words; an empty text for one that is none."""
        raise NotImplementedError


class HoursFilter(LinkedFilter):
    """A filter by the last day, by the last SLOW_HOURS, or by one hour."""

    DAY, RECENT = "24h", f"{SLOW_HOURS}h"

    def text(self, value: str) -> str:
        hours = self._hours(value)
        if hours is None:
            return ""
        if len(hours) > 1:
            return f"in the last {len(hours)} hours"
        return f"{day_and_clock(hours.start)} to {hours.stop % 24:02}:00 UTC"

    def hours(self) -> range | None:
        """Return the hours that are selected; None without the filter, and for what is none."""
        return self._hours(self.value() or "")

    def _hours(self, value: str) -> range | None:
        if value in (self.DAY, self.RECENT):
            return last_hours(DAY_HOURS if value == self.DAY else SLOW_HOURS)
        try:
            hour = hour_of(datetime.strptime(value, "%Y-%m-%dT%H").replace(tzinfo=UTC))
        except ValueError:
            return None
        return range(hour, hour + 1) if this_hour() - COUNTED_HOURS < hour <= this_hour() else None


class RecordedFilter(HoursFilter):
    """Filter events by the time of recording."""

    title = "recorded"
    parameter_name = "recorded"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        hours = self.hours()
        if hours is None:
            return queryset
        rows = event_rows(hours)
        return queryset.filter(pk__gte=rows.first, pk__lte=rows.last) if rows else queryset.none()


class AttemptedFilter(HoursFilter):
    """Filter deliveries by the time of an attempt, and with OutcomeFilter by the outcome of that attempt."""

    title = "attempted"
    parameter_name = "attempted"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        hours = self.hours()
        if hours is None:
            return queryset
        rows = attempt_rows(hours)
        if rows is None:
            return queryset.none()
        attempts = Attempt.objects.filter(pk__gte=rows.first, pk__lte=rows.last).order_by()
        outcome = request.GET.get(OutcomeFilter.parameter_name)
        if outcome in (OutcomeFilter.DELIVERED, OutcomeFilter.FAILED):
            succeeded = Q(error="") & (Q(status=None) | Q(status__gte=200, status__lt=300))
            attempts = attempts.filter(succeeded if outcome == OutcomeFilter.DELIVERED else ~succeeded)
        if len(hours) > 1 and outcome != OutcomeFilter.FAILED:
            # nearly all that the list begins with: found by looking at each, before the attempts of a day are read
            return queryset.filter(Exists(attempts.filter(delivery=OuterRef("pk"))))
        return queryset.filter(pk__in=attempts.values("delivery_id"))


class OutcomeFilter(LinkedFilter):
    """Say which outcome an attempt of AttemptedFilter has; that one filters."""

    title = "outcome of the attempt"
    parameter_name = "outcome"
    DELIVERED, FAILED = "delivered", "failed"

    def text(self, value: str) -> str:
        return {self.DELIVERED: "succeeded", self.FAILED: "failed"}.get(value, "")

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset
