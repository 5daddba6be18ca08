"""Hours as counters number them: whole hours since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone

HOUR = 3600
#: Seconds of a time that a `datetime` holds.
MAX_SECONDS = 200_000_000_000


def hour_of(moment: datetime) -> int:
    """Return the hour that an aware time is in."""
    return int(moment.timestamp()) // HOUR


def time_of(seconds: float | None) -> datetime | None:
    """Return the time of seconds since 1970, in UTC; None for none, and for what is beyond any calendar."""
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None and abs(seconds) < MAX_SECONDS else None


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
