"""Secrets that a new installation generates, stored in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def token() -> str:
    """Return a random secret of 256 bits, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


class SecretsFile:
    """A JSON file of secrets by name, with mode 600.

    There's a possible race between processes that write at once. To lose nothing, they lock the file, write each name
    only once, and replace the file atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """Return the secrets; empty if there is no file."""
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}

    def get(self, name: str, generate: Callable[[], str] = token) -> str:
        """Return the secret of this name; generate and store it on first use."""
        secrets_by_name = self.read()
        if name not in secrets_by_name:
            secrets_by_name = self._add(name, generate())
        return secrets_by_name[name]

    def _add(self, name: str, value: str) -> dict[str, str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            secrets_by_name = {name: value} | self.read()
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".secrets-")  # creates it with mode 600
            with os.fdopen(handle, "w") as file:
                json.dump(secrets_by_name, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        return secrets_by_name

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.name == "posix":
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
