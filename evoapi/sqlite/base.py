"""A SQLite backend with a lock for the writers of this process.

SQLite's busy handler polls, with sleeps of up to 100 ms; a lock wakes the next thread at once, so that no writer
starves. Writers in other processes still wait by the busy handler (https://www.sqlite.org/c3ref/busy_timeout.html).
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    _writing = threading.Lock()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holds_lock = False

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
