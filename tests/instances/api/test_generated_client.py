"""A client that a generator makes of the OpenAPI document: https://github.com/openapi-generators/openapi-python-client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from instances.api.openapi import document
from tests.environment import GLOBAL_KEY
from tests.server import Server

pytestmark = [pytest.mark.any_database, pytest.mark.slow]

#: A program that uses the client. It takes the server's URL, the key and the instance's name.
PROGRAM = """
import sys
from generated import AuthenticatedClient
from generated.api.instance import fetch_instances
from generated.api.message import send_text
from generated.api.websocket import find_websocket
from generated.models import Error, TextBodyRequest

url, key, name = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="apikey")
[row] = fetch_instances.sync(client=client, instance_name=name)
assert (row.name, row.connection_status) == (name, "open"), row
sent = send_text.sync_detailed(name, client=client, body=TextBodyRequest(number="5511988887777", text="hello"))
assert sent.status_code == 201, sent
refused = send_text.sync(name, client=client, body=TextBodyRequest(number="5511988887777", text=" "))
assert isinstance(refused, Error) and refused.status == 400, refused
stranger = AuthenticatedClient(base_url=url, token="wrong", prefix="", auth_header_name="apikey")
assert find_websocket.sync(name, client=stranger).error == "Unauthorized"
"""


def test_a_generated_client_speaks_with_a_server(server: Server, tmp_path: Path):
    (tmp_path / "openapi.json").write_bytes(document())
    directory = os.path.dirname(sys.executable)
    environment = os.environ | {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}  # it calls ruff

    def run(*command: str) -> None:
        result = subprocess.run(
            [f"{directory}/{command[0]}", *command[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr

    run(
        *("openapi-python-client", "generate", "--path", "openapi.json", "--fail-on-warning"),
        *("--meta", "none", "--output-path", "generated"),
    )
    instance = server.create()
    run("python", "-c", PROGRAM, server.url, GLOBAL_KEY, instance.name)
