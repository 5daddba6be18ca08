"""Reports the loops of this process to the database, where `manage.py status` and the admin read them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.utils import timezone

from instances.unreadable import unreadable
from realtime.database import Pool, database
from realtime.operation.models import INTERVAL, KEPT, Process
from realtime.operation.supervisor import SetAside, Supervisor

#: Seconds between two looks for something to report.
LOOK = 1.0
#: Rows and endpoints that are set aside which a report shows.
MAX_SHOWN = 100


class Load(NamedTuple):
    """The connections of a process at a time, and the milliseconds by which its relay was late, each at most."""

    connections: int = 0
    relay_lag_ms: int = 0


class Report:
    """The row of this process, kept by a loop of the supervisor that it reports on."""

    def __init__(self, supervisor: Supervisor, command: str, measure: Callable[[], Load] = Load) -> None:
        """`measure` returns the load since its last call."""
        self._supervisor = supervisor
        self._measure = measure
        now = timezone.now()
        host = socket.gethostname()[:255]
        self._process = Process(
            id=secrets.token_hex(8), command=command, host=host, pid=os.getpid(), started_at=now, seen_at=now
        )

    async def run_forever(self) -> None:
        """Write what has changed at once, and every INTERVAL that the process is there; a supervisor runs it."""
        await database(_delete_old, pool=Pool.UPKEEP)
        loops: Any = None
        reported_at = 0.0
        load = Load()
        while True:
            load = Load(*map(max, load, self._measure()))
            if unreadable.rows():
                await database(unreadable.recheck, pool=Pool.UPKEEP)
            if loops != (loops := self._loops()) or time.monotonic() > reported_at + INTERVAL:
                await self._write(loops, load)
                reported_at, load = time.monotonic(), Load()
            await asyncio.sleep(LOOK)

    async def end(self) -> None:
        """Delete the row; if a loop has ended the process, leave it to say so."""
        with suppress(DatabaseError):  # it is seen no more, which says as much
            if self._supervisor.has_failed:
                self._process.ended = "a loop has failed too often"
                await self._write(self._loops())
            else:
                await database(Process.objects.filter(pk=self._process.pk).delete, pool=Pool.UPKEEP)

    async def _write(self, loops: list[dict[str, Any]], load: Load = Load()) -> None:  # noqa: B008 (it never changes)
        self._process.seen_at, self._process.loops = timezone.now(), loops
        self._process.connections, self._process.relay_lag_ms = load
        await database(self._process.save, pool=Pool.UPKEEP)

    def _loops(self) -> list[dict[str, Any]]:
        loops = [
            {
                "name": loop.name,
                "since": loop.since.isoformat(),
                "restarts": loop.restarts,
                "error": loop.error[:500],
                "failed_at": loop.failed_at.isoformat() if loop.failed_at else None,
            }
            for loop in self._supervisor.loops.values()
        ]
        return [*loops, {"set_aside": _set_aside()}]


def _set_aside() -> list[dict[str, str]]:
    """Return what is left out while the loops go on, for `SetAsideState`: the oldest first."""
    found = [(row.since, f"row {row.name}", row.cause) for row in unreadable.rows()]
    for kind in list(SetAside.all):
        found += [(rest.since, f"{kind.kind} {key}", rest.cause) for key, rest in kind.failing()]
    found.sort()
    return [{"name": name, "since": since.isoformat(), "error": cause} for since, name, cause in found[:MAX_SHOWN]]


def _delete_old() -> None:
    Process.objects.filter(seen_at__lt=timezone.now() - KEPT).delete()
