"""The guides: each program and each command of them is run as it stands there."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.docs.program import Program, node
from tests.docs.reader import adapted, receive_until, run_shell, shell
from tests.docs.snippets import snippet
from tests.environment import GLOBAL_KEY
from tests.in_process import until
from tests.receiver import Receiver
from tests.server import ROOT, Number, Server, free_port

pytestmark = pytest.mark.any_database

QUICK_START = "docs/guides/quick-start.md"
BROWSER = "docs/guides/browser-clients.md"
RESUMING = "docs/guides/resuming.md"
MOVING = "docs/guides/moving-from-evolution.md"
CLOUD = "docs/guides/cloud-api.md"


@pytest.fixture
def demo(server: Server) -> Number:
    return server.create()


def python(code: str, directory: Path, **variables: str) -> Program:
    """Run a Python program in a directory."""
    script = directory / "program.py"
    script.write_text(code)
    return Program([sys.executable, "-u", str(script)], cwd=directory, env=os.environ | variables)


def need(program: str) -> None:
    """Skip a test of a guide that uses this program where it is missing."""
    if shutil.which(program) is None:
        missing(f"{program} is not installed")


# Quick start


@pytest.mark.parametrize("language", ["js", "python"])
def test_the_quick_start_shows_each_step_in_the_client(server, demo, language, tmp_path):
    code = adapted(snippet(QUICK_START, language, "TOKEN"), server, demo)
    with Receiver() as inbox:
        script = adapted(shell(QUICK_START, "make "), server, demo, **{"the inbox's URL": inbox.url})
        environment = {"TOKEN": demo.token}
        with node(code, **environment) if language == "js" else python(code, tmp_path, **environment) as client:
            receive_until(server, demo, client, "messages.upsert")
            printed = run_shell(script)
            until(lambda: "Good morning" in client.output and "send.message" in client.output, 10)
            assert "Hello, Ana" in client.output
        assert '"events":[' in printed
        run_shell(adapted(snippet(QUICK_START, "sh", "Good morning"), server, demo), TOKEN=demo.token)
        (request,) = until(lambda: inbox.requests)
        assert request.json["data"]["message"] == {"conversation": "Good morning"}
        assert request.headers["webhook-signature"].startswith("v1,")


def test_the_quick_starts_number_is_that_of_the_demo_instance():
    from instances.management.demo import DEMO

    assert DEMO[0]["number"] in snippet(QUICK_START, "sh", "Good morning")


# Browser clients


def test_the_backend_mints_and_the_page_joins(server, demo):
    port = free_port()
    backend = adapted(snippet(BROWSER, "js", "backend.js"), server, demo).replace("listen(3000)", f"listen({port})")
    page = adapted(snippet(BROWSER, "js", "<script"), server, demo)
    setup = f"""
        const {{ io }} = require("socket.io-client");
        const realFetch = fetch;
        globalThis.fetch = (path) => realFetch("http://127.0.0.1:{port}" + path);
    """
    with node(backend, TOKEN_KEY=demo.token), node(setup + page) as client:
        receive_until(server, demo, client, "conversation")


def test_the_backend_in_python_mints(server, demo, tmp_path):
    code = adapted(snippet(BROWSER, "python", "def mint"), server, demo) + "\n\nprint(mint())\n"
    with python(code, tmp_path, TOKEN_KEY=demo.token) as backend:
        until(lambda: backend.process.poll() is not None, 10)
        token = backend.output.strip()
    stream = f"/event/stream/{demo.name}?since=soon&token="
    assert server.get(stream + token, key=None).status == 400  # about `since`: the token is valid
    assert server.get(f"{stream}x{token}", key=None).status == 401


def test_an_event_source_listens_with_a_token(server, demo):
    token = server.post(f"/websocket/token/{demo.name}", {}, key=demo.token).json["token"]
    code = adapted(snippet(BROWSER, "js", "EventSource"), server, demo)
    # Node has no EventSource of its own without an option
    source = f"""
        const token = "{token}";
        class EventSource {{
            constructor(url) {{ this.url = url; }}
            async addEventListener(name, listener) {{
                const response = await fetch(this.url);
                let text = "";
                for await (const piece of response.body) {{
                    text += Buffer.from(piece).toString();
                    for (const [, found, data] of text.matchAll(/event: (\\S+)[^]*?data: (.*)\\n/g))
                        if (found === name) listener({{ data }});
                }}
            }}
        }}
    """
    with node(source + code) as client:
        receive_until(server, demo, client, "conversation")


# Resuming


def test_a_client_that_recovers_says_so(server, demo):
    code = adapted(snippet(RESUMING, "js", "recovered"), server, demo)
    with node(f'const {{ io }} = require("socket.io-client");\n{code}') as program:
        receive_until(server, demo, program, "conversation")
        assert "a new session" in program.output


@pytest.mark.parametrize("language", ["js", "python"])
def test_a_program_that_remembers_gets_what_it_missed_once_and_in_order(server, demo, language, tmp_path):
    code = adapted(snippet(RESUMING, language, "last-event"), server, demo)
    code = code.replace('"last-event"', json.dumps(str(tmp_path / "last-event")))

    def run():
        return node(code) if language == "js" else python(code, tmp_path)

    with run() as program:
        receive_until(server, demo, program, "messages.upsert")
        until((tmp_path / "last-event").exists)  # before its first event is done, it has no position
    first = numbers(program)
    for text in ("one", "two", "three"):
        server.receive(demo, text)
    with run() as program:
        until(lambda: program.output.count("messages.upsert") >= 3, 20)
        time.sleep(0.3)
    again = numbers(program)
    last = server.get(f"/event/find/{demo.name}", key=demo.token).json["last"]
    # it ended anywhere in its work on an event, which comes again then
    assert again == list(range(again[0], last + 1))
    assert again[0] in (first[-1], first[-1] + 1)


def numbers(program: Program) -> list[int]:
    """Return the seq of each event that was printed."""
    return [int(line.split()[0]) for line in program.output.splitlines() if re.match(r"\d+ ", line)]


def test_events_are_found_in_batches(server, demo):
    server.receive(demo, "Good morning")
    found = json.loads(run_shell(adapted(shell(RESUMING), server, demo)))
    assert [event["seq"] for event in found["events"]] == list(range(1, found["last"] + 1))


# Moving from Evolution API


def test_the_script_brings_instances_with_their_tokens_and_settings(server, start_server, fresh_server, tmp_path):
    """Another server of ours stands for Evolution API's, whose routes it has."""
    old = fresh_server()
    sales = old.create("sales", number="5511933330000")
    cloud = old.create("cloud", "WHATSAPP-BUSINESS", businessId="77", number="106540352242922")
    webhook = {"enabled": True, "url": "https://hook.example.com/in", "events": ["CALL"], "byEvents": True}
    assert old.post("/webhook/set/sales", {"webhook": webhook}).status == 201
    assert old.post("/websocket/set/sales", {"websocket": {"enabled": True, "events": ["CALL"]}}).status == 201
    new = fresh_server()
    variables = {"OLD_URL": old.url, "OLD_KEY": GLOBAL_KEY, "NEW_URL": new.url, "NEW_KEY": GLOBAL_KEY}

    def move() -> str:
        with python(snippet(MOVING, "python", "OLD_URL"), tmp_path, **variables) as program:
            until(lambda: program.process.poll() is not None, 20)
        assert program.process.returncode == 0, program.output
        return program.output

    assert sorted(move().splitlines()) == ["  webhook set", "  websocket set", "cloud created", "sales created"]
    assert new.get("/webhook/find/sales", key=sales.token).json["events"] == ["CALL"]
    assert new.get("/webhook/find/sales", key=sales.token).json["webhookByEvents"] is True
    assert new.get("/websocket/find/sales", key=sales.token).json["events"] == ["CALL"]
    (moved,) = new.get("/instance/fetchInstances", key=cloud.token).json
    assert (moved["number"], moved["businessId"]) == ("106540352242922", "77")
    assert "in use" in move()


# The Cloud API


def test_a_number_of_the_cloud_api_receives_and_answers(start_server):
    need("openssl")
    graph = Receiver()
    graph.body = json.dumps({"messages": [{"id": f"wamid.{secrets.token_hex(8)}"}]}).encode()
    name, number = f"sales_{secrets.token_hex(4)}", str(secrets.randbelow(10**12) + 10**12)
    with graph:
        server = start_server(WA_BUSINESS_URL=graph.url)
        script = shell(CLOUD).replace("sales", name).replace("106540352242922", number)
        values = {"the token of the Graph API": "a-token-of-meta"}
        printed = run_shell(adapted(script, server, Number("demo", "", "", None), **values))
        assert "1158201444" in printed
        (request,) = graph.requests
        assert request.headers["authorization"] == "Bearer a-token-of-meta"
        assert request.json["text"]["body"] == "Hello, Ana"
        (received,) = server.get(f"/event/find/{name}?events=messages.upsert").json["events"]
        assert received["data"]["message"] == {"conversation": "Good morning"}
        assert server.get(f"/instance/fetchInstances?instanceName={name}", key="a-token-of-meta").status == 401

        shell_code = snippet(CLOUD, "python", "provider_token").replace("sales", name)
        server.shell(shell_code.replace("<the new token of the Graph API>", "another-token"))
        body = {"number": "5511988887777", "text": "again"}
        server.post(f"/message/sendText/{name}", body)
        assert graph.requests[-1].headers["authorization"] == "Bearer another-token"


# Several processes


@pytest.mark.slow
def test_a_database_and_two_processes_as_the_guide_sets_them_up(postgres, tmp_path):
    need("psql")
    document = "docs/guides/several-processes.md"
    name = f"evoapi_{secrets.token_hex(4)}"
    script = shell(document)
    create = re.sub(r"\bevoapi\b", name, "\n".join(re.findall("^psql.*$", script, re.MULTILINE)))
    drop = f'psql -U postgres -c "DROP DATABASE {name} WITH (FORCE)"\npsql -U postgres -c "DROP ROLE {name}"'
    made = run_shell("\n".join(re.findall("^python3 -c .*$", script, re.MULTILINE)))
    variables = dict(line.split("=", 1) for line in made.splitlines())
    assert set(variables) == {"SECRET_KEY", "ENCRYPTION_KEYS", "AUTHENTICATION_API_KEY"}
    url = re.search(r"DATABASE_URL=(\S+)", "".join(snippet(document, "text", "DATABASE_URL=")))
    assert url
    variables |= {
        "DATABASE_URL": re.sub(r"\bevoapi\b", name, url[1]),
        "DATA_DIR": str(tmp_path),
        "WEBHOOK_ALLOWED_NETWORKS": "",
    }
    run_shell(create, PGHOST="127.0.0.1")
    try:
        commands = [line.split()[-1] for line in re.findall(r"^\.venv/bin/python manage.py \w+$", script, re.MULTILINE)]
        assert commands == ["migrate", "bootstrap", "deliver", "status"]
        first, second = Server(variables), Server(variables)
        first.manage("migrate", "--verbosity", "0")
        assert "Global key" in first.manage("bootstrap")
        first.start()
        second.start()
        deliver = [sys.executable, "manage.py", "deliver"]
        with Program(deliver, cwd=ROOT, env=os.environ | variables) as delivering:
            until(lambda: "Delivering" in delivering.output, 20)
            until(lambda: first.manage("status").count(": running") == 3, 20)
            delivering.stop()
        first.stop()
        second.stop()
    finally:
        run_shell(drop, PGHOST="127.0.0.1")


def test_each_guide_has_a_page():
    from realtime.pages.documents.guides import GUIDES

    assert {f"guides/{path.name}" for path in (ROOT / "docs" / "guides").iterdir()} == set(GUIDES)
