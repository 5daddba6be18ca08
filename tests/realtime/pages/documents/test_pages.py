"""The pages under /docs/, asked for in this process: public, the same for all, and without dead links."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urldefrag, urljoin

import pytest

from instances.models import Instance
from realtime.pages.documents.sections import SECTIONS

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]


def paths() -> list[str]:
    return ["/docs/", *(page.path for section in SECTIONS for page in section.pages())]


def test_every_page_answers_anybody(client):
    for path in paths():
        response = client.get(path)
        assert response.status_code == 200, path
        assert not response.cookies


def test_no_page_asks_the_database_or_shows_anything_of_an_instance(client, settings, django_assert_num_queries):
    settings.DEBUG = True  # each page is made anew
    Instance.objects.create(name="marker-of-an-instance", number="5599123456789")
    with django_assert_num_queries(0):
        for path in paths():
            content = client.get(path).content
            assert b"marker-of-an-instance" not in content
            assert b"5599123456789" not in content
            assert settings.AUTHENTICATION_API_KEY.encode() not in content


def test_every_link_within_the_documents_leads_somewhere(client):
    found = {path: client.get(path).content.decode() for path in paths()}
    dead = []
    for path, page in list(found.items()):
        for link in map(unescape, re.findall(r'<a [^>]*href="([^"]+)"', page)):
            target, anchor = urldefrag(urljoin(path, link))
            if not target.startswith("/docs/"):
                continue
            if target not in found:
                found[target] = client.get(target).content.decode() if client.get(target).status_code == 200 else ""
            is_there = f'id="{anchor}"' in found[target] if anchor else found[target]
            if not is_there:
                dead.append(f"{link} in {path}")
    assert dead == []


def test_no_page_has_two_elements_of_one_id(client):
    for path in paths():
        ids = re.findall(r' id="([^"]+)"', client.get(path).content.decode())
        assert len(ids) == len(set(ids)), path


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


def test_the_search_knows_every_page_and_heading(client):
    found = [path for _, _, path in client.get("/docs/search.json").json()]
    assert set(paths()) - {"/docs/"} <= set(found)
    assert "/docs/rest/message#SendText" in found
    assert len(found) == len(set(found))


def test_the_openapi_document_is_that_of_the_routes(client):
    assert client.get("/docs/openapi.json").content == client.get("/openapi.json").content
