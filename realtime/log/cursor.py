"""Positions in the log: a seq within an instance's stream, a cursor in the order of all instances' events."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cursor(NamedTuple):
    """A position in the order of all instances' events, sorted by window of transactions and by row within it.

    It is past all events of transactions below `low` and, of transactions from `low` to below `high`, past the rows up
    to `row`. The bounds are horizons: every transaction below has ended, so no row will be added to a window.

    PostgreSQL: rows are numbered while their stream is locked, so within an instance they follow its `seq`; a
    transaction that began early may commit late, so rows alone would skip its events. Windows keep the order of an
    instance's events too: an event is not numbered before the transaction of the previous one has committed.
    SQLite has one writer, so a single window is enough.
    """

    low: int
    high: int
    row: int


def before(position: Any) -> Any:
    """Return the position directly before another one, a seq or a Cursor."""
    return position._replace(row=position.row - 1) if isinstance(position, Cursor) else position - 1


def after(position: Any) -> Any:
    """Return the position directly after another one, a seq or a Cursor."""
    return position._replace(row=position.row + 1) if isinstance(position, Cursor) else position + 1
