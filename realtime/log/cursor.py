"""Positions in the log: a seq within an instance, a cursor over the events of all instances."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cursor(NamedTuple):
    """A place in the order of all instances' events, which goes by windows of transactions and by row in each.

    Everything written by transactions below `low` is past and, of those from `low` to below `high`, the rows up to
    `row`. The bounds are horizons: below them every transaction has ended, so a window holds all it will ever hold.

    PostgreSQL: rows are numbered while their stream is locked, so within an instance they follow its `seq`; a
    transaction that began early may commit late, so rows alone would skip what it wrote. Between two events of an
    instance no horizon can part them in the wrong order: the later one was not numbered before the other committed.
    SQLite has one writer, so a single window is enough.
    """

    low: int
    high: int
    row: int


def before(place: Any) -> Any:
    """The place in the log just before another one."""
    return place._replace(row=place.row - 1) if isinstance(place, Cursor) else place - 1
