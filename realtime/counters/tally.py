"""Sums of a page, and the statements that add them to the hourly counts."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from instances.bounds import COUNTED_HOURS
from instances.sql import database_id
from realtime.counters.hours import HOUR, this_hour
from realtime.counters.pages import CountedAttempt, EventRow

#: Hours that a clock may be ahead.
AHEAD = 24


@dataclass
class Attempts:
    """Sums of attempts."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    latency_ms: int = 0
    max_latency_ms: int = 0
    last_error: str = ""

    def add(self, row: CountedAttempt) -> None:
        self.delivered += row.is_delivered
        self.failed += not row.is_delivered
        self.dead += row.is_dead
        self.latency_ms += row.duration_ms
        self.max_latency_ms = max(self.max_latency_ms, row.duration_ms)
        self.last_error = row.error or self.last_error


@dataclass
class Events:
    """Sums of an instance's events."""

    events: int = 0
    drop_notices: int = 0
    connection_updated: int | None = None

    def add(self, row: EventRow) -> None:
        self.events += 1
        self.drop_notices += row.is_drop_notice
        if row.is_connection_update and row.time is not None:
            self.connection_updated = max(self.connection_updated or 0, int(row.time))


@dataclass
class Total(Attempts):
    """Sums of an hour, and its first and last rows."""

    events: int = 0
    drop_notices: int = 0
    first_event: int | None = None
    last_event: int | None = None
    first_attempt: int | None = None
    last_attempt: int | None = None

    def add_event(self, row: EventRow) -> None:
        self.events += 1
        self.drop_notices += row.is_drop_notice
        self.first_event = row.pk if self.first_event is None else min(self.first_event, row.pk)
        self.last_event = row.pk if self.last_event is None else max(self.last_event, row.pk)

    def add(self, row: CountedAttempt) -> None:
        super().add(row)
        self.first_attempt = row.pk if self.first_attempt is None else self.first_attempt
        self.last_attempt = row.pk


@dataclass
class HourTally:
    """Sums of a page of events and of attempts, by hour. Hours that are not kept, or are none, are left out."""

    #: By instance and hour.
    instances: dict[tuple[uuid.UUID, int], Events] = field(default_factory=lambda: defaultdict(Events))
    #: By endpoint, instance and hour.
    endpoints: dict[tuple[int, uuid.UUID | None, int], Attempts] = field(default_factory=lambda: defaultdict(Attempts))
    totals: dict[int, Total] = field(default_factory=lambda: defaultdict(Total))

    def __post_init__(self) -> None:
        now = this_hour()
        self._since, self._until = (now - COUNTED_HOURS + 1) * HOUR, (now + AHEAD) * HOUR

    def add_events(self, rows: Iterable[EventRow]) -> None:
        for row in rows:
            if (hour := self._hour(row.time)) is None:
                continue
            self.totals[hour].add_event(row)
            if row.instance_id is not None:
                self.instances[row.instance_id, hour].add(row)

    def add_attempts(self, rows: Iterable[CountedAttempt]) -> None:
        for row in rows:
            if (hour := self._hour(row.time)) is None:
                continue
            self.totals[hour].add(row)
            self.endpoints[row.endpoint_id, row.instance_id, hour].add(row)

    def _hour(self, seconds: float | None) -> int | None:
        return int(seconds // HOUR) if seconds is not None and self._since <= seconds < self._until else None

    def store(self) -> None:
        """Add the sums to the counts, in the caller's transaction."""
        _add(
            "realtime_instancehour",
            ("instance_id", "hour"),
            {"events": _SUM, "drop_notices": _SUM, "connection_updated": _MOST},
            [
                (database_id(pk), hour, sums.events, sums.drop_notices, sums.connection_updated)
                for (pk, hour), sums in sorted(self.instances.items(), key=_key)
            ],
        )
        _add(
            "realtime_endpointhour",
            ("endpoint_id", "hour"),
            {"instance_id": _LATEST, **_ATTEMPTS, "last_error": _LAST_TEXT},
            [
                (endpoint, hour, None if pk is None else database_id(pk), *_sums(sums), sums.last_error)
                for (endpoint, pk, hour), sums in sorted(self.endpoints.items(), key=_key)
            ],
        )
        rows = {"first_event": _LEAST, "last_event": _MOST, "first_attempt": _LEAST, "last_attempt": _MOST}
        _add(
            "realtime_hourtotal",
            ("hour",),
            {**_ATTEMPTS, "events": _SUM, "drop_notices": _SUM, **rows, "connections": _SUM, "relay_lag_ms": _SUM},
            [
                (
                    *(hour, *_sums(total), total.events, total.drop_notices, total.first_event, total.last_event),
                    *(total.first_attempt, total.last_attempt, 0, 0),
                )
                for hour, total in sorted(self.totals.items())
            ],
        )


def store_load(hour: int, connections: int, relay_lag_ms: int) -> None:
    """Raise an hour's most connections and longest lag to these."""
    zeros = dict.fromkeys((*_ATTEMPTS, "events", "drop_notices"), _SUM)
    columns = {**zeros, "connections": _MOST, "relay_lag_ms": _MOST}
    _add("realtime_hourtotal", ("hour",), columns, [(hour, *[0] * len(zeros), connections, relay_lag_ms)])


def _key(item: tuple[tuple[Any, ...], object]) -> Any:
    """Return what rows are sorted by: two processes lock them in one order."""
    return tuple(map(str, item[0]))


def _sums(sums: Attempts) -> tuple[int, ...]:
    return sums.delivered, sums.failed, sums.dead, sums.latency_ms, sums.max_latency_ms


# SQL for the new value of a column: `old` is the row's, `new` the one that is added
_SUM = "{old} + {new}"
_MOST = "CASE WHEN {old} IS NULL OR {new} > {old} THEN {new} ELSE {old} END"
_LEAST = "CASE WHEN {old} IS NULL OR {new} < {old} THEN {new} ELSE {old} END"
_LATEST = "{new}"
_LAST_TEXT = "CASE WHEN {new} <> '' THEN {new} ELSE {old} END"

_ATTEMPTS = {
    **dict.fromkeys(("delivered", "failed", "dead", "latency_ms"), _SUM),
    "max_latency_ms": _MOST,
}


def _add(table: str, key: Sequence[str], columns: dict[str, str], rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, whose values are those of the key and of the columns; where the key is there, join the columns."""
    if not rows:
        return
    names = [*key, *columns]
    joined = [f"{name} = {sql.format(old=f'{table}.{name}', new=f'excluded.{name}')}" for name, sql in columns.items()]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(joined)}",
            rows,
        )
