"""Numbers and times in words, as the pages of the admin show them."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from realtime.counters.hours import start_of


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 instance", "1,200 instances"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return a time span by its largest unit: "40 s", "12 min", "5 h", "3 days"."""
    seconds = max(int(seconds), 0)
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 86_400} days"


def age(moment: datetime) -> str:
    """Return the time since a moment, as `duration` does."""
    return duration((timezone.now() - moment).total_seconds())


def milliseconds(value: float | None) -> str:
    """Return milliseconds as "40 ms" or "2.5 s"; "-" for None."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s"


def percent(part: float) -> str:
    """Return a part from 0 to 1 as "97.5 %"; less than all is never shown as 100 %, and more than none never as 0 %."""
    shown = min(max(part * 100, 0.1), 99.9) if 0 < part < 1 else part * 100
    return f"{shown:.0f} %" if part in (0, 1) else f"{shown:.1f} %"


def rate(value: float) -> str:
    """Return a number with one place below ten, and none above."""
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def clock(hour: int) -> str:
    """Return an hour as its time of day, in UTC: "06:00"."""
    return f"{start_of(hour):%H:%M}"


def day_and_clock(hour: int) -> str:
    """Return an hour as its day and time, in UTC: "29 Nov 06:00"."""
    moment = start_of(hour)
    return f"{moment.day} {moment:%b %H:%M}"
