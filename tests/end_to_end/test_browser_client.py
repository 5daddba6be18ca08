"""The stock client in a real browser, on a page of another origin; and the origins that are allowed."""

from __future__ import annotations

import queue
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import socketio
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import sync_playwright

from tests.clients.polling import Polling
from tests.conftest import missing
from tests.environment import GLOBAL_KEY
from tests.server import Server

pytestmark = pytest.mark.any_database

PAGE = b"""<!doctype html>
<title>A page of another origin</title>
<script>
const seen = [];
function connect(url, options) {
  const socket = window.socket = io(url, { forceNew: true, reconnection: false, ...options });
  const transport = () => socket.io.engine.transport.name;
  socket.on("connect", () => {
    seen.push({ is: "connect", transport: transport() });
    socket.io.engine.on("upgrade", () => seen.push({ is: "upgrade", transport: transport() }));
  });
  socket.on("connect_error", (error) => seen.push({ is: "connect_error", message: error.message }));
  socket.onAny((event, ...args) => seen.push({ is: "event", event, args }));
}
</script>
"""

CHROMIUM = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"),
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
]

#: Options of pages: the source of their key and the first transport.
OPTIONS = {
    "polling, key in a header": lambda key: {"transports": ["polling"], "extraHeaders": {"apikey": key}},
    "polling, key in auth": lambda key: {"transports": ["polling"], "auth": {"apikey": key}},
    "websocket, key in auth": lambda key: {"transports": ["websocket"], "auth": {"apikey": key}},
    "websocket, key in the query": lambda key: {"transports": ["websocket"], "query": {"apikey": key}},
    "upgrade, key in a header": lambda key: {"extraHeaders": {"apikey": key}},
    "upgrade, key in auth": lambda key: {"auth": {"apikey": key}},
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def pages():
    """The port of an HTTP server that serves PAGE."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield pages.server_port
        pages.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium():
    if (path := shutil.which("chromium")) is None:
        missing("Chromium is not installed")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        except BrowserError as error:
            missing(f"Chromium does not start ({error.message.splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open a page and load the client from a server: open_page(origin, server)."""
    opened = []

    def open_page(origin, server):
        page = chromium.new_page()
        opened.append(page)
        page.goto(origin)
        page.add_script_tag(url=f"{server.url}/socket.io/socket.io.js")
        return page

    yield open_page
    for page in opened:
        page.evaluate("window.socket && socket.disconnect()")
        page.close()


@pytest.fixture(scope="module")
def server_of_one_origin(environment):
    server = Server(environment | {"CORS_ORIGIN": "https://app.example.com", "SERVER_URL": "https://evo.example.com"})
    server.start()
    yield server
    server.stop()


def connect(page, url, **options):
    page.evaluate("([url, options]) => connect(url, options)", [url, options])


def wait_for(page, kind, **members):
    """Wait until the page has recorded an entry of this kind with these members, and return it."""
    found = page.wait_for_function(
        "wanted => seen.find(entry => Object.entries(wanted).every(([name, value]) => entry[name] === value))",
        arg={"is": kind} | members,
        timeout=10_000,
    )
    return found.json_value()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_page_of_another_origin_receives_events_and_sends_messages(server, pages, open_page, name):
    instance = server.create("loja ção " + server.create().name)
    page = open_page(f"http://127.0.0.1:{pages}/", server)
    connect(page, f"{server.url}/{instance.name}", **OPTIONS[name](instance.token))
    transport = wait_for(page, "connect")["transport"]
    assert transport == "websocket" if name.startswith("websocket") else transport in ("polling", "websocket")

    server.receive(instance, "to the page")
    event = wait_for(page, "event", event="messages.upsert")["args"][0]
    assert (event["instance"], event["data"]["message"]) == (instance.name, {"conversation": "to the page"})

    ack = page.evaluate("socket.timeout(10000).emitWithAck('send_message', {text: 'from the page'})")
    assert ack["message"] == {"conversation": "from the page"}
    assert wait_for(page, "event", event="send.message")["args"][0]["data"] == ack
    if name.startswith("upgrade"):
        page.wait_for_function("socket.io.engine.transport.name === 'websocket'", timeout=10_000)


def test_a_page_receives_the_reason_of_a_refusal(server, pages, open_page):
    instance = server.create()
    page = open_page(f"http://127.0.0.1:{pages}/", server)

    connect(page, f"{server.url}/{instance.name}", transports=["polling"], extraHeaders={"apikey": "wrong"})
    assert wait_for(page, "connect_error")["message"] == "Unauthorized"
    connect(page, f"{server.url}/unknown", auth={"apikey": instance.token})
    assert wait_for(page, "connect_error", message="Invalid namespace")
    assert page.evaluate("socket.active") is False


def test_a_page_receives_the_events_of_all_instances_on_the_root_namespace(server, pages, open_page):
    instance = server.create()
    page = open_page(f"http://127.0.0.1:{pages}/", server)
    connect(page, server.url, auth={"apikey": GLOBAL_KEY})
    wait_for(page, "connect")

    server.receive(instance, "to all")

    received = "name => seen.find(entry => entry.event === 'messages.upsert' && entry.args[0].instance === name)"
    assert page.wait_for_function(received, arg=instance.name, timeout=10_000)


def test_with_cors_origin_set_no_other_origin_is_allowed(start_server, pages, open_page):
    server = start_server(CORS_ORIGIN=f"http://127.0.0.1:{pages},https://app.example.com")
    instance = server.create()
    named = open_page(f"http://127.0.0.1:{pages}/", server)
    other = open_page(f"http://localhost:{pages}/", server)

    for name in ("polling, key in a header", "websocket, key in auth", "upgrade, key in auth"):
        for page in (named, other):
            page.evaluate("seen.length = 0")
            connect(page, f"{server.url}/{instance.name}", **OPTIONS[name](instance.token))
        assert wait_for(named, "connect")
        assert wait_for(other, "connect_error")["message"] in ("xhr poll error", "websocket error")
        assert {entry["is"] for entry in named.evaluate("seen")} <= {"connect", "upgrade"}
        assert [entry["is"] for entry in other.evaluate("seen")] == ["connect_error"]
        named.evaluate("socket.disconnect()")


STREAM = """
url => {
  const source = window.source = new EventSource(url);
  source.addEventListener("messages.upsert", event => seen.push({ is: "event", args: [JSON.parse(event.data)] }));
  source.onerror = () => seen.push({ is: "error", state: source.readyState });
}
"""


def test_with_cors_origin_set_a_page_of_that_origin_reads_event_streams(start_server, pages, open_page):
    server = start_server(CORS_ORIGIN=f"http://127.0.0.1:{pages},https://app.example.com")
    instance = server.create()
    minted = server.post(server.path("/websocket/token", instance), {}, key=instance.token).json["token"]
    named = open_page(f"http://127.0.0.1:{pages}/", server)
    other = open_page(f"http://localhost:{pages}/", server)
    for page in (named, other):
        page.evaluate(STREAM, f"{server.url}/event/stream/{instance.name}?since=1&token={minted}")
    server.receive(instance, "to the page")

    assert wait_for(named, "event")["args"][0]["data"]["message"] == {"conversation": "to the page"}
    assert wait_for(other, "error")["state"] == 2, "closed for good"
    assert not other.evaluate("seen.some(entry => entry.is === 'event')")
    named.evaluate("source.close()")


def test_a_page_of_a_stranger_gets_nothing_without_a_key(start_server, pages, open_page):
    """Neither a page of another origin, nor one whose own name was made to resolve to this machine."""
    server = start_server(ALLOWED_HOSTS="*", WEBSOCKET_ALLOWED_HOSTS="127.0.0.1", EVOLUTION_INGRESS_OPEN="true")
    instance = server.create()
    for page_url, url in [
        (f"http://127.0.0.1:{pages}/", f"http://localhost:{server.port}"),
        (f"http://rebound.example:{server.port}/", f"http://rebound.example:{server.port}"),
    ]:
        page = open_page(page_url, server)
        if "rebound" in page_url:
            page.add_script_tag(content=PAGE.decode().partition("<script>")[2].partition("</script>")[0])
        for transport in ("polling", "websocket"):
            page.evaluate("seen.length = 0")
            connect(page, f"{url}/{instance.name}", transports=[transport])
            assert wait_for(page, "connect_error")["message"] == "Unauthorized", (page_url, transport)
        page.evaluate(STREAM, f"{url}/event/stream/{instance.name}?since=0")
        assert wait_for(page, "error")["state"] == 2, page_url
        post = "([url, body]) => fetch(url, {method: 'POST', body, mode: 'no-cors'})"
        with page.expect_response("**/webhook/evolution") as response:
            page.evaluate(post, [f"{url}/webhook/evolution", f'{{"numberId": "{instance.number}"}}'])
        assert response.value.status == 401, page_url


@pytest.mark.slow
def test_an_event_stream_comes_back_when_the_database_does(fresh_server, pages, open_page):
    server = fresh_server()
    instance = server.create()
    minted = server.post(server.path("/websocket/token", instance), {}, key=instance.token).json["token"]
    rename = "from django.db import connection; connection.cursor().execute('ALTER TABLE {} RENAME TO {}')"
    server.shell(rename.format("instances_instance", "set_aside"))
    page = open_page(f"http://127.0.0.1:{pages}/", server)
    page.evaluate(STREAM, f"{server.url}/event/stream/{instance.name}?since=1&token={minted}")
    assert wait_for(page, "error")["state"] == 0, "it connects again"

    server.shell(rename.format("set_aside", "instances_instance"))
    server.receive(instance, "welcome back")
    assert wait_for(page, "event")["args"][0]["data"]["message"] == {"conversation": "welcome back"}
    page.evaluate("source.close()")


def test_with_cors_origin_set_the_servers_own_pages_are_allowed(start_server, open_page):
    server = start_server(CORS_ORIGIN="https://app.example.com")
    instance = server.create()
    page = open_page(f"{server.url}/", server)
    page.add_script_tag(content=PAGE.decode().partition("<script>")[2].partition("</script>")[0])

    for transport in ("websocket", "polling"):
        page.evaluate("seen.length = 0")
        connect(page, f"{server.url}/{instance.name}", transports=[transport], auth={"apikey": instance.token})
        assert wait_for(page, "connect")["transport"] == transport
        page.evaluate("socket.disconnect()")


def test_with_cors_origin_set_clients_with_the_servers_origin_or_none_are_allowed(server_of_one_origin, node):
    """python-socketio's synchronous client, and so Evolution API's official one, sends the server's own origin."""
    server = server_of_one_origin
    instance = server.create()
    namespace, found = f"/{instance.name}", queue.Queue()
    client = socketio.Client()
    client.on("messages.upsert", found.put, namespace=namespace)
    client.connect(f"{server.url}?apikey={instance.token}", transports=["websocket"], namespaces=[namespace])
    nodes = [
        node.connect(f"{server.url}{namespace}", auth={"apikey": instance.token}, transports=[transport]).connected()
        for transport in ("websocket", "polling")
    ]

    server.receive(instance, "to programs")

    assert found.get(timeout=10)["server_url"] == "https://evo.example.com"
    for node_client in nodes:
        assert node_client.event("messages.upsert")
        node_client.disconnect()
    client.disconnect()


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example.com", True),
        ("https://evo.example.com", True),
        ("https://app.example.com.evil.example", False),
        ("https://evil.example/https://app.example.com", False),
        ("http://app.example.com", False),
        ("null", False),
        ("https://[", False),
    ],
)
def test_an_origin_must_match_exactly(server_of_one_origin, origin, is_allowed):
    server = server_of_one_origin

    if is_allowed:
        Polling(server.url, headers={"Origin": origin})
    else:
        with pytest.raises(AssertionError, match=r"400: .*is not an accepted origin"):
            Polling(server.url, headers={"Origin": origin})


def test_a_preflight_request_allows_the_header_apikey(server):
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "apikey,content-type"}
    query = "?EIO=4&transport=polling"

    response = server.request(
        "OPTIONS", f"/socket.io/{query}", key=None, headers=preflight | {"Origin": "https://app.example.com"}
    )

    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "apikey" in response.headers["Access-Control-Allow-Headers"]
    refused = server.get(f"/socket.io/{query}&sid=unknown", headers={"Origin": "https://app.example.com"})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (400, "*")
