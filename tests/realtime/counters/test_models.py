"""Rows of hourly counts: rates and means, and hours as numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from realtime.counters.hours import hour_of, last_hours, start_of, this_hour
from realtime.counters.models import EndpointHour

pytestmark = pytest.mark.any_database


def test_rates_and_means_are_of_all_attempts():
    row = EndpointHour(delivered=3, failed=1, latency_ms=100)

    assert (row.attempts, row.success_rate, row.mean_latency_ms) == (4, 0.75, 25)


def test_an_hour_without_attempts_has_no_rate_and_no_mean():
    row = EndpointHour()

    assert (row.attempts, row.success_rate, row.mean_latency_ms) == (0, None, None)


def test_hours_are_numbered_in_utc():
    hour = hour_of(datetime(2026, 11, 29, 5, 59, 59, tzinfo=UTC))

    assert start_of(hour) == datetime(2026, 11, 29, 5, tzinfo=UTC)
    assert len(last_hours(24)) == 24
    assert last_hours(24)[-1] == this_hour()
