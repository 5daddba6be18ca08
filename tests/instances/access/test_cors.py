"""What browsers let pages of other origins do: CORS_ORIGIN, CORS_METHODS, CORS_CREDENTIALS; and `*` as a host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.polling import Polling
from tests.end_to_end.test_settings import refused
from tests.environment import GLOBAL_KEY
from tests.server import Server

pytestmark = pytest.mark.any_database

PANEL, EVIL = "https://panel.example", "https://evil.example"
POLL = "/socket.io/?EIO=4&transport=polling"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "apikey,content-type"}


@pytest.fixture(scope="module")
def panel(environment) -> Iterator[Server]:
    """A server that lets one panel come with credentials, by two methods."""
    server = Server(environment | {"CORS_ORIGIN": PANEL, "CORS_METHODS": "get, POST", "CORS_CREDENTIALS": "true"})
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("path", ["/", "/instance/create", "/event/publish/x", "/webhook/meta", "/nowhere", POLL])
def test_a_preflight_names_the_methods_and_the_key(panel: Server, path):
    response = panel.request("OPTIONS", path, key=None, headers=ASKED | {"Origin": PANEL})

    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == PANEL
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert {"apikey", "content-type"} <= set(response.headers["Access-Control-Allow-Headers"].split(", "))
    assert response.headers["Vary"].lower() == "origin"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/instance/fetchInstances", 401), ("/nowhere", 404), ("/static/admin/css/base.css", 200)],
)
def test_answers_to_the_listed_origin_alone_may_be_read(panel: Server, server: Server, path, status):
    for origin, is_listed in [(PANEL, True), (EVIL, False), ("null", False)]:
        response = panel.get(path, key=None, headers={"Origin": origin})
        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == (PANEL if is_listed else None)
        assert response.headers["Access-Control-Allow-Credentials"] == ("true" if is_listed else None)
    for each in (panel, server):  # with an Origin or without: a cache might keep either
        vary = each.get(path, key=None).headers["Vary"]
        assert "origin" in vary.lower().split(", ")
    assert server.get(path, key=None, headers={"Origin": EVIL}).headers["Access-Control-Allow-Credentials"] is None


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/console/", "/console/x", "/docs/", "/docs/x"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_pages_of_ours_are_for_no_other_origin(panel: Server, server: Server, path, method):
    for each in (panel, server):
        response = each.request(method, path, key=None, headers=ASKED | {"Origin": PANEL})
        assert [name for name in response.headers if name.lower().startswith("access-control-")] == []


@pytest.mark.parametrize("origins", ["", f"{PANEL},*", f"{PANEL},null"])
def test_credentials_need_a_list_of_origins(tmp_path, origins):
    assert refused(tmp_path, CORS_ORIGIN=origins, CORS_CREDENTIALS="true", CORS_METHODS="GET,FETCH") == [
        "- CORS_METHODS takes methods, separated by commas, of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT; "
        "not 'FETCH'.",
        "- CORS_CREDENTIALS needs CORS_ORIGIN to list the origins, such as https://panel.example.com: with * or "
        "null any page could act as whoever looks at it.",
    ]


def test_a_star_among_the_hosts_without_a_key_lets_nobody_in(start_server):
    server = start_server(WEBSOCKET_ALLOWED_HOSTS="*")
    for auth, answer in [("{}", '44{"message":"Unauthorized"'), (f'{{"apikey":"{GLOBAL_KEY}"}}', '40{"sid":')]:
        session = Polling(server.url)
        session.post(f"40{auth}")
        assert session.poll()[0].startswith(answer)
