"""The list of Evolution API's routes: those that are not here say so, and the document lists them all."""

from __future__ import annotations

import pytest

from instances.evolution_routes import KINDS, ROUTES, document
from tests.server import ROOT, Server

pytestmark = pytest.mark.any_database


def test_the_document_is_made_from_the_list():
    assert (ROOT / "docs" / "compatibility.md").read_text() == document(), "run: make compatibility"


def test_each_route_is_listed_once():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES) == 192


def test_the_document_counts_the_errors_where_evolution_shows_a_success():
    departures = [answer for route in ROUTES for answer in route.answers if answer.departs]
    refusals = sum(route.status(kind) == 400 for route in ROUTES for kind in KINDS)
    assert 0 < len(departures) < refusals, "some are refused by Evolution API, too"
    assert f"**{len(departures)} answers are 400 where Evolution API shows a success**" in document()


def test_a_route_that_is_switched_off_says_so(server: Server):
    message = server.get("/assets/x.js").json["response"]["message"]
    assert message[0] == "Cannot GET /assets/x.js"
    assert message[1].startswith("Evolution API has this route, and here it is switched off")


@pytest.mark.parametrize("path", ["/chat/findMessages", "/chat/findMessages/a/b", "/chat/findNothing/a", "/license"])
def test_a_route_that_nobody_has_is_only_unknown(server: Server, path: str):
    assert server.post(path, {}).json["response"]["message"] == [f"Cannot POST {path}"]
