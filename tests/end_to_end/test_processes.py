"""Several processes on one database, restarts, and the errors of a server that cannot start."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.environment import GLOBAL_KEY
from tests.server import ROOT, Server, free_port

RECORD = """
from instances.events import event_occurred
from instances.models import Instance
instance = Instance.objects.get(name={name!r})
for number in range({count}):
    data = {{"chatId": None, "status": "offer", "number": number}}
    event_occurred.send(sender=None, instance=instance, event_type="call", data=data)
"""


def run(environment, *arguments):
    """Run a management command."""
    command = [sys.executable, "manage.py", *arguments]
    inherited = Server({"DATA_DIR": environment["DATA_DIR"]}).environment
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_event_recorded_in_a_shell_reaches_the_servers_clients(server, node):
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    root = node.connect(f"{server.url}/", auth={"apikey": GLOBAL_KEY}).connected()

    server.shell(RECORD.format(name=instance.name, count=3))

    assert [client.event("call")["data"]["number"] for _ in range(3)] == [0, 1, 2]
    calls = [root.event("call") for _ in range(3)]
    assert [event["instance"] for event in calls] == [instance.name] * 3
    client.disconnect()
    root.disconnect()


@pytest.mark.postgres
def test_events_that_one_process_records_reach_the_clients_of_another(server, start_server, node):
    other = start_server()
    instance = server.create()
    client = node.connect(f"{other.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    root = node.connect(f"{other.url}/", auth={"apikey": GLOBAL_KEY}).connected()

    for number in range(20):
        source = (server, other)[number % 2]
        assert source.receive(instance, f"text {number}").status == 200

    messages = [client.event("messages.upsert") for _ in range(20)]
    assert [event["data"]["message"]["conversation"] for event in messages] == [f"text {n}" for n in range(20)]
    events = [line["args"][0] for line in client.seen if line["is"] == "event"]
    assert [event["seq"] for event in events] == list(range(2, len(events) + 2))
    texts = [root.event("messages.upsert") for _ in range(20)]
    assert [event["data"]["message"]["conversation"] for event in texts] == [f"text {n}" for n in range(20)]
    client.disconnect()
    root.disconnect()


@pytest.mark.any_database
def test_clients_reconnect_after_a_restart_and_receive_events(fresh_server, node):
    server = fresh_server()
    instance = server.create("loja centro")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.kill()
    client.wait_for("disconnect")
    server.start()
    client.wait_for("connect", timeout=20)
    server.receive(instance, "still there?")

    assert client.event("messages.upsert")["data"]["message"] == {"conversation": "still there?"}
    client.disconnect()


@pytest.mark.any_database
def test_clients_of_a_server_that_is_stopped_reconnect_to_the_next_one(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    clients = [
        node.connect(
            f"{server.url}/{instance.name}",
            auth={"apikey": instance.token, "recover": True},
            transports=[transport],
            reconnectionDelayMax=500,
        ).connected()
        for transport in ("websocket", "polling", "websocket", "polling")
    ]

    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10, "a shutdown takes less than 10 s, whatever its clients do"
    for client in clients:
        assert client.wait_for("disconnect")["active"] is True
    server.start()
    for client in clients:
        assert client.wait_for("connect", timeout=20)["recovered"] is True
        client.disconnect()


@pytest.mark.any_database
@pytest.mark.parametrize("module", ["http", "websocket", "server"])
def test_uvicorn_can_import_our_protocols_before_django_is_set_up(module):
    """As it does in each of its workers, and for its options --http and --ws."""
    command = [sys.executable, "-c", f"import realtime.wire.{module}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.postgres
@pytest.mark.slow
def test_several_workers_let_waiting_clients_go_before_they_stop(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    server.stop()
    port = free_port()
    command = [sys.executable, "manage.py", "serve", str(port), "--workers", "2"]
    with server.log.open("ab") as log:
        workers = subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=log, stderr=log)
    try:
        clients = [
            node.connect(
                f"http://127.0.0.1:{port}/{instance.name}", auth={"apikey": instance.token}, transports=["polling"]
            )
            for _ in range(4)
        ]
        for client in clients:
            client.connected(40)

        workers.terminate()
        assert workers.wait(20) == 0
        assert "timeout graceful shutdown exceeded" not in server.log.read_text()
        for client in clients:
            assert client.wait_for("disconnect")["active"] is True
            client.disconnect()
    finally:
        workers.kill()
        workers.wait()


@pytest.mark.any_database
def test_several_workers_on_sqlite_are_refused_with_the_reason(tmp_path):
    done = run({"DATA_DIR": str(tmp_path), "SECRET_KEY": "x"}, "serve", "--workers", "2")

    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr


@pytest.mark.any_database
@pytest.mark.parametrize("key", ["BQYHJGJHJ", "429683C4C977415CAAFCCE10F7D57E11"])
def test_a_key_that_evolution_published_is_refused(tmp_path, key):
    done = run({"DATA_DIR": str(tmp_path), "AUTHENTICATION_API_KEY": key}, "check")

    assert done.returncode != 0
    assert "AUTHENTICATION_API_KEY" in done.stderr


@pytest.mark.slow
@pytest.mark.any_database
def test_the_first_run_generates_secrets_shows_them_once_and_stores_them(tmp_path):
    environment = {"DATA_DIR": str(tmp_path / "data")}
    run(environment, "migrate", "--verbosity", "0")
    first = run(environment, "bootstrap").stdout
    second = run(environment, "bootstrap").stdout
    later = run(environment, "credentials").stdout

    file = Path(environment["DATA_DIR"]) / "secrets.json"
    secrets = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name in ("AUTHENTICATION_API_KEY", "DJANGO_SUPERUSER_PASSWORD"):
        assert secrets[name] in first
        assert secrets[name] not in second
        assert secrets[name] in later
    assert "X-Hub-Signature-256: sha256=" in first
    assert 'io("http://127.0.0.1:8080/demo"' in first


@pytest.mark.any_database
def test_a_server_does_not_start_with_other_secrets_than_the_databases(fresh_server):
    server = fresh_server()
    server.stop()
    server.environment["SECRET_KEY"] = "another one"

    with pytest.raises(RuntimeError, match="SECRET_KEY is not the one that this database was written with"):
        server.start()


@pytest.mark.any_database
def test_tokens_stay_valid_while_the_secret_key_is_rotated(fresh_server):
    server = fresh_server()
    instance = server.create()
    server.stop()
    server.environment |= {"SECRET_KEY_FALLBACKS": server.environment["SECRET_KEY"], "SECRET_KEY": "another one"}
    server.start()

    assert server.get(server.path("/instance/connectionState", instance), key=instance.token).status == 200


@pytest.mark.any_database
def test_a_server_without_its_tables_names_the_command_to_run(tmp_path):
    server = Server({"DATA_DIR": str(tmp_path)})

    with pytest.raises(RuntimeError, match=r"manage\.py migrate"):
        server.start()


@pytest.mark.any_database
def test_no_key_is_in_the_servers_log(fresh_server, node):
    server = fresh_server(LOG_LEVEL="DEBUG")
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", query={"apikey": instance.token}).connected()
    polling = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=["polling"]
    ).connected()
    server.get(f"/nowhere?apikey={instance.token}", key=instance.token)
    server.receive(instance)
    client.event("messages.upsert")
    polling.event("messages.upsert")
    server.stop()

    log = server.log.read_text()
    assert "Serving on" in log
    assert instance.token not in log
    assert GLOBAL_KEY not in log
