"""Timestamps in responses."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """Return an ISO 8601 timestamp in UTC with milliseconds and a Z, as JavaScript's `toISOString` does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
