"""The report of a process: the most that was measured since the last one."""

from __future__ import annotations

import asyncio

import pytest

from realtime.database import database
from realtime.operation import report
from realtime.operation.models import Process
from realtime.operation.report import Load, Report
from realtime.operation.supervisor import Supervisor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


async def test_a_report_has_the_most_connections_and_the_longest_lag_since_the_last_one(monkeypatch):
    monkeypatch.setattr(report, "LOOK", 0.01)
    monkeypatch.setattr(report, "INTERVAL", 0.2)
    loads = [Load(1, 0), Load(7, 20), Load(3, 90)]
    reporting = asyncio.ensure_future(
        Report(Supervisor(), "server", lambda: loads.pop(0) if loads else Load(2, 0)).run_forever()
    )

    shown = set()
    async with asyncio.timeout(10):
        while (2, 0) not in shown:
            shown |= {row async for row in Process.objects.values_list("connections", "relay_lag_ms")}
            await asyncio.sleep(0.01)
    reporting.cancel()

    assert shown == {(1, 0), (7, 90), (2, 0)}
    assert await database(Process.objects.count) == 1
