"""The secrets that a fresh installation makes for itself, kept in one file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


def token() -> str:
    """A random secret of 256 bits, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


class SecretsFile:
    """A JSON object of names and secrets in `path`, mode 600. Two processes that write it at once lose nothing:
    each name is written only once, and the file is replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}

    def get(self, name: str, make: Callable[[], str] = token) -> str:
        """The secret of that name, made and stored on first use."""
        known = self.read()
        if name not in known:
            known = self._add(name, make())
        return known[name]

    def _add(self, name: str, value: str) -> dict[str, str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            known = {name: value} | self.read()
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".secrets-")  # mode 600 by its contract
            with os.fdopen(handle, "w") as file:
                json.dump(known, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        return known

    def _lock(self) -> _FileLock:
        return _FileLock(self.path.with_suffix(".lock"))


class _FileLock:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.name == "posix":
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.file)
