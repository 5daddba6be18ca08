from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection


class Command(BaseCommand):
    help = (
        "Rewrite SQLite's file without the space that deleted rows have left, and have it give space back by itself "
        "from then on. Stop the server first."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("Only SQLite's file is compacted; PostgreSQL reuses space by itself (autovacuum)")
        connection.close()
        path = Path(connection.settings_dict["NAME"])
        if not path.exists():
            raise CommandError(f"There is no database at {path}")
        os.environ["SQLITE_TMPDIR"] = str(path.parent)  # the copy is written where the space is checked
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as database:
            _lock(database)
            before = path.stat().st_size
            _check_space(database, path)
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("VACUUM")
        self.stdout.write(f"Compacted {path} from {_mebibytes(before)} to {_mebibytes(path.stat().st_size)}.")


def _lock(database: sqlite3.Connection) -> None:
    """Lock the file against all other connections until this one is closed. Raises CommandError if there are any."""
    try:
        database.execute("PRAGMA journal_mode = DELETE")  # from WAL mode, the last connection alone may change it
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise CommandError(
            f"The database is in use: stop the server, and all commands that run beside it, first ({error})"
        ) from None


def _check_space(database: sqlite3.Connection, path: Path) -> None:
    """Raise CommandError unless the copy of what is kept, and the journal of the file, fit beside the file."""
    pages, free_pages, page_size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    needed = (2 * pages - free_pages) * page_size
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise CommandError(
            f"Compacting needs {_mebibytes(needed)} of free space in {path.parent} for a while; there are "
            f"{_mebibytes(free)}. Nothing was changed"
        )


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
