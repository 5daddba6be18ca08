"""The pages under /docs/, asked for in this process."""

from __future__ import annotations

import pytest

from realtime.pages.documents.sections import SECTIONS

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]


def paths() -> list[str]:
    return ["/docs/", *(page.path for section in SECTIONS for page in section.pages())]


def test_every_page_answers_anybody(client):
    for path in paths():
        response = client.get(path)
        assert response.status_code == 200, path
        assert not response.cookies


def test_a_page_that_is_known_is_not_sent_again(client):
    first = client.get("/docs/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/docs/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_only_reading_is_answered(client):
    assert client.post("/docs/").status_code == 405


def test_docs_without_a_slash_leads_to_the_documents(client):
    response = client.get("/docs")
    assert (response.status_code, response.headers["Location"]) == (302, "/docs/")


def test_the_navigation_marks_the_current_page(client):
    assert '<a href="/docs/" aria-current="page">All documents</a>' in client.get("/docs/").content.decode()


def test_the_search_knows_every_page(client):
    found = [path for _, _, path in client.get("/docs/search.json").json()]
    assert set(paths()) - {"/docs/"} <= set(found)
    assert len(found) == len(set(found))
