"""The files of a data directory: nobody but their owner can read them, whatever the directory's mode."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from tests.environment import SETTINGS
from tests.server import ROOT

pytestmark = pytest.mark.any_database

#: Writes to the database, and prints the modes of all files of the data directory while the connection is open.
CODE = """
import json, os, stat
from django.conf import settings
from django.db import connection
connection.cursor().execute("CREATE TABLE notes (text TEXT)")
names = sorted(os.listdir(settings.DATA_DIR))
print(json.dumps({name: oct(stat.S_IMODE(os.stat(settings.DATA_DIR / name).st_mode)) for name in names}))
"""
SECRETS = ("SECRET_KEY", "ENCRYPTION_KEYS", "AUTHENTICATION_API_KEY")


def manage(data_dir, *arguments):
    """Run a management command as a user's shell does, with the usual umask 022; returns its output."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    generated = {name: value for name, value in SETTINGS.items() if name not in SECRETS}
    command = ["sh", "-c", 'umask 022 && exec "$@"', "sh", sys.executable, "manage.py", *arguments]
    environment = inherited | generated | {"DATA_DIR": str(data_dir)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("is_new", [True, False])
def test_only_the_owner_reads_database_and_secrets_in_a_directory_that_all_may_read(tmp_path, is_new):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    if not is_new:
        (data_dir / "secrets.json").write_text("{}")
        (data_dir / "db.sqlite3").touch()
        for path in data_dir.iterdir():
            path.chmod(0o644)

    modes = json.loads(manage(data_dir, "shell", "--no-imports", "-c", CODE))

    assert {"db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "secrets.json", "secrets.lock"} <= set(modes)
    assert set(modes.values()) == {"0o600"}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755


def test_a_database_outside_of_the_data_directory_is_private_too(tmp_path, monkeypatch):
    database = tmp_path / "elsewhere.sqlite3"
    database.touch()
    database.chmod(0o644)
    monkeypatch.setitem(SETTINGS, "DATABASE_URL", f"sqlite:///{database}")

    manage(tmp_path / "data", "check")

    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
