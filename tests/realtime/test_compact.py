"""SQLite's file gives back the space of what is pruned: by itself, or an older file by `manage.py compact`."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.server import ROOT

pytestmark = pytest.mark.any_database

NONE, INCREMENTAL = 0, 2


def pragma(path, *names):
    with closing(sqlite3.connect(path)) as database:
        return [database.execute(f"PRAGMA {name}").fetchone()[0] for name in names]


def publish(server, instance, count):
    for _ in range(count):
        event = {"event": "call", "data": "x" * 1_000_000}
        assert server.post(server.path("/event/publish", instance), event).status == 201


def prune_all(server):
    server.shell("""
from datetime import timedelta
from django.utils import timezone
from realtime.log.models import Event
Event.objects.update(created_at=timezone.now() - timedelta(days=30))
""")
    server.manage("prune_events")


def compact(server):
    command = [sys.executable, "manage.py", "compact"]
    return subprocess.run(command, cwd=ROOT, env=server.environment, capture_output=True, text=True, timeout=60)


def test_a_new_file_gives_back_what_is_pruned_while_the_server_runs(fresh_server):
    server = fresh_server()
    path = Path(server.environment["DATA_DIR"]) / "db.sqlite3"
    instance = server.create()
    [before] = pragma(path, "page_count")
    publish(server, instance, 8)
    assert pragma(path, "page_count")[0] > before + 1500

    prune_all(server)

    assert pragma(path, "auto_vacuum", "freelist_count") == [INCREMENTAL, 0]
    assert pragma(path, "page_count")[0] < before + 100
    publish(server, instance, 1)
    assert pragma(path, "integrity_check") == ["ok"]


@pytest.mark.slow
def test_an_older_file_is_compacted_while_no_server_runs(fresh_server):
    server = fresh_server()
    server.stop()
    path = Path(server.environment["DATA_DIR"]) / "db.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM"):
            database.execute(statement)
    server.start()
    instance = server.create()
    publish(server, instance, 5)
    prune_all(server)
    auto_vacuum, free_pages = pragma(path, "auto_vacuum", "freelist_count")
    assert (auto_vacuum, free_pages > 1000) == (NONE, True)

    refused = compact(server)
    assert refused.returncode
    assert "The database is in use: stop the server" in refused.stderr
    assert server.get("/instance/fetchInstances").status == 200
    server.stop()
    size = path.stat().st_size
    done = compact(server)

    assert done.returncode == 0, done.stderr
    assert "Compacted" in done.stdout
    assert pragma(path, "auto_vacuum", "freelist_count", "integrity_check") == [INCREMENTAL, 0, "ok"]
    assert path.stat().st_size < size - 4_000_000
    assert not list(path.parent.glob("etilqs_*"))
    server.start()
    assert server.get(f"/instance/connectionState/{instance.name}").status == 200


def test_nothing_is_compacted_without_free_space(tmp_path, monkeypatch):
    path = tmp_path / "full.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE kept (id INTEGER)")
    before = path.read_bytes()
    monkeypatch.setitem(connection.settings_dict, "NAME", str(path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 1024))

    with pytest.raises(CommandError, match=r"needs 0\.0 MiB of free space in .*; there are 0\.0 MiB\. Nothing was"):
        call_command("compact")

    assert path.read_bytes() == before
