"""Servers and the load generator as processes, each pinned to a core and controlled by lines on its standard input."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
#: Directory of all output: programs, databases, requests, results.
WORK = BENCH / "work"

#: Seconds without any frame after which a measurement has failed.
IDLE_TIMEOUT = 10
#: Seconds that a response may take; stock python-socketio takes half a minute for some.
RESPONSE_TIMEOUT = 120

#: Environment of our server besides DATA_DIR. The buffer is so large that no client falls back to the log, which does
#: not have the fed events.
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "evoapi.settings",
    "AUTHENTICATION_API_KEY": "global-key-of-the-benchmark-0123456789",
    "WA_BUSINESS_APP_SECRET": "app-secret-of-the-benchmark",
    "WA_BUSINESS_TOKEN_WEBHOOK": "verify-token-of-the-benchmark",
    "WA_BUSINESS_URL": "http://127.0.0.1:9",  # nothing listens there
    "WEBSOCKET_MAX_BUFFER": str(1 << 30),
    "LOG_LEVEL": "WARNING",
}


def cores() -> tuple[int, int]:
    """Return the cores of the servers and of the generator, which are the same where there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[1 % len(ours)]


def environment(data_dir: Path) -> dict[str, str]:
    """Return the environment of a server, without any setting of the developer."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return inherited | SETTINGS | {"DATA_DIR": str(data_dir)}


def compile_c() -> None:
    """Compile the load generator and the send() loop. Raises SystemExit where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise SystemExit("The load generator is in C, and there is no compiler here (Debian, Ubuntu: apt install gcc).")
    for name, sources in {"load": (BENCH / "load").glob("*.c"), "limit": [BENCH / "servers" / "limit.c"]}.items():
        subprocess.run([compiler, "-O2", "-std=c11", "-o", WORK / name, *sources], check=True)


class NotValid(Exception):
    """Raised for a measurement without meaning: events were lost, or a client or process left, failed or hung."""


class Process:
    """A process that reads commands and responds in JSON lines; it ends when its standard input does."""

    def __init__(self, command: list[Any], core: int, stdin: int, **options: Any) -> None:
        words = [str(word) for word in command]
        pipes: dict[str, Any] = {"stdin": stdin, "stdout": subprocess.PIPE, "text": True}
        self.name = " ".join(words)
        self.process = subprocess.Popen(
            words, cwd=ROOT, preexec_fn=lambda: os.sched_setaffinity(0, {core}), **pipes, **options
        )

    def response(self) -> dict[str, Any]:
        """Return the next line. Raises NotValid after RESPONSE_TIMEOUT or if the process ended."""
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], RESPONSE_TIMEOUT)
        if not ready:
            raise NotValid(f"{self.name} does not respond")
        line = self.process.stdout.readline()
        if not line:
            raise NotValid(f"{self.name} ended by itself ({self.process.wait()})")
        return json.loads(line)

    def end(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Bench:
    """A server and its load generator, whose clients are not connected yet."""

    def __init__(self, server: list[Any], clients: Path, data_dir: Path) -> None:
        server_core, load_core = cores()
        reading, self._commands = os.pipe()
        self._server = Process(server, server_core, reading, env=environment(data_dir))
        os.close(reading)
        try:
            self.port: int = self._server.response()["port"]
        except NotValid:
            os.close(self._commands)
            self._server.end()
            raise
        load_reading, self._load_commands = os.pipe()
        self._load = Process(
            [WORK / "load", self.port, clients, self._commands], load_core, load_reading, pass_fds=[self._commands]
        )
        os.close(load_reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._load_commands)
        self._load.end()
        os.close(self._commands)
        self._server.end()

    def server(self, command: str) -> dict[str, Any]:
        """Send the server a command; return its response."""
        _write(self._commands, command)
        return self._server.response()

    def send_load(self, command: str) -> None:
        """Send the generator a command that has no response."""
        _write(self._load_commands, command)

    def load(self, command: str) -> dict[str, Any]:
        """Send the generator a command; return its response."""
        self.send_load(command)
        return self._load.response()


def _write(pipe: int, command: str) -> None:
    try:
        os.write(pipe, f"{command}\n".encode())
    except BrokenPipeError:
        raise NotValid("server or generator ended by itself") from None


def server_command(kind: str, instances: Path, namespace: str) -> list[Any]:
    return {
        "ours": [sys.executable, "-m", "bench.servers.evoapi", instances],
        "stock": [sys.executable, "-m", "bench.servers.stock", instances],
        "node": ["node", BENCH / "servers" / "node.js", instances],
        "limit": [WORK / "limit", namespace],
    }[kind]
