"""Background loops that fail are restarted; one that fails again and again ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.environment import SETTINGS
from tests.in_process import until
from tests.server import ROOT

#: Records an event that the sweep cannot read. SQLite takes such a row, PostgreSQL would refuse it.
RECORD_UNREADABLE = """
from django.db import connection, transaction
from instances.events import event_occurred
from instances.models import Instance
with transaction.atomic(), connection.cursor() as cursor:
    event_occurred.send(sender=None, instance=Instance.objects.get(name={name!r}), event_type="call", data={{}})
    cursor.execute("UPDATE realtime_event SET instance_id = 'no uuid' WHERE id = (SELECT MAX(id) FROM realtime_event)")
"""
REPAIR = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("UPDATE realtime_event SET instance_id = {id!r} WHERE instance_id = 'no uuid'")
"""


@pytest.mark.any_database
def test_a_loop_that_fails_is_logged_and_goes_on_once_it_can(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.shell(RECORD_UNREADABLE.format(name=instance.name))
    until(lambda: server.log.read_text().count("The loop 'sweep' has failed; it is restarted") >= 2)
    server.shell(REPAIR.format(id=instance.id.replace("-", "")))

    assert client.event("call")["seq"]
    assert "ValueError: badly formed hexadecimal UUID string" in server.log.read_text()
    client.disconnect()


@pytest.mark.any_database
@pytest.mark.slow
def test_a_server_ends_with_an_error_when_a_loop_fails_ten_times_within_a_minute(fresh_server):
    server = fresh_server()
    instance = server.create()
    server.shell(RECORD_UNREADABLE.format(name=instance.name))

    assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert "The loop 'sweep' has failed 10 times in 60 seconds: the process ends" in log
    assert log.count("it is restarted") == 9

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
