"""Rows that cannot be read: each is left out and kept in mind, and the others are read.

A driver may refuse a value, JSON may be none, a page of the file may be damaged. One such row among many would fail the
query for all of them, again and again. It is logged once for each cause, shown by `manage.py status`, and tried again
until it can be read or is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from django.db import connection, models, transaction
from django.db.models.functions import Cast
from django.utils import timezone

from instances.errors import DATABASE_ERRORS, describe

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=models.Model)
#: A table, and a primary key as the database has it.
RowKey = tuple[type[models.Model], Any]

#: Rows that are kept in mind; beyond it the oldest is forgotten, and found again when it is read.
MAX_ROWS = 1000
#: Seconds until a row is tried again, after the first failure and at most; each failure doubles them.
FIRST_REST, MAX_REST = 1.0, 60.0


@dataclass
class UnreadableRow:
    """A row that cannot be read."""

    name: str
    #: The error's type and place, without the values of the row.
    cause: str
    #: Reads the row again; raises an error while it cannot be read.
    read: Callable[[], object]
    since: datetime = field(default_factory=timezone.now)
    rest: float = FIRST_REST
    #: When it is tried again (time.monotonic).
    retry_at: float = 0.0

    def __post_init__(self) -> None:
        self.retry_at = time.monotonic() + self.rest


class UnreadableRows:
    """The rows that this process could not read. Safe to use from several threads."""

    def __init__(self) -> None:
        self._rows: OrderedDict[RowKey, UnreadableRow] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: RowKey) -> bool:
        return key in self._rows

    def rows(self) -> list[UnreadableRow]:
        with self._lock:
            return list(self._rows.values())

    def of(self, model: type[models.Model]) -> list[Any]:
        """Return the primary keys of a table's rows that cannot be read."""
        if not self._rows:
            return []
        with self._lock:
            return [pk for table, pk in self._rows if table is model]

    def resting(self, model: type[models.Model]) -> list[Any]:
        """Return the primary keys of a table's rows that are not to be tried again yet."""
        if not self._rows:
            return []
        now = time.monotonic()
        with self._lock:
            return [pk for (table, pk), row in self._rows.items() if table is model and row.retry_at > now]

    def note(self, model: type[models.Model], pk: Any, error: Exception, read: Callable[[], object]) -> None:
        """Keep in mind that a row cannot be read; what is new about it is logged."""
        name, cause = f"{model._meta.db_table} {pk}", describe(error)
        with self._lock:
            row = self._rows.get((model, pk))
            is_new = row is None or row.cause != cause
            if row is None:
                self._rows[model, pk] = UnreadableRow(name, cause, read)
            else:
                row.cause, row.rest = cause, min(row.rest * 2, MAX_REST)
                row.retry_at = time.monotonic() + row.rest
            if len(self._rows) > MAX_ROWS:
                self._rows.popitem(last=False)
        if is_new:
            text = "The row %s cannot be read and is left out: %s. Mend or delete it; it is read again once it can be"
            logger.error(text, name, cause, exc_info=error)

    def recheck(self) -> None:
        """Read the rows again that are due, and forget those that can be read. Raises DATABASE_ERRORS."""
        now = time.monotonic()
        with self._lock:
            due = [(key, row) for key, row in self._rows.items() if row.retry_at <= now]
        for (model, pk), row in due:
            try:
                row.read()
            except Exception as error:
                if not is_of_row(error):
                    raise
                self.note(model, pk, error, row.read)
            else:
                with self._lock:
                    self._rows.pop((model, pk), None)
                logger.warning("The row %s can be read again, or is gone", row.name)


unreadable = UnreadableRows()


def is_of_row(error: Exception) -> bool:
    """Return whether an error of reading is about a row, rather than about a database that is away."""
    # SQLite's for text that is no UTF-8 is an OperationalError
    return not isinstance(error, DATABASE_ERRORS) or "Could not decode to UTF-8" in str(error)


def readable(
    rows: models.QuerySet[M],
    limit: int | None = None,
    check: Callable[[M], object] | None = None,
    is_careful: bool = False,
) -> list[M]:
    """Return the first `limit` rows, or all, without those that cannot be read, or for which `check` raises an error.

    Raises DATABASE_ERRORS, and within a transaction of PostgreSQL's what its server raises, as that ends the
    transaction: unless it `is_careful`, which costs a savepoint.
    """
    model = rows.model
    if resting := unreadable.resting(model):
        rows = _keyed(rows).exclude(row_key__in=resting)
    try:
        return _read(rows[:limit], check, is_careful)
    except Exception as error:
        if not is_of_row(error) or (_ends_transaction(error) and not is_careful):
            raise
        return _readable_of(rows, check, list(_keyed(rows).values_list("row_key", flat=True)[:limit]))


def _keyed(rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Annotate `row_key`: the primary key, as a text where the driver could refuse to convert it."""
    is_converted = isinstance(rows.model._meta.pk, models.UUIDField)
    return rows.annotate(row_key=Cast("pk", models.CharField()) if is_converted else models.F("pk"))


def _readable_of(rows: models.QuerySet[M], check: Callable[[M], object] | None, keys: Sequence[Any]) -> list[M]:
    """Return those of these rows that can be read, halving them until each that cannot be read is alone."""
    chosen = _keyed(rows).filter(row_key__in=keys)
    try:
        return _read(chosen, check, is_careful=True)
    except Exception as error:
        if not is_of_row(error):
            raise
        if len(keys) == 1:
            unreadable.note(rows.model, keys[0], error, partial(_read, chosen, check, is_careful=True))
            return []
        half = len(keys) // 2
        return _readable_of(rows, check, keys[:half]) + _readable_of(rows, check, keys[half:])


def _read(rows: models.QuerySet[M], check: Callable[[M], object] | None, is_careful: bool) -> list[M]:
    """Read rows; if it `is_careful`, an error leaves a transaction that is open as it was."""
    with transaction.atomic() if is_careful and connection.in_atomic_block else nullcontext():
        found = list(rows.all())
    if check:
        for row in found:
            check(row)
    return found


def _ends_transaction(error: Exception) -> bool:
    """Return whether an error has ended the transaction: PostgreSQL's server raised it, and not the driver."""
    return connection.in_atomic_block and getattr(error.__cause__, "sqlstate", None) is not None
