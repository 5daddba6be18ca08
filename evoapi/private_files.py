"""Files that only their owner can read: the database and the generated secrets."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

#: What SQLite appends to the name of a database for the files beside it, https://www.sqlite.org/tempfiles.html.
SQLITE_SUFFIXES = ("", "-journal", "-wal", "-shm")


def make_private(paths: Iterable[Path]) -> None:
    """Give existing files that others can read the mode 600; warns of a file that belongs to another user.

    SQLite creates its other files with the mode of the database.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                path.chmod(0o600)
        except FileNotFoundError:
            continue
        except PermissionError:
            warnings.warn(f"{path} can be read by other users, and its mode cannot be changed", stacklevel=2)
