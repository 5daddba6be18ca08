"""A reader of the documents, who puts his own server, instance and keys into a snippet and runs it."""

from __future__ import annotations

import os
import re
import subprocess

from tests.docs.program import Program
from tests.docs.snippets import snippets
from tests.environment import APP_SECRET, GLOBAL_KEY, VERIFY_TOKEN
from tests.in_process import until
from tests.server import Number, Server

#: The numbers of `demo` in the documents.
NUMBERS = ("5511944440000", "550000000001")
#: The addresses of the server in the documents.
ADDRESS = re.compile(r"https?://(?:127\.0\.0\.1:8080|evo\.example\.com)")


def adapted(text: str, server: Server, demo: Number, **values: str) -> str:
    """Return a snippet for this server and instance: what a reader puts in, and nothing else, is replaced.

    `values` are placeholders by their first word, such as endpoint for `<the endpoint's id>`.
    """
    placeholders = {
        "<the instance's token>": demo.token,
        "<the global key>": GLOBAL_KEY,
        "<the verify token>": VERIFY_TOKEN,
        "<the app secret>": APP_SECRET,
    }
    text = ADDRESS.sub(server.url, text)
    for shown, value in (placeholders | {f"<{name}>": value for name, value in values.items()}).items():
        text = text.replace(shown, value)
    for number in NUMBERS:
        text = text.replace(number, demo.number or "")
    return re.sub(r"\bdemo\b", demo.name, text)


def shell(document: str, *beginnings: str) -> str:
    """Return the commands of a document's shell in their order, but for lines that begin so."""
    texts = [each.text for each in snippets("sh") if each.document == document]
    lines = "".join(texts).splitlines()
    return "\n".join(line for line in lines if not line.startswith(beginnings or ("#",)))


def run_shell(script: str, **variables: str) -> str:
    """Run commands as a reader pastes them; the first that fails ends them. Returns their output."""
    strict = 'set -e\ncurl() { command curl --silent --show-error --fail-with-body "$@"; }\n'
    done = subprocess.run(
        ["sh", "-c", strict + script], capture_output=True, text=True, timeout=60, env=os.environ | variables
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def receive_until(server: Server, demo: Number, program: Program, text: str) -> None:
    """Have the instance receive messages until the program has printed a text: it joins at some time."""

    def is_printed() -> bool:
        assert program.process.poll() is None, program.output
        server.receive(demo, text)
        return text in program.output

    until(is_printed, 20)
