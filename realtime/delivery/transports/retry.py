"""Retry delays and the results of HTTP statuses, as functions of their arguments and the settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from django.conf import settings

from realtime.delivery.transports.base import Result

#: Seconds before the second attempt, the third and so on: the schedule of Standard Webhooks, cut at 72 hours.
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#deliverability-and-reliability
SCHEDULE = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 20 * 3600 + 24 * 60 + 55)
#: The fraction by which a delay is longer or shorter, at most.
JITTER = 0.2
#: The longest delay that a receiver can ask for, in seconds.
MAX_RETRY_AFTER = 24 * 3600

#: Statuses of a receiver that does not understand the event: it would refuse the next attempt, too.
DEAD_STATUSES = frozenset((400, 422))


def delay(attempt: int, rng: Random) -> float | None:
    """Return the seconds between a failed attempt (from 1) and the next one; None after the last.

    Evolution API's formula applies if one of its WEBHOOK_RETRY_* variables for it is set, otherwise SCHEDULE.
    """
    return _evolution_delay(attempt, rng) if _uses_evolution_delay() else _standard_delay(attempt, rng)


def _standard_delay(attempt: int, rng: Random) -> float | None:
    if attempt > len(SCHEDULE):
        return None
    return SCHEDULE[attempt - 1] * rng.uniform(1 - JITTER, 1 + JITTER)


def _uses_evolution_delay() -> bool:
    return any(
        value is not None
        for value in (
            settings.WEBHOOK_RETRY_MAX_ATTEMPTS,
            settings.WEBHOOK_RETRY_INITIAL_DELAY_SECONDS,
            settings.WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF,
            settings.WEBHOOK_RETRY_MAX_DELAY_SECONDS,
            settings.WEBHOOK_RETRY_JITTER_FACTOR,
        )
    )


def _evolution_delay(attempt: int, rng: Random) -> float | None:
    if attempt >= _or(settings.WEBHOOK_RETRY_MAX_ATTEMPTS, 10):
        return None
    first = _or(settings.WEBHOOK_RETRY_INITIAL_DELAY_SECONDS, 5.0)
    if settings.WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF is False:
        return first
    longest = _or(settings.WEBHOOK_RETRY_MAX_DELAY_SECONDS, 300.0)
    wait = min(first * 2 ** min(attempt - 1, 64), longest)
    jitter = _or(settings.WEBHOOK_RETRY_JITTER_FACTOR, 0.2)
    return max(first, wait * (1 + jitter * rng.uniform(-1, 1)))


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def result_of_status(status: int) -> Result:
    """Return the result that an HTTP status stands for.

    401, 403 and 404 are worth a retry: a proxy, or a workflow that is suspended, answers so.
    """
    if 200 <= status < 300:
        return Result.DELIVERED
    if status == 410:
        return Result.GONE
    final = settings.WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES
    return Result.DEAD if status in (DEAD_STATUSES if final is None else final) else Result.RETRY


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds in a Retry-After header (RFC 9110, 10.2.3), up to MAX_RETRY_AFTER; None if it is not valid."""
    if not header:
        return None
    header = header.strip()
    if re.fullmatch("[0-9]{1,20}", header, re.ASCII):
        return float(min(int(header), MAX_RETRY_AFTER))
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:  # an HTTP date is in GMT, and some receivers leave that out
        until = until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), float(MAX_RETRY_AFTER))
