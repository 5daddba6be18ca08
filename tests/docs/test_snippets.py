"""Each snippet of the documents does what is said of it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from realtime.pages.documents.markdown import anchor_of
from tests.docs.program import Program, node
from tests.docs.reader import adapted, receive_until
from tests.docs.snippets import DOCUMENTS, commands, differences, exchanges, snippet, snippets
from tests.in_process import until
from tests.receiver import Receiver
from tests.server import ROOT, Number, Server

pytestmark = pytest.mark.any_database

#: The languages of snippets that tests run, and of drawings, which nobody runs.
LANGUAGES = {"sh", "js", "python", "http", "json", "text", "nginx", "caddy", "yaml", "php"}


@pytest.fixture
def demo(server: Server) -> Number:
    return server.create()


def test_each_snippet_has_a_language_that_is_run():
    assert [f"{each} is {each.language!r}" for each in snippets() if each.language not in LANGUAGES] == []


def test_the_first_client_in_javascript_receives_and_sends(server, demo):
    code = adapted(snippet("README.md", "js", "send_message"), server, demo)
    with node(code) as program:
        receive_until(server, demo, program, "Good morning")
        until(lambda: "Hello, World!" in program.output, 10)


def test_the_first_client_in_python_receives(server, demo, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(adapted(snippet("README.md", "python", "client.wait()"), server, demo))
    with Program([sys.executable, "-u", str(script)], cwd=tmp_path) as program:
        receive_until(server, demo, program, "Bom dia")


def test_the_curl_command_sets_a_webhook(server, demo):
    command = adapted(snippet("README.md", "sh", "curl"), server, demo)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    found = server.get(f"/webhook/find/{demo.name}", key=demo.token).json
    assert (found["url"], found["events"]) == ("https://hook.example.com/in", ["MESSAGES_UPSERT"])


def test_a_page_joins_with_a_minted_token(server, demo):
    code = adapted(snippet("docs/clients.md", "js", "my-backend"), server, demo)
    backend = f"""
        const {{ io }} = require("socket.io-client");
        const realFetch = fetch;
        const headers = {{ apikey: "{demo.token}", "content-type": "application/json" }};
        const url = "{server.url}/websocket/token/{demo.name}";
        globalThis.fetch = () => realFetch(url, {{ method: "POST", headers, body: "{{}}" }});
    """
    with node(f"{backend}\n{code}\nsocket.onAny((name, event) => console.log(name, event.data));") as program:
        receive_until(server, demo, program, "messages.upsert")


PRINT = """
for (const [name, socket] of Object.entries({ sales, office })) {
    socket.on("connect", () => console.log(name, "joined"));
    socket.on("connect_error", (error) => console.log(name, error.message));
}
setTimeout(() => console.log("connections", new Set([sales.io, office.io]).size), 100);
"""


def two_instances(server):
    """Return the snippet of two instances on one page, for instances of this server, and their tokens."""
    code = re.sub(r"https://evo\.example\.com", server.url, snippet("docs/clients.md", "js", "<the token of sales>"))
    for name in ("sales", "office"):
        instance = server.create()
        code = code.replace(f"{server.url}/{name}", f"{server.url}/{instance.name}")
        code = code.replace(f"<the token of {name}>", instance.token)
    return f'const {{ io }} = require("socket.io-client");\n{code}\n{PRINT}'


def test_two_instances_with_keys_in_auth_share_a_connection(server):
    with node(two_instances(server)) as program:
        until(lambda: {"sales joined\n", "office joined\n", "connections 1\n"} <= set(program.lines), 20)


def test_of_two_instances_with_keys_in_the_query_the_second_is_refused_unless_forced_apart(server):
    code = two_instances(server).replace("auth:", "query:")
    with node(code) as program:
        until(lambda: {"sales joined\n", "office Invalid namespace\n"} <= set(program.lines), 20)
    with node(code.replace("query:", "forceNew: true, query:")) as program:
        until(lambda: {"sales joined\n", "office joined\n", "connections 2\n"} <= set(program.lines), 20)


def test_a_client_that_recovers_is_told_offsets(server, demo):
    code = adapted(snippet("docs/clients.md", "js", "recovered"), server, demo)
    with node(f'const {{ io }} = require("socket.io-client");\n{code}') as program:
        receive_until(server, demo, program, "conversation")
        assert "begin anew" in program.output
        assert re.search(r"^[0-9a-f]{16}\.\d+ ", program.output, re.MULTILINE), program.output


def test_an_event_has_the_members_that_are_shown(server, demo):
    (shown,) = (
        exchange.response for exchange in exchanges("GET /\n→ 200 " + snippet("docs/clients.md", "json", "prev"))
    )
    server.receive(demo, "Hi")
    (event,) = server.get(f"/event/find/{demo.name}?type=messages.upsert", key=demo.token).json["events"]
    # `server_url` stands only where SERVER_URL is set
    assert list(differences({name: shown[name] for name in shown if name != "server_url"}, event)) == []


@pytest.mark.parametrize("shown", [each for each in snippets("http") if "HTTP/1.1" not in each.text], ids=str)
def test_a_request_is_answered_as_shown(server, demo, shown):
    for number in range(6):
        server.receive(demo, str(number))
    for exchange in exchanges(adapted(shown.text, server, demo)):
        response = server.request(exchange.method, exchange.path, exchange.body, key=demo.token)
        assert response.status == (exchange.status or 201), response.body
        if exchange.response is not None:
            assert list(differences(exchange.response, response.json)) == []


def test_a_delivery_has_the_headers_and_members_that_are_shown(server, demo):
    head, body = snippet("docs/webhooks.md", "http", "HTTP/1.1").split("\n\n")
    (shown,) = (exchange.response for exchange in exchanges("GET /\n→ 200 " + body))
    with Receiver() as receiver:
        webhook = {"enabled": True, "url": f"{receiver.url}/in", "events": ["MESSAGES_UPSERT"]}
        assert server.post(f"/webhook/set/{demo.name}", {"webhook": webhook}, key=demo.token).status == 201
        server.receive(demo, "Hi")
        (request,) = until(lambda: receiver.requests)
    names = {line.split(":")[0] for line in head.splitlines()[1:]}
    assert names <= {name.lower() for name in request.headers}
    assert list(differences({name: shown[name] for name in shown if name != "data"}, request.json)) == []


# Commands in the text


def test_each_command_of_manage_exists():
    named = {match[1] for command in commands() if (match := re.search(r"manage\.py (\w+)", command))}
    named -= {"shell"}
    assert named >= {"serve", "deliver", "status", "rotate_secrets", "compact"}
    for name in named:
        done = subprocess.run([sys.executable, "manage.py", name, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        options = {word for command in commands() if f"manage.py {name}" in command for word in command.split()}
        assert [option for option in options if option.startswith("--") and option not in done.stdout] == []


def test_each_target_of_make_exists():
    help_text = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[1] for line in help_text.splitlines()}
    text = " ".join([*commands(), *(each.text for each in snippets("sh"))])
    assert {match for match in re.findall(r"\bmake ([a-z][a-z-]+)", text)} <= targets


def test_the_commands_that_make_keys_make_them(tmp_path):
    makers = [command for command in commands() if command.startswith("python -c ")]
    assert makers
    for command in makers:
        code = command.removeprefix("python -c ").strip('"')
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.strip()) >= 40


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_each_link_leads_to_a_file_and_a_heading(document):
    text = (ROOT / document).read_text()
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", _without_code(text)):
        if target.startswith("http"):
            continue
        path = (ROOT / document).parent.joinpath(target) if target else ROOT / document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", _without_code(path.read_text()), re.MULTILINE)
            assert anchor in [anchor_of(heading) for heading in headings], f"{target}#{anchor}"


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
