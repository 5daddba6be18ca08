"""/socket.io/socket.io.js and the other files of the installed npm package: these are served and no others."""

from __future__ import annotations

import pytest

from realtime.asgi import SocketIO
from tests.conftest import missing
from tests.server import ROOT

pytestmark = pytest.mark.any_database

DIST = ROOT / "node_modules" / "socket.io-client" / "dist"
FILES = [
    f"socket.io{variant}.js{ending}" for variant in ("", ".min", ".esm.min", ".msgpack.min") for ending in ("", ".map")
]


@pytest.fixture(scope="module")
def dist():
    if not DIST.is_dir():
        missing("socket.io-client is not installed: run `make setup-dev`")
    return DIST


@pytest.mark.parametrize("name", FILES)
def test_a_served_file_is_that_of_the_npm_package(server, dist, name):
    response = server.get(f"/socket.io/{name}", key=None, headers={"Origin": "https://panel.example"})

    assert (response.status, response.body) == (200, (dist / name).read_bytes())
    assert response.headers["Content-Type"] == "application/javascript; charset=utf-8"
    assert response.headers["Access-Control-Allow-Origin"] == "*"  # a module script of another origin needs it


def test_every_file_of_the_npm_package_is_served(dist):
    assert sorted(path.name for path in dist.iterdir()) == sorted(FILES)


def test_a_query_is_ignored(server, dist):
    assert server.get("/socket.io/socket.io.js?v=4").body == (dist / "socket.io.js").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *("no-such-file.js", ".js", "socket.io.JS/.js", "socket.io.js/x.js", "socket.io.js%00.js"),
        *("..%2fpackage.js", "..%2f..%2f..%2fmanage.js", "%2e%2e/build/cjs/index.js", "../build/cjs/index.js"),
        *("%2fetc%2fpasswd.js", "//etc/x.js", "..%5cx.js", "socket.io*.js", f"{'n' * 5000}.js", "%ff.js"),
    ],
    ids=lambda name: name[:30],
)
def test_no_other_file_is_served(server, name):
    before = len(server.log.read_text())

    response = server.get(f"/socket.io/{name}", key=None)

    assert (response.status, response.json["error"]) == (404, "Not Found")
    assert "Traceback" not in server.log.read_text()[before:]


@pytest.mark.django_db(transaction=True)
async def test_the_error_for_a_missing_package_says_how_to_install_it(settings, tmp_path):
    settings.SOCKET_IO_CLIENT = tmp_path / "not" / "installed"
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/socket.io/socket.io.js", "headers": []}
    await SocketIO()(scope, None, send)

    start, body = sent
    assert start["status"] == 404
    assert b"socket.io.js is not installed here: run `make setup`" in body["body"]
