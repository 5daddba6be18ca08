"""The files of Evolution Manager that a server hands out: those of a directory, and nothing beside it."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_settings import refused
from tests.server import Response, Server

pytestmark = pytest.mark.any_database

PAGE = b"<!doctype html><title>Dashboard</title>"
LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A directory like Evolution API's `manager/dist`, with all that must not be handed out."""
    around = tmp_path_factory.mktemp("manager")
    (around / "secret.txt").write_bytes(b"secret")
    (around / "dist-other").mkdir()
    (around / "dist-other" / "x.js").write_bytes(b"secret")
    dist = around / "dist"
    (dist / "assets" / "images").mkdir(parents=True)
    (dist / ".git").mkdir()
    files = {"index.html": PAGE, "favicon.ico": b"icon", "assets/app-1.js": b"1;", "assets/app-1.css": b"a{}"}
    files |= {"assets/images/logo.png": b"png", "assets/large.bin": LARGE, "assets/empty.json": b""}
    files |= {".env": b"secret", ".git/config": b"secret", "assets/.hidden.js": b"secret", "a b é.txt": b"text"}
    for name, content in files.items():
        (dist / name).write_bytes(content)
    (dist / "assets" / "inside.js").symlink_to(dist / "assets" / "app-1.js")
    (dist / "assets" / "outside.js").symlink_to(around / "secret.txt")
    (dist / "assets" / "out").symlink_to(around)
    (dist / "assets" / "hidden.txt").symlink_to(dist / ".env")
    (dist / "assets" / "loop").symlink_to(dist / "assets" / "loop")
    os.mkfifo(dist / "assets" / "pipe.js")
    return dist


@pytest.fixture(scope="module")
def dashboard(environment, copy) -> Iterator[Server]:
    server = Server(environment | {"EVOLUTION_MANAGER_DIR": str(copy)})
    server.start()
    yield server
    server.stop()


def get(server: Server, path: str, method: str = "GET", host: str | None = None) -> Response:
    """Request a path as it stands: no client puts `..` right."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    found = Response(response.status, response.read(), response.headers)
    connection.close()
    return found


@pytest.mark.parametrize(
    ("path", "content", "content_type"),
    [
        ("/manager", PAGE, "text/html; charset=utf-8"),
        ("/Manager/", PAGE, "text/html; charset=utf-8"),
        ("/manager/login", PAGE, "text/html; charset=utf-8"),
        ("/manager/instance/0b0a/chat/55@s.whatsapp.net", PAGE, "text/html; charset=utf-8"),
        ("/manager/index.html", PAGE, "text/html; charset=utf-8"),
        ("/manager/favicon.ico?x=1", b"icon", "image/x-icon"),
        ("/manager/a%20b%20%C3%A9.txt", b"text", "text/plain; charset=utf-8"),
        ("/manager/assets/app-1.js", b"1;", "text/javascript; charset=utf-8"),
        ("/manager/assets/pipe.js", PAGE, "text/html; charset=utf-8"),
        ("/manager/assets", PAGE, "text/html; charset=utf-8"),
        ("/assets/app-1.js", b"1;", "text/javascript; charset=utf-8"),
        ("/Assets/inside.js", b"1;", "text/javascript; charset=utf-8"),
        ("/assets/app-1.css", b"a{}", "text/css; charset=utf-8"),
        ("/assets/images/logo.png", b"png", "image/png"),
        ("/assets/empty.json", b"", "application/json"),
        ("/assets/large.bin", LARGE, "application/octet-stream"),
    ],
)
def test_files_and_the_page_are_handed_out(dashboard: Server, path, content, content_type):
    for method in ("GET", "HEAD"):
        response = get(dashboard, path, method)
        assert (response.status, response.headers["Content-Type"]) == (200, content_type)
        assert response.body == (content if method == "GET" else b"")
        assert response.headers["Content-Length"] == str(len(content))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        is_asset = "assets/" in path.lower() and content != PAGE
        assert response.headers["Cache-Control"] == ("public, max-age=3600" if is_asset else "no-cache")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        *((f"/assets/{name}", 403, b"Forbidden") for name in ("../index.html", "%2e%2e/%2e%2e/secret.txt", "..%2Fx")),
        *((f"/assets/{name}", 403, b"Forbidden") for name in ("..%5Cx", "a%5Cb", "%2Fetc/passwd", "", "/etc/passwd")),
        *((f"/assets/{name}", 404, b"File not found") for name in ("outside.js", "out/secret.txt", "out/dist/x.js")),
        *((f"/assets/{name}", 404, b"File not found") for name in (".hidden.js", "hidden.txt", "loop", "pipe.js")),
        *((f"/assets/{name}", 404, b"File not found") for name in ("images", "app-1.js/x", "x%00.js", "x" * 300)),
        *((f"/manager/{name}", 404, b"File not found") for name in (".env", ".git/config", "../secret.txt", "./x")),
        *((f"/manager/{name}", 404, b"File not found") for name in ("%2e%2e/dist-other/x.js", "a//b", "/etc/passwd")),
        *((f"/manager/{name}", 404, b"File not found") for name in ("..%5cx", "x%00", "x/" * 100)),
    ],
)
def test_nothing_else_is(dashboard: Server, path, status, text):
    response = get(dashboard, path)
    assert (response.status, response.body) == (status, text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_links_that_lead_out_are_no_files_of_the_page(dashboard: Server):
    for path in ("/manager/assets/outside.js", "/manager/assets/out/secret.txt", "/manager/assets/hidden.txt"):
        assert get(dashboard, path).body == PAGE


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/manager", "/manager/x", "/assets/app-1.js"])
def test_it_is_only_read(dashboard: Server, path, method):
    response = dashboard.request(method, path, {})
    assert response.status == 404
    assert response.json["response"]["message"][0] == f"Cannot {method} {path}"


def test_the_api_says_where_it_is_and_another_host_does_not_have_it(dashboard: Server):
    assert dashboard.get("/").json["manager"] == f"{dashboard.url}/manager"
    assert get(dashboard, "/manager", host="evil.example").status == 400
    for path in ("/managers", "/manager.html", "/assets", "/x/manager", "/x/assets/app-1.js"):
        assert get(dashboard, path).status == 404, path


def test_it_is_off_by_default_and_can_be_switched_off(server: Server, start_server, copy):
    off = start_server(EVOLUTION_MANAGER_DIR=str(copy), SERVER_DISABLE_MANAGER="true")
    for each in (server, off):
        assert "manager" not in each.get("/").json
        for path in ("/manager", "/manager/", "/assets/app-1.js"):
            assert each.get(path).status == 404


def test_a_directory_without_a_dashboard_stops_the_start(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        [line] = refused(tmp_path, EVOLUTION_MANAGER_DIR=str(directory))
        assert line.startswith(
            "- EVOLUTION_MANAGER_DIR takes the directory of a built copy of Evolution Manager with its"
        )
