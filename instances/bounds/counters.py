"""Bounds of the hourly counters."""

from __future__ import annotations

from instances.bounds.bound import Holder, bound

COUNTED_HOURS = bound(
    "LIMIT_COUNTED_HOURS",
    14 * 24,
    "hours",
    Holder.INSTANCE,
    limits="hours of which its events, and the attempts of each of its endpoints, are kept as counts",
    beyond="the oldest are deleted",
    least=25,
)
COUNTED_PAGE_EVENTS = bound(
    "LIMIT_COUNTED_PAGE_EVENTS",
    1000,
    "events",
    Holder.PROCESS,
    limits="events, and as many attempts, that are counted in one transaction",
    beyond="the next ones are counted after a pause of the same length",
)
