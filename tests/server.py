"""A server in a process of its own, for tests that use it over HTTP and sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg

from tests.emitted import Log
from tests.environment import APP_SECRET, GLOBAL_KEY, ON_POSTGRES, POSTGRES_URL, SETTINGS
from tests.forking import ForkedProcess, fork_server
from tests.watched import END, STALL

ROOT = Path(__file__).resolve().parent.parent


#: A loop that executes each line of its input, a JSON string of Python code, and prints its output as JSON.
SHELL = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    error = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(json.loads(line), {})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps({"printed": printed.getvalue(), "error": error}), flush=True)
"""


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Number:
    """An instance that a test made."""

    name: str
    token: str
    id: str
    number: str | None


def free_port() -> int:
    """Return a port that nothing has, outside of the range from which systems take the ports of clients.

    Within it a connection might take the port before the server does.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def milliseconds(stall: str) -> int:
    """Return how long a stall of `Server.stalls` was."""
    return int(stall.removeprefix(STALL).split()[0])


def _stalls_in(log: str) -> list[str]:
    return [f"{STALL}{stall.split(END)[0]}" for stall in log.split(STALL)[1:]]


class Server:
    """`manage.py serve` on a free port; servers with the same `environment` share a database."""

    #: The servers that have been started and not stopped.
    running: ClassVar[set[Server]] = set()
    #: The stalls of servers that were stopped, and what was wrong with their events.
    unchecked: ClassVar[list[str]] = []
    unchecked_events: ClassVar[list[str]] = []
    #: The logs that servers have written, by the variables that name their databases.
    logs: ClassVar[dict[tuple[str | None, ...], Log]] = {}

    def __init__(self, environment: dict[str, str], root: Path = ROOT) -> None:
        """`root` is the directory of the code that runs."""
        self.root = root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = inherited | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"} | environment
        self.log = Path(environment["DATA_DIR"]) / f"server-{self.port}.log"
        #: The end of what `new_stalls` has read of the log.
        self._checked = 0
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._shell: subprocess.Popen[str] | None = None

    def start(self) -> None:
        arguments = ["serve", str(self.port)]
        if self._can_fork:
            self.process = fork_server.run("tests.watched", arguments, self.environment, self.log, self.log)
        else:
            command = [sys.executable, "-m", "tests.watched", *arguments]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=log, stderr=log)
        self._wait_for_port()

    @property
    def _can_fork(self) -> bool:
        return self.root == ROOT and fork_server.can_run(self.environment)

    def _wait_for_port(self) -> None:
        assert self.process
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                self.running.add(self)
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"The server did not start:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Stop the server by SIGTERM; returns its exit code."""
        assert self.process
        self._end_running()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        assert self.process
        self._end_running()
        self.process.kill()
        self.process.wait(20)

    def _end_running(self) -> None:
        self._end_shell()
        self.running.discard(self)
        self.unchecked += self.new_stalls()
        self.unchecked_events += self.new_event_faults()
        self._log_of_events.close()

    def new_event_faults(self) -> list[str]:
        """Return what is wrong with the events that were recorded since the last call for this database."""
        if self.root != ROOT:
            return []  # its code has schemas of its own
        try:
            return self._log_of_events.faults()
        except (psycopg.OperationalError, sqlite3.OperationalError):  # tests take the database away, or lock it
            self._log_of_events.close()
            return []

    @property
    def _log_of_events(self) -> Log:
        key = self.environment.get("DATABASE_URL"), self.environment["DATA_DIR"]
        return self.logs.setdefault(key, Log(self.environment))

    def memory(self) -> int:
        """Return the bytes of the server's resident memory."""
        assert self.process
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def stalls(self) -> list[str]:
        """Return the stalls that the watchdog has logged so far, each with the stack of the thread that worked."""
        return _stalls_in(self.log.read_text(errors="replace"))

    def new_stalls(self) -> list[str]:
        """Return the stalls that were logged since the last call; the stop of a server is not watched."""
        with self.log.open("rb") as log:
            log.seek(self._checked)
            lines = log.read()
        self._checked += len(lines)
        return _stalls_in(lines.decode(errors="replace"))

    def manage(self, *arguments: str) -> str:
        """Run a management command on this server's database; returns its output."""
        if not self._can_fork:
            return self.python("manage.py", *arguments)
        with tempfile.TemporaryDirectory() as directory:
            output, errors = Path(directory) / "output", Path(directory) / "errors"
            process = fork_server.run("manage", arguments, self.environment, output, errors)
            assert process.wait(60) == 0, output.read_text() + errors.read_text()
            return output.read_text()

    def python(self, *arguments: str) -> str:
        """Run Python with these arguments on this server's code and database; returns its output."""
        options = {"cwd": self.root, "env": self.environment, "capture_output": True, "text": True, "timeout": 60}
        result = subprocess.run([sys.executable, *arguments], **options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def shell(self, code: str) -> str:
        """Run Python code in a `manage.py shell` on this server's database; returns its output.

        The shell stays open for the next call.
        """
        if self._shell is None:
            command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", SHELL]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            with self.log.open("ab") as log:
                self._shell = subprocess.Popen(command, cwd=self.root, env=self.environment, stderr=log, **pipes)
        assert self._shell.stdin
        assert self._shell.stdout
        print(json.dumps(code), file=self._shell.stdin, flush=True)
        line = self._shell.stdout.readline()
        assert line, self.log.read_text()
        result = json.loads(line)
        assert result["error"] is None, result["error"]
        return result["printed"]

    def _end_shell(self) -> None:
        if self._shell is not None:
            self._shell.communicate(timeout=20)
            self._shell = None

    # HTTP

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str | None = GLOBAL_KEY,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request; `body` is sent as JSON, unless it is bytes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        sent |= {"apikey": key} if key is not None else {}
        request = urllib.request.Request(self.url + path, data, sent | (headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Response(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.read(), error.headers)

    def get(self, path: str, **options: Any) -> Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Response:
        return self.request("POST", path, body, **options)

    # Requests that many tests make

    def create(self, name: str | None = None, integration: str = "EVOLUTION", **fields: Any) -> Number:
        """Create an instance, by default with a random name and number."""
        name = name or f"instance-{secrets.token_hex(4)}"
        fields = {"number": str(secrets.randbelow(10**12) + 10**12)} | fields
        if integration == "WHATSAPP-BUSINESS":
            fields = {"token": f"graph-{secrets.token_hex(12)}"} | fields
        response = self.post("/instance/create", {"instanceName": name, "integration": integration} | fields)
        assert response.status == 201, response.body
        created = response.json
        return Number(name, created["hash"], created["instance"]["instanceId"], fields["number"])

    def receive(self, instance: Number, text: str = "hello", id: str | None = None, **fields: Any) -> Response:
        """Post a message to the ingress of the Evolution channel."""
        key = {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False, "id": id or secrets.token_hex(8)}
        message = {"message": {"conversation": text}, "messageType": "conversation", "pushName": "Ana"}
        return self.post(
            "/webhook/evolution", {"numberId": instance.number, "key": key} | message | fields, key=instance.token
        )

    def post_meta(self, payload: Any, secret: str = APP_SECRET, **options: Any) -> Response:
        """Post a payload, signed as Meta signs it, to the ingress of the Cloud API."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={signature}"}
        return self.request("POST", "/webhook/meta", body, key=None, headers=headers, **options)

    def counts(self, instance: Number) -> dict[str, int]:
        """Return the numbers of stored messages, contacts and chats."""
        return self.get("/instance/fetchInstances", key=instance.token).json[0]["_count"]

    def path(self, route: str, instance: Number | str) -> str:
        return f"{route}/{quote(instance if isinstance(instance, str) else instance.name, safe='')}"


@contextmanager
def migrated_database(data_dir: Path) -> Iterator[str]:
    """Create a migrated database to copy from: yields SQLite's file, or PostgreSQL's database name."""
    environment = SETTINGS | {"DATA_DIR": str(data_dir)}
    if not ON_POSTGRES:
        Server(environment).manage("migrate", "--verbosity", "0")
        yield str(data_dir / "db.sqlite3")
        return
    with _new_database() as name:
        Server(environment | {"DATABASE_URL": _url_of(name)}).manage("migrate", "--verbosity", "0")
        yield name


@contextmanager
def server_environment(migrated: str, data_dir: Path) -> Iterator[dict[str, str]]:
    """Copy the migrated database; yields the environment variables of a server that uses the copy."""
    environment = SETTINGS | {"DATA_DIR": str(data_dir)}
    if not ON_POSTGRES:
        shutil.copy(migrated, data_dir)
        yield environment
        return
    with _new_database(template=migrated) as name:
        yield environment | {"DATABASE_URL": _url_of(name)}


@contextmanager
def _new_database(template: str = "template1") -> Iterator[str]:
    name = f"evoapi_server_{secrets.token_hex(4)}"
    with psycopg.connect(POSTGRES_URL, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(name: str) -> str:
    return POSTGRES_URL.rsplit("/", 1)[0] + f"/{name}"
