"""Every page that a link leads to, looked at in a browser: its accessibility, light and dark, and its width."""

from __future__ import annotations

import re
from urllib.parse import urldefrag, urlsplit

import pytest

from tests.page_checks import check_colours, check_page

pytest_plugins = ("tests.browser",)

pytestmark = [pytest.mark.any_database, pytest.mark.slow, pytest.mark.timeout(300)]

STARTS = ("/admin/", "/console/", "/console/?choose=1", "/console/inbox/", "/docs/")
#: Links that end the session, or that are files.
NO_PAGES = re.compile(
    r"/admin/logout/|.*/(envelope|body)|/admin/jsi18n/|.*\.(json|jsonl|js|css|svg|png|txt)|/openapi.json"
)


def test_every_page_is_accessible_light_and_dark_and_fits_a_phone(admin_page, server):
    instance = server.create(name="a shop")
    webhook = {"url": "https://127.0.0.1:1/in", "events": ["MESSAGES_UPSERT"]}
    assert server.post(server.path("/webhook/endpoints", instance), webhook).status == 201
    server.receive(instance, "<b>Good</b> morning")
    findings: list[str] = []
    seen: set[str] = set()  # of one kind, which differ by the row that they show, one page
    pages = list(STARTS)
    while pages:
        url = pages.pop(0)
        if _kind(url) in seen:
            continue
        seen.add(_kind(url))
        admin_page.emulate_media(color_scheme="light")
        admin_page.goto(url)
        for scheme, check in (("light", check_page), ("dark", check_colours)):
            admin_page.emulate_media(color_scheme=scheme)
            try:
                check(admin_page)
            except AssertionError as error:
                findings.append(f"{scheme}: {error}")
        pages += _links(admin_page, server)
    assert not findings, "\n".join(findings)
    assert {_kind(start) for start in STARTS} <= seen
    assert {"/admin/instances/subscription/#/change/", "/admin/realtime/delivery/#/change/"} <= seen
    assert len(seen) > 60


def _links(page, server):
    """Return the paths of the pages of this server that the page links to."""
    hrefs = page.evaluate("[...document.querySelectorAll('a[href]')].map((link) => link.href)")
    urls = {urldefrag(href).url for href in hrefs if href.startswith(server.url)}
    paths = {url.removeprefix(server.url) for url in urls}
    return sorted(path for path in paths if path.startswith(STARTS) and not NO_PAGES.fullmatch(urlsplit(path).path))


def _kind(url):
    """Return the path with a # for what names a row, an event or a group of routes, and a ? in place of a query."""
    parts = urlsplit(url)
    path = re.sub(r"/(\d+|[0-9a-f-]{36}|[0-9a-f]{16}\.\d+)(?=/|$)", "/#", parts.path)
    path = re.sub(r"^/docs/(events|rest)/.+", r"/docs/\1/#", path)
    return f"{path}?" if parts.query else path
