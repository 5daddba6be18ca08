"""Background loops that fail are restarted; one that fails again and again ends the process."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.environment import SETTINGS
from tests.server import ROOT

#: Makes a sum that is no number, which nobody foresees. SQLite takes such a value, PostgreSQL would refuse it.
BREAK = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("INSERT INTO instances_accessrevision (amount) VALUES (9e999)")
"""
REPAIR = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("DELETE FROM instances_accessrevision WHERE amount > 1e300")
"""


@pytest.mark.slow
@pytest.mark.any_database
def test_a_loop_that_fails_is_logged_and_goes_on_once_it_can(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.shell(BREAK)
    time.sleep(3)  # it looks once a second
    server.shell(REPAIR)

    assert server.post(server.path("/instance/rotateToken", instance)).status == 200
    client.wait_for("disconnect", 10)
    assert server.log.read_text().count("The loop 'access' has failed; it is restarted") >= 2
    assert "OverflowError: cannot convert float infinity to integer" in server.log.read_text()


@pytest.mark.any_database
@pytest.mark.slow
def test_a_server_ends_with_an_error_when_a_loop_fails_ten_times_within_a_minute(fresh_server):
    server = fresh_server()
    server.shell(BREAK)

    assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert "The loop 'access' has failed 10 times in 60 seconds: the process ends" in log
    assert log.count("it is restarted") == 9

    server.shell(REPAIR)
    server.start()
    assert server.get("/instance/fetchInstances").status == 200


@pytest.mark.any_database
@pytest.mark.slow
def test_manage_py_deliver_ends_with_an_error_when_a_loop_fails_ten_times_within_a_minute(fresh_server):
    server = fresh_server(DELIVERY_EMBEDDED="false")
    settings = {"DJANGO_SETTINGS_MODULE": "tests.realtime.operation.faulty_settings"}

    delivering = deliver(server.environment | settings)

    assert delivering.returncode == 1
    assert "The loop 'deliveries' has failed 10 times in 60 seconds" in delivering.stderr
    assert "Nothing is delivered any more: a loop has failed too often" in delivering.stderr


@pytest.mark.slow
@pytest.mark.any_database
def test_manage_py_deliver_checks_the_database_as_the_server_does(fresh_server, tmp_path):
    server = fresh_server()
    server.stop()

    without_tables = deliver(server.environment | {"DATA_DIR": str(tmp_path)})
    with_other_secrets = deliver(server.environment | {"SECRET_KEY": "another one"})

    assert without_tables.returncode == with_other_secrets.returncode == 1
    assert "run `manage.py migrate`" in without_tables.stderr
    assert "SECRET_KEY is not the one that this database was written with" in with_other_secrets.stderr


def deliver(environment):
    command = [sys.executable, "manage.py", "deliver"]
    return subprocess.run(
        command, cwd=ROOT, env=SETTINGS | environment, capture_output=True, text=True, timeout=60, check=False
    )
