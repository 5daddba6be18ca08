"""Every page for staff users, as users who may see less: nothing of another's instance, no content for viewers.

`walk.py` has the rows and the requests. It takes the URLs from the resolver: a new one fails until it has a row there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from instances.models import ApiKey, Instance
from realtime.counters.counter import Counter
from tests.end_to_end.walk import CONTENT, GLOBAL_MARKS, Request, Rows, fill_server, model_of, patterns, requests
from tests.staff_users import client_of, staff_user

pytestmark = pytest.mark.any_database


@pytest.fixture
def own(db) -> Rows:
    return Rows("zyxown", 333)


@pytest.fixture
def foreign(own) -> Rows:
    foreign = Rows("zyxforeign", 777)
    shared, _ = ApiKey.objects.issue("zyxforeign shared key", ["listen"])
    shared.instances.set([own.instance, foreign.instance])
    gone = Instance.objects.create(name="zyxforeign-gone")
    gone.delete()  # events of it stay in the log
    return foreign


@pytest.fixture(autouse=True)
def counted(request) -> None:
    """Count what is stored, for the charts of the first page."""
    rows = [request.getfixturevalue(name) for name in ("own", "foreign") if name in request.fixturenames]
    assert rows
    counter = Counter()
    assert any(not counter.step() for _ in range(100))


def log_in(role: str, limit: Collection[Instance] | None) -> Client:
    # more permissions than the role has: the limit, and what a viewer may read, hold whatever they are
    permissions = Permission.objects.values_list("codename", flat=True)
    return client_of(staff_user(role, limit, permissions, username="zyxme"))


def leaks(client: Client, found: list[Request], marks: list[str]) -> tuple[list[Any], dict[Request, str]]:
    """Return the requests whose answers have a mark, with it and its surroundings; and all answers."""
    answers, leaking = {}, []
    for request in dict.fromkeys(found):
        status, answers[request] = request.send(client)
        assert status < 500, request
        for mark in marks:
            at = answers[request].lower().find(mark.lower())
            if at >= 0:
                leaking.append((request, mark, answers[request][max(0, at - 60) : at + 60]))
    return leaking, answers


@pytest.mark.slow
def test_a_limited_user_sees_nothing_of_another_instance(own, foreign):
    server = fill_server(own)
    client = log_in("operator", [own.instance])
    before = foreign.snapshot()
    found = requests(foreign, server | foreign.ids, is_own=False) + requests(own, own.ids, is_own=True)

    leaking, answers = leaks(client, found, [*foreign.marks, *GLOBAL_MARKS])

    assert not leaking, "\n".join(map(str, leaking))
    for changed, known in zip(foreign.snapshot(), before, strict=True):
        assert changed == known
    text = "\n".join(answers.values())
    for name in (
        "zyxown-shop",
        "zyxown key",
        "zyxown Ana",
        f"zyxown {CONTENT}",
        "hook.zyxown",
        str(own.ids[type(own.event)]),
    ):
        assert name in text, "the walk is of pages that show something"


def test_a_user_who_is_limited_to_nothing_sees_no_instance(own, foreign):
    server = fill_server(own)
    client = log_in("operator", [])
    found = requests(foreign, server | foreign.ids, is_own=True)
    leaking, answers = leaks(client, found, [*own.marks, *foreign.marks, *GLOBAL_MARKS])
    assert not leaking, "\n".join(map(str, leaking))
    assert any("0 instances" in answer for answer in answers.values()), "the walk is of pages, not of the log-in's"


def test_a_viewer_sees_no_content(own):
    server = fill_server(own)
    client = log_in("viewer", None)
    leaking, answers = leaks(client, requests(own, server | own.ids, is_own=True), [CONTENT])
    assert not leaking, "\n".join(map(str, leaking))
    assert any("zyxownWAID" in answer for answer in answers.values())


def test_a_viewer_finds_nothing_by_what_messages_say(own):
    client = log_in("viewer", None)
    for _, name, _ in patterns():
        if name.endswith("_changelist") and (model := model_of(name)):
            path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            response = client.get(path, {"q": CONTENT})
            assert response.status_code == 403 or response.context["cl"].result_count == 0, name


@pytest.mark.parametrize("role", ["", "viewer", "operator"])
@pytest.mark.parametrize("codenames", [[], ["view_instance"], ["view_event"], ["change_subscription"]])
def test_the_navigation_has_the_pages_that_the_user_may_open(own, role, codenames):
    client = client_of(staff_user(role, permissions=codenames))

    tried = {}
    for path in ("/admin/", "/console/", "/console/inbox/"):
        response = client.get(path)
        page = response.content.decode()
        navigation = re.findall(
            '<nav aria-label="Sections">.*?</nav>|<div id="nav-sidebar-apps".*?</form>', page, re.DOTALL
        )
        links = re.findall('href="(/[^"]*)"', "".join(navigation))
        assert links or response.status_code == 403, path
        tried |= {link: client.get(link).status_code for link in links}
    assert {link for link, status in tried.items() if status != 200} == set()
    may_listen = role != "viewer" and bool(role or {"view_event", "change_subscription"} & {*codenames})
    assert ("/console/" in tried) == (may_listen or role == "viewer" or "view_event" in codenames)
    assert ("/console/inbox/" in tried) == (role != "viewer")


@pytest.mark.slow
@pytest.mark.parametrize(("role", "is_limited"), [("viewer", False), ("operator", True)])
def test_every_link_leads_to_a_page_that_the_user_may_open(own, role, is_limited):
    server = fill_server(own)
    Instance.objects.create(name="zyxown-without-endpoints")
    client = client_of(staff_user(role, [own.instance] if is_limited else None))

    found = {}
    for request in requests(own, server | own.ids, is_own=True):
        # the documents are the same for everybody
        if request.form is None and not request.path.startswith("/docs/"):
            page = client.get(request.path, dict(request.query)).content.decode()
            found |= {html.unescape(link): request.path for link in re.findall('<a [^>]*href="(/[^"]*)"', page)}
    refused = {link: page for link, page in found.items() if client.get(link).status_code == 403}
    assert not refused
    assert len(found) > 30
