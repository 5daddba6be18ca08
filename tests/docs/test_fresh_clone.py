"""A fresh clone: `make run`, and what it prints, pasted as it stands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.program import Program, node
from tests.in_process import until
from tests.server import ROOT, free_port

pytestmark = [pytest.mark.any_database, pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds in which packages are installed.
INSTALLATION = 300


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Program]:
    """A server that `make run` has set up and started, without any setting but its port."""
    clone = tmp_path / "evoapi"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with Program(["make", "run"], cwd=clone, env=environment | {"SERVER_PORT": str(free_port())}) as make:

        def is_serving() -> bool:
            assert make.process.poll() is None, make.output
            return "Serving on" in make.output

        until(is_serving, INSTALLATION)
        yield make
        make.stop()


def test_what_make_run_prints_works_as_it_is_pasted(running: Program):
    printed = running.output
    script = "\n".join(line[2:] for line in printed.split("\n") if line.startswith("  ") and _is_code(line))
    with node(script) as client:
        until(lambda: "connected" in client.output, 20)
        until(lambda: "Hello, World!" in client.output, 10)
        commands = re.findall(r"^  (curl (?:.*\\\n)*.*)$", printed, re.MULTILINE)
        assert len(commands) == 2
        for command in commands:
            done = subprocess.run(["sh", "-c", f"{command} --fail"], capture_output=True, text=True, timeout=20)
            assert (done.returncode, done.stdout[:1]) == (0, "{"), done.stdout + done.stderr
        until(lambda: "Good morning" in client.output, 10)


def _is_code(line: str) -> bool:
    return line.startswith(("  const ", "  socket.", "  //"))
