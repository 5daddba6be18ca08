"""manage.py status and the admin show the processes and their loops."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.end_to_end.test_processes import run
from tests.in_process import until
from tests.realtime.operation.test_supervisor import BREAK, REPAIR
from tests.server import ROOT

LOOPS = (
    *("sweep", "access", "coalesced events", "retention", "counters"),
    *("deliveries", "delivery results", "delivery claims"),
)


def status(server):
    return run(server.environment, "status")


@pytest.mark.slow
def test_status_shows_the_loops_of_all_processes(fresh_server):
    server = fresh_server(DELIVERY_EMBEDDED="false")
    command = [sys.executable, "manage.py", "deliver"]
    delivering = subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL)
    try:
        shown = until(lambda: (found := status(server)).stdout.count(": running") == 2 and found, 20)
        assert shown.returncode == 0
        assert f"server, process {server.process.pid} on" in shown.stdout
        assert f"deliver, process {delivering.pid} on" in shown.stdout
        for loop in LOOPS:
            assert shown.stdout.count(f"  {loop} ") == 1
    finally:
        delivering.terminate()
        delivering.wait(20)
    assert status(server).stdout.count(": running") == 1  # the other has said goodbye
    server.stop()
    stopped = status(server)
    assert stopped.returncode == 1
    assert "No process is running" in stopped.stderr


@pytest.mark.slow
@pytest.mark.any_database
def test_status_and_the_admin_show_a_loop_that_fails(fresh_server):
    server = fresh_server()
    server.shell(BREAK)
    until(lambda: "The loop 'access' has failed" in server.log.read_text())

    failing = until(lambda: "OverflowError at " in (found := status(server)).stdout and found)
    server.shell(REPAIR)

    assert failing.returncode == 1
    assert "Something has failed: see above, and the log" in failing.stderr
    shown = server.shell(
        """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("root"))
for url in ("/admin/realtime/process/", f"/admin/realtime/process/{pk}/change/"):
    print(client.get(url, headers={"host": "127.0.0.1"}).content.decode())
""".replace("{pk}", "{__import__('realtime.models').models.Process.objects.get().pk}")
    )
    assert shown.count("OverflowError at ") == 2
    assert "<td>delivery claims</td>" in shown


@pytest.mark.slow
@pytest.mark.any_database
def test_status_shows_a_process_that_was_killed(fresh_server):
    server = fresh_server()
    until(lambda: server.shell("from realtime.models import Process; print(Process.objects.count())") == "1\n")
    server.kill()
    server.shell(
        "from datetime import timedelta; from django.utils import timezone; from realtime.models import Process;"
        "Process.objects.update(seen_at=timezone.now() - timedelta(minutes=5))"
    )

    shown = status(server)
    assert shown.returncode == 1
    assert ": gone without a word" in shown.stdout
    server.start()
