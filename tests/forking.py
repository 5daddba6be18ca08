"""Starts Python processes that have the libraries imported already: python -m tests.forking.

A server imports for over a second before it listens, most of it libraries that read no setting, and the tests start
hundreds. So one process imports those once, and forks for each start: the child takes its environment and its files,
and then runs as `python -m <module>` would, importing evoapi and all that reads its settings itself.

Requests and responses are lines of JSON, on stdin and stdout.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Beginnings of modules' names that children import themselves.
OURS = ("evoapi", "instances", "realtime", "tests", "manage", "__")
#: Beginnings of variables that an interpreter reads when it starts, so that a child would not heed them.
EARLY = ("PYTHON", "MALLOC_", "LD_", "GLIBC_")
#: Those that this process has been started with.
EARLY_VALUES = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}
#: Seconds between two looks at whether a process has ended.
INTERVAL = 0.01


class ForkedProcess:
    """A process that was forked, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or 600)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 600)
            time.sleep(INTERVAL)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, started with the first request."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    @staticmethod
    def can_run(environment: dict[str, str]) -> bool:
        """Return whether a forked process heeds all of the environment."""
        early = {name: value for name, value in environment.items() if name.startswith(EARLY)}
        return hasattr(os, "fork") and early == {name: EARLY_VALUES.get(name) for name in early}

    def run(
        self, module: str, arguments: Sequence[str], environment: dict[str, str], output: Path, errors: Path
    ) -> ForkedProcess:
        """Run a module as `python -m` does; what it prints is appended to files."""
        request = {"argv": [module, *arguments], "environment": environment}
        return ForkedProcess(self, self.ask(request | {"files": [os.devnull, str(output), str(errors)]}))

    def ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            if self._process is None:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                inherited = {name: value for name, value in os.environ.items() if not name.startswith(EARLY)}
                inherited["DJANGO_SETTINGS_MODULE"] = "evoapi.settings"
                command = [sys.executable, "-m", "tests.forking"]
                self._process = subprocess.Popen(command, env=inherited | EARLY_VALUES, **pipes)
            assert self._process.stdin
            assert self._process.stdout
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=20)
            self._process = None


#: The one of this process.
fork_server = ForkServer()


def _preload() -> None:
    """Import what a server imports, but for our own modules and those that cannot be imported without settings."""
    code = (
        "import sys; import evoapi.asgi, realtime.wire.http, uvicorn.server, uvloop, aiormq;"
        "print(*sys.modules, file=sys.__stdout__)"
    )
    scout = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    del os.environ["DJANGO_SETTINGS_MODULE"]  # none of the tests' settings must be read here
    for name in scout.stdout.split():
        if not name.startswith(OURS) and name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)


def _serve() -> dict[str, Any]:
    """Answer requests; returns in each child, with the request that it is to run, and ends when stdin does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return request
        print(json.dumps(answer), flush=True)
    raise SystemExit


def _become(request: dict[str, Any]) -> None:
    """Take over the environment and the files of a request."""
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path in enumerate(request["files"]):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = request["argv"]


if __name__ == "__main__":
    _preload()
    gc.collect()
    gc.freeze()  # so that children share the memory
    _request = _serve()
    _become(_request)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
