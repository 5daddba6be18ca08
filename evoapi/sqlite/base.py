"""A SQLite backend with a lock for the writers of this process, and connections that keep nothing large.

SQLite's busy handler polls, with sleeps of up to 100 ms; a lock wakes the next thread at once, so that no writer
starves. Writers in other processes still wait by the busy handler (https://www.sqlite.org/c3ref/busy_timeout.html).

Python's sqlite3 keeps statements, and SQLite keeps in each a copy of the last values that were bound to it. So a
connection to which a large value was given is closed when its request ends.

New files have `auto_vacuum=INCREMENTAL`, so that retention can cut them; `manage.py compact` gives it to older ones.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from evoapi.large_values import AT_ONCE, has_large


class SQLiteCursor(base.SQLiteCursorWrapper):
    """A cursor that has its connection closed at the end of the request once it was given a large value."""

    wrapper: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        if params and has_large(params):
            self.wrapper.close_at = AT_ONCE
        return super().execute(query, params)

    def executemany(self, query: str, param_list: Any) -> Any:
        param_list = list(param_list)
        if any(map(has_large, param_list)):
            self.wrapper.close_at = AT_ONCE
        return super().executemany(query, param_list)


def _prepare(path: str) -> None:
    """Have a new file give free pages back step by step: SQLite fixes this with the first page that it writes."""
    if os.path.exists(path) and os.path.getsize(path):
        return
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")  # writes the first page
    finally:
        connection.close()


class DatabaseWrapper(base.DatabaseWrapper):
    _writing = threading.Lock()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holds_lock = False

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.is_in_memory_db():
            _prepare(conn_params["database"])
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=SQLiteCursor)
        cursor.wrapper = self
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        if not self._holds_lock:
            # with SQLite's own timeout and error: a stuck transaction must not block this process forever
            self._holds_lock = self._writing.acquire(timeout=self.settings_dict["OPTIONS"].get("timeout", 5))
            if not self._holds_lock:
                raise OperationalError("database is locked")
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._release()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._release()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._release()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._release()

    def _release(self) -> None:
        if self._holds_lock:
            self._holds_lock = False
            self._writing.release()
