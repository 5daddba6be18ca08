"""Hours as counters number them: whole hours since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone

HOUR = 3600


def hour_of(moment: datetime) -> int:
    """Return the hour that an aware time is in."""
    return int(moment.timestamp()) // HOUR


def start_of(hour: int) -> datetime:
    """Return the beginning of an hour, in UTC."""
    return datetime.fromtimestamp(hour * HOUR, UTC)


def this_hour() -> int:
    """Return the hour that it is now."""
    return hour_of(timezone.now())


def last_hours(count: int) -> range:
    """Return the last `count` hours in order; the last of them is the current one, which is not over yet."""
    now = this_hour()
    return range(now - count + 1, now + 1)
