"""The environment variables, as somebody who starts the server finds them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.environment import SETTINGS
from tests.server import ROOT, free_port

POSTGRES = "postgres://postgres@127.0.0.1:1/nowhere"


class Served:
    """`manage.py serve` with these variables: its exit code and its output, all of it or so far."""

    def __init__(self, tmp_path, *arguments, command="serve", database=True, **variables):
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environment = inherited | SETTINGS | {"DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"} | variables
        if database:
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                env=inherited | SETTINGS | {"DATA_DIR": str(tmp_path)},
                check=True,
            )
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", command, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def ended(self):
        """Wait for its end; returns the exit code."""
        self.output += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def read_until(self, text):
        """Read its output up to a line that contains the text."""
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return line
        raise AssertionError(f"It ended without {text!r}:\n{self.output}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def refused(tmp_path, **variables):
    """Return the lines with which a server refuses to start."""
    served = Served(tmp_path, str(free_port()), database=False, **variables)
    assert served.ended() == 1, served.output
    assert "Traceback" not in served.output
    first, *lines = served.output.splitlines()
    assert first == "manage.py cannot run. The environment cannot be used; docs/settings.md explains it."
    return lines


@pytest.mark.any_database
def test_all_variables_that_cannot_be_read_are_told_at_once_with_their_form_and_an_example(tmp_path):
    assert refused(
        tmp_path,
        EVENT_RETENTION_HOURS="abc",
        LIMIT_HEAD_BYTES="64k",
        SERVER_PORT="99999",
        WEBSOCKET_ENABLED="ture",
        WEBHOOK_RETRY_JITTER_FACTOR="2",
        EVENT_COALESCE_PRESENCE_UPDATE_MS="1s",
        TRUSTED_PROXIES="10.0.0.0/8,proxy",
        CORS_ORIGIN="panel.example.com",
        ALLOWED_HOSTS="https://evo.example.com",
        SERVER_URL="evo.example.com",
        WEBHOOK_GLOBAL_URL="ftp://user:very-secret@example.com",
        WEBHOOK_GLOBAL_SECRET="very-secret",
        WEBHOOK_EVENTS_CALL="always",
        WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES="400,4xx",
        WA_BUSINESS_VERSION="20",
        LOG_LEVEL="LOUD",
        ENCRYPTION_KEYS="short",
    ) == [
        "- LIMIT_HEAD_BYTES takes a whole number of bytes, 1 or more, such as 65536; not '64k'.",
        "- SERVER_PORT takes a port from 0 to 65535, such as 8080; not '99999'.",
        "- SERVER_URL takes a URL that begins with http:// or https://, such as https://evo.example.com.",
        "- ALLOWED_HOSTS takes names of hosts without scheme and port, such as evo.example.com; not "
        "'https://evo.example.com'.",
        "- CORS_ORIGIN takes * or origins, separated by commas, such as https://panel.example.com; not "
        "'panel.example.com'.",
        "- TRUSTED_PROXIES takes addresses and CIDRs, separated by commas, such as 10.0.0.0/8,192.168.1.7; not "
        "'proxy'.",
        "- ENCRYPTION_KEYS takes Fernet keys (32 bytes in URL-safe base64), separated by commas; this prints one: "
        'python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())" (a Fernet key).',
        "- WA_BUSINESS_VERSION takes a version of the Graph API, such as v20.0; not '20'.",
        "- WEBSOCKET_ENABLED takes true or false; not 'ture'.",
        "- EVENT_RETENTION_HOURS takes a number of hours from 1 to 1000000, such as 168; not 'abc'.",
        "- EVENT_COALESCE_PRESENCE_UPDATE_MS takes a number of milliseconds, 0 for off, from 0 to 3600000, such as "
        "1000; not '1s'.",
        "- WEBHOOK_RETRY_JITTER_FACTOR takes a number from 0 to 1, such as 0.2; not '2'.",
        "- WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES takes HTTP statuses, separated by commas, such as 400,422; not "
        "'4xx'.",
        "- WEBHOOK_GLOBAL_URL takes a URL that begins with http:// or https://, such as https://hook.example.com/in.",
        "- WEBHOOK_EVENTS_CALL takes true or false; not 'always'.",
        "- WEBHOOK_GLOBAL_SECRET: A signing secret begins with whsec_.",
        "- LOG_LEVEL takes DEBUG, INFO, WARNING, ERROR or CRITICAL, such as INFO; not 'LOUD'.",
    ]


@pytest.mark.slow
@pytest.mark.any_database
def test_three_missing_variables_are_named_together_with_the_command_to_make_each(tmp_path):
    missing = dict.fromkeys(("SECRET_KEY", "ENCRYPTION_KEYS", "AUTHENTICATION_API_KEY"), "")
    lines = refused(tmp_path, DATABASE_URL=POSTGRES, **missing)
    assert [re.match("- ([A-Z_]+) must be set in the environment", line)[1] for line in lines] == list(missing)
    made = {}
    for name, line in zip(missing, lines, strict=True):
        command = re.search(r"python (-c \".+\")", line)[1]
        printed = subprocess.run([sys.executable, *shlex.split(command)], capture_output=True, text=True, check=True)
        made[name] = printed.stdout.strip()

    # with what the commands print it goes on, to the database that is not there
    served = Served(tmp_path, str(free_port()), database=False, DATABASE_URL=POSTGRES, **made)
    assert served.ended() != 0
    assert "environment cannot be used" not in served.output


@pytest.mark.any_database
def test_a_port_that_kubernetes_sets_is_told_from_a_wrong_one(tmp_path):
    [line] = refused(tmp_path, SERVER_PORT="tcp://10.0.0.1:8080")
    assert line.endswith("Kubernetes sets it for a service of that name, unless enableServiceLinks is false.")


@pytest.mark.slow
@pytest.mark.any_database
def test_values_are_read_however_they_are_quoted_and_empty_ones_as_not_set(tmp_path):
    port = free_port()
    served = Served(
        tmp_path,
        SERVER_PORT=f'"{port}"',
        WEBSOCKET_ENABLED="",
        EVENT_RETENTION_HOURS=" 24 ",
        LOG_LEVEL="ERROR,WARN,DEBUG,INFO,LOG,VERBOSE,DARK,WEBHOOKS,WEBSOCKET",
        CORS_ORIGIN="",
    )
    assert f"http://127.0.0.1:{port}" in served.read_until("Serving on")
    served.stop()


@pytest.mark.slow
@pytest.mark.any_database
def test_one_warning_names_the_variables_that_begin_like_ours_with_the_nearest(tmp_path):
    misspelt = {
        "LIMIT_HAED_BYTES": "1",
        "WEBHOOK_EVENTS_MESSAGE_UPSERT": "true",
        "WEBHOOK_ALLOWED_NETWORK": "10.0.0.0/8",
        "EVENT_RETENTION": "5",
        "DATABASE_URI": "postgres://secret@x/y",
        "AUTHENTICATION_APIKEY": "a-secret",
    }
    evolutions = {
        "SERVER_TYPE": "http",
        "WEBHOOK_EVENTS_ERRORS": "true",
        "DATABASE_PROVIDER": "postgresql",
        "DATABASE_SAVE_DATA_INSTANCE": "true",
        "CORS_METHODS": "GET",
        "AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES": "true",
        "CHATWOOT_ENABLED": "false",
        "CACHE_REDIS_URI": "redis://x",
    }
    others = {
        "RABBITMQ_SERVICE_HOST": "10.0.0.2",
        "RABBITMQ_PORT": "tcp://10.0.0.2:5672",
        "EVOLUTION_API_PORT_8080_TCP_ADDR": "10.0.0.3",
        "RABBITMQ_DEFAULT_USER": "guest",
        "SERVER_SOFTWARE": "x",
        "LOG_DIRECTORY": "/tmp",
        "DATABASE_HOST": "db",
    }
    served = Served(tmp_path, "0", **misspelt, **evolutions, **others)
    served.read_until("Serving on")
    served.stop()

    [line] = [line for line in served.output.splitlines() if "read by nothing" in line]
    assert " WARNING " in line
    _, _, listed = line.partition("read by nothing: ")
    assert listed.startswith(
        "AUTHENTICATION_APIKEY (near AUTHENTICATION_API_KEY), DATABASE_URI (near DATABASE_URL), EVENT_RETENTION (near "
        "EVENT_RETENTION_HOURS), LIMIT_HAED_BYTES (near LIMIT_HEAD_BYTES"
    )
    assert "WEBHOOK_EVENTS_MESSAGE_UPSERT (near WEBHOOK_EVENTS_MESSAGES_UPSERT" in listed
    assert "WEBHOOK_ALLOWED_NETWORK (near WEBHOOK_ALLOWED_NETWORKS" in listed
    assert not [name for name in {**evolutions, **others} if name in listed]
    assert "secret" not in line


# The port


@pytest.mark.any_database
@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_told_in_a_sentence_and_nothing_else(tmp_path, workers):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        variables = SETTINGS if workers == 1 else SETTINGS | {"DATABASE_URL": POSTGRES}
        served = Served(tmp_path, str(port), "--workers", str(workers), database=False, **variables)
        assert served.ended() == 1

    assert served.output == (
        f"CommandError: The server cannot listen on 127.0.0.1, port {port}. Another program has it, perhaps an earlier "
        "server that still runs: stop that, or take another port by SERVER_PORT or `manage.py serve <port>`\n"
    )


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.1:8080", "That is no address of this machine"),
        ("no-such-host.invalid:8080", "This machine knows no address of that name"),
        ("127.0.0.1:70000", "70000 is no port"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_told_in_a_sentence(tmp_path, address, words):
    served = Served(tmp_path, address, database=False)
    assert served.ended() == 1
    assert words in served.output
    assert "Serving on" not in served.output


@pytest.mark.slow
@pytest.mark.any_database
def test_serving_on_is_said_once_clients_can_connect(tmp_path):
    served = Served(tmp_path, "0")
    address = re.search(r"http://127\.0\.0\.1:([0-9]+) ", served.read_until("Serving on"))
    socket.create_connection(("127.0.0.1", int(address[1])), 5).close()
    assert served.stop() in (0, -signal.SIGTERM)


@pytest.mark.any_database
def test_serving_on_is_not_said_by_a_server_without_its_tables(tmp_path):
    began = time.monotonic()
    served = Served(tmp_path, "0", database=False)
    assert served.ended() == 3, time.monotonic() - began
    assert "Serving on" not in served.output
    assert "manage.py migrate" in served.output
