"""Delays of retries, and results of statuses."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import pytest

from realtime.delivery.transports import retry
from realtime.delivery.transports.base import Result

pytestmark = pytest.mark.any_database


def delays(settings, **variables):
    for name, value in variables.items():
        setattr(settings, f"WEBHOOK_RETRY_{name}", value)
    found = []
    while (wait := retry.delay(len(found) + 1, Random(7))) is not None:
        found.append(wait)
    return found


def test_by_default_an_event_is_retried_for_72_hours(settings):
    assert sum(retry.SCHEDULE) == 72 * 3600
    found = delays(settings)
    assert len(found) == len(retry.SCHEDULE)
    for wait, planned in zip(found, retry.SCHEDULE, strict=True):
        assert 0.8 * planned <= wait <= 1.2 * planned


def test_delays_have_jitter():
    assert len({round(retry.delay(2, Random(number)), 3) for number in range(50)}) > 40


def test_evolutions_variables_apply(settings):
    assert delays(settings, JITTER_FACTOR=0) == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert delays(settings, MAX_ATTEMPTS=3, INITIAL_DELAY_SECONDS=2) == [2, 4]
    assert delays(settings, MAX_DELAY_SECONDS=3, MAX_ATTEMPTS=5) == [2, 3, 3, 3]
    assert delays(settings, USE_EXPONENTIAL_BACKOFF=False) == [2, 2, 2, 2]


def test_evolutions_jitter_never_makes_a_delay_shorter_than_the_first(settings):
    settings.WEBHOOK_RETRY_MAX_ATTEMPTS = 10
    waits = [retry.delay(1, Random(number)) for number in range(200)]
    assert min(waits) == 5
    assert 5.5 < max(waits) <= 6
    assert all(240 <= retry.delay(9, Random(number)) <= 360 for number in range(200))


def test_evolutions_final_statuses_apply(settings):
    settings.WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES = frozenset({404, 410, 200})
    assert retry.result_of_status(404) is Result.DEAD
    assert retry.result_of_status(400) is Result.RETRY
    assert retry.result_of_status(410) is Result.GONE
    assert retry.result_of_status(200) is Result.DELIVERED


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("99999999999999999999", 24 * 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 24 * 3600),
        ("Fri, 01 May 2026 12:00:30", 30),
        *[(header, None) for header in (None, "", "-1", "1.5", "soon", "٣", "9" * 500)],
        ("Fri, 99 May 99999 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_within_limits(header, seconds):
    assert retry.retry_after(header, NOW) == seconds
