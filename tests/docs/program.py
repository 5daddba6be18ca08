"""Programs that a reader starts."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from tests.server import ROOT


class Program:
    """A program that runs until it is stopped; `lines` are what it has printed."""

    def __init__(self, command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout
        self.process.stdout.close()

    def stop(self) -> None:
        """Send what Ctrl+C sends, to all of its processes."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(20)


def node(code: str, **variables: str) -> Program:
    """Run JavaScript in Node, where it finds the packages of `make setup-dev`."""
    return Program(["node", "-e", code], env=os.environ | {"NODE_PATH": str(ROOT / "node_modules")} | variables)
