"""A project that `django-admin startproject` made, with what docs/channels.md has a newcomer paste."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.docs.snippets import snippets
from tests.environment import GLOBAL_KEY
from tests.server import ROOT, Server

DOCUMENT = "docs/channels.md"
#: The port in the document's commands.
PORT = "8080"

#: The first line of a snippet that is a file, or the end of one.
_FILE = re.compile(r"# (\S+)(, at its end)?\n")


def commands() -> list[str]:
    """Return the lines of the document's shell, without comments."""
    lines = [line for each in snippets("sh") if each.document == DOCUMENT for line in each.text.splitlines()]
    return [line.partition("  #")[0].rstrip() for line in lines]


class Project:
    """A project in a directory of its own."""

    def __init__(self, directory: Path, template: Project | None = None) -> None:
        """Make a project by the document, or copy another one with its database."""
        self.directory = directory / "mysite"
        inherited = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        self.environment = inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "AUTHENTICATION_API_KEY": GLOBAL_KEY,
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        if template:
            shutil.copytree(template.directory, self.directory)
        else:
            self._run("django-admin startproject mysite", directory)
            self._paste_files()

    def _paste_files(self) -> None:
        for each in snippets("python"):
            if each.document == DOCUMENT and (file := _FILE.match(each.text)):
                path = self.directory / file[1]
                path.write_text(f"{path.read_text()}\n{each.text}" if file[2] else each.text)

    def run(self, command: str) -> str:
        """Run a command of the document in the project's directory; returns its output."""
        return self._run(command, self.directory)

    def _run(self, command: str, directory: Path) -> str:
        assert command in commands(), command
        done = subprocess.run(
            shlex.split(command), cwd=directory, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def server(self, command: str, **settings: str) -> ProjectServer:
        return ProjectServer(self, command, settings)


class ProjectServer(Server):
    """A server of the project, started by a command line that has the document's port."""

    def __init__(self, project: Project, command: str, settings: dict[str, str]) -> None:
        super().__init__(project.environment | settings | {"DATA_DIR": str(project.directory / "var")})
        self.project = project
        self.log = project.directory / f"server-{self.port}.log"
        self.command = command.replace(PORT, str(self.port))

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                shlex.split(self.command), cwd=self.project.directory, env=self.environment, stdout=log, stderr=log
            )
        self._wait_for_port()

    def __enter__(self) -> ProjectServer:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
        self._end_shell()  # of a server that was stopped before

    def processes(self) -> int:
        """Return how many servers say that they are running."""
        return int(self.shell("from realtime.operation.models import Process; print(Process.objects.count())"))

    def wait_until(self, condition: Any, timeout: float = 10) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
