"""The receivers of docs/guides/verifying-webhooks.md: each takes what this server has sent, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.docs.program import Program, node
from tests.docs.reader import adapted, run_shell
from tests.docs.snippets import snippet
from tests.in_process import until
from tests.server import Number, Server, free_port

pytestmark = pytest.mark.any_database

GUIDE = "docs/guides/verifying-webhooks.md"
SECRET = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@pytest.fixture
def demo(server: Server) -> Number:
    return server.create()


class Endpoint:
    """A receiver of the guide, on a port of its own."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}/in"

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the status that it answers a request with."""
        request = urllib.request.Request(self.url, body, headers | {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def is_up(self) -> bool:
        assert self.program.process.poll() is None, self.program.output
        try:
            return self.post(b"{}", {}) == 401
        except OSError:
            return False


def start(language: str, port: int, directory: Path) -> Program:
    code = snippet(GUIDE, language, "WEBHOOK_SECRET=").replace("3000", str(port))
    variables = {"WEBHOOK_SECRET": SECRET}
    if language == "js":
        return node(code, **variables)
    path = directory / f"receiver.{language}"
    path.write_text(code)
    if language == "python":
        return Program([sys.executable, str(path)], env=os.environ | variables)
    command = re.search(r"php -S \S+", code)
    assert command
    return Program([*command[0].split(), str(path)], env=os.environ | variables)


@pytest.fixture(scope="module", params=["python", "js", "php"])
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    if request.param == "php" and shutil.which("php") is None:
        missing("PHP is not installed")
    port = free_port()
    with start(request.param, port, tmp_path_factory.mktemp("receiver")) as program:
        started = Endpoint(program, port)
        until(started.is_up, 10)
        yield started


def signed(body: bytes, secret: str = SECRET, age: float = 0, **headers: str) -> dict[str, str]:
    """Return the headers of a delivery as Standard Webhooks describes them."""
    id, timestamp = f"event.{secrets.token_hex(4)}", str(int(time.time() - age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    made = {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    return made | headers


BODY = b'{"event": "messages.upsert", "data": {"text": "caf\xc3\xa9"}}'


def test_it_takes_what_this_server_has_sent(endpoint, server, demo):
    options = {"url": endpoint.url, "events": ["MESSAGES_UPSERT"], "secret": SECRET}
    assert server.post(f"/webhook/endpoints/{demo.name}", options, key=demo.token).status == 201
    text = f"Good morning {secrets.token_hex(4)}"
    server.receive(demo, text)
    until(lambda: text in endpoint.program.output, 10)
    until(lambda: delivered(server, demo), 10)
    # and with two signatures, of the new secret and the old one
    (row,) = server.get(f"/webhook/endpoints/{demo.name}", key=demo.token).json
    path = f"/webhook/endpoints/{demo.name}/{row['id']}"
    assert server.request("PATCH", path, {"rotateSecret": True}, key=demo.token).status == 200
    server.receive(demo, f"{text}, again")
    until(lambda: f"{text}, again" in endpoint.program.output, 10)


def delivered(server: Server, demo: Number) -> bool:
    (found,) = server.get(f"/webhook/deliveries/{demo.name}", key=demo.token).json["deliveries"]
    return bool(found["state"] == "delivered")


REFUSED: dict[str, Callable[[], tuple[bytes, dict[str, str]]]] = {
    "no signature": lambda: (BODY, {}),
    "another body": lambda: (BODY.replace(b"caf", b"Caf"), signed(BODY)),
    "another secret": lambda: (BODY, signed(BODY, f"whsec_{base64.b64encode(bytes(32)).decode()}")),
    "an old one": lambda: (BODY, signed(BODY, age=400)),
    "one of tomorrow": lambda: (BODY, signed(BODY, age=-400)),
    "another id": lambda: (BODY, signed(BODY) | {"webhook-id": "event.other"}),
    "another timestamp": lambda: (BODY, signed(BODY) | {"webhook-timestamp": str(int(time.time()) + 1)}),
    "no timestamp": lambda: (BODY, signed(BODY) | {"webhook-timestamp": "soon"}),
    "a signature that is none": lambda: (BODY, signed(BODY) | {"webhook-signature": "v1, v1,x v2,AAAA ,"}),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_it_takes_nothing_else(endpoint, make):
    body, headers = make()
    assert endpoint.post(body, headers) == 401


def test_one_of_several_signatures_is_enough(endpoint):
    headers = signed(BODY)
    other = signed(BODY, f"whsec_{base64.b64encode(bytes(32)).decode()}")["webhook-signature"]
    for several in (f"{other} {headers['webhook-signature']}", f"{headers['webhook-signature']} {other} v1a,x"):
        assert endpoint.post(BODY, headers | {"webhook-signature": several}) == 204


def test_a_repeat_is_taken_and_dropped(endpoint, request):
    body = json.dumps({"event": "messages.upsert", "data": {"text": secrets.token_hex(8)}}).encode()
    headers = signed(body)
    assert [endpoint.post(body, headers) for _ in range(3)] == [204] * 3
    text = json.loads(body)["data"]["text"]
    until(lambda: text in endpoint.program.output)
    if "php" not in request.node.name:  # which has no memory of its own
        assert endpoint.program.output.count(text) == 1


def test_the_commands_make_an_endpoint_and_rotate_its_secret(server, demo):
    created = json.loads(run_shell(adapted(snippet(GUIDE, "sh", "hook.example.com"), server, demo)))
    assert created["secrets"][0].startswith("whsec_")
    rotate = adapted(snippet(GUIDE, "sh", "rotateSecret"), server, demo, **{"the endpoint's id": str(created["id"])})
    printed = run_shell(rotate, TOKEN=demo.token)
    two, one = (json.loads(each) for each in printed.replace("}{", "}\n{").splitlines())
    assert two["secrets"][1] == created["secrets"][0]
    assert one["secrets"] == two["secrets"][:1]


# The libraries


def deliveries() -> Iterator[tuple[bytes, dict[str, str], object]]:
    """Yield bodies and headers with what a library returns of each: the event, or None for one that is not ours."""
    yield BODY, signed(BODY), json.loads(BODY)
    for make in REFUSED.values():
        yield (*make(), None)


def test_the_library_for_python_verifies_as_is_shown():
    verified: dict[str, Callable[..., object]] = {}
    exec(snippet(GUIDE, "python", "pip install standardwebhooks"), verified)
    for body, headers, expected in deliveries():
        assert verified["verified"](SECRET, headers, body) == expected, headers


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_library_for_node_verifies_as_is_shown(tmp_path):
    """Installed as a reader does it: the project has no use for it."""
    code = snippet(GUIDE, "js", "npm install standardwebhooks")
    install = ["npm", "install", "--silent", "--prefix", str(tmp_path), "standardwebhooks"]
    if subprocess.run(install, capture_output=True, cwd=tmp_path, timeout=150).returncode:
        missing("npm's registry does not answer")
    tried = list(deliveries())
    for body, headers, _ in tried:
        arguments = ", ".join(json.dumps(each) for each in (SECRET, headers, body.decode()))
        code += f"\nconsole.log(JSON.stringify(verified({arguments})));"
    paths = {"NODE_PATH": str(tmp_path / "node_modules")}
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, env=os.environ | paths, timeout=30)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected for *_, expected in tried]
