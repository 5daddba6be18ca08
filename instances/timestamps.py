"""Timestamps as clients get them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """Return an ISO 8601 timestamp in UTC with milliseconds and a Z, as JavaScript's `toISOString` does."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
