"""The Markdown files under docs/ as pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from realtime.pages.documents.guides import DETAILS, DIRECTORY, FILES, GUIDES, path_of, rendered
from realtime.pages.documents.markdown import anchor_of, render

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]


def html_of(text: str, **urls: str) -> str:
    return render(text, urls.get).html


class Links(HTMLParser):
    """The links, the ids and the names of all elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.elements: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.add(tag)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"] or "")
        if attributes.get("id"):
            self.ids.append(attributes["id"] or "")


# Rendering


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "| a |\n|---|\n| <b onclick=x>y</b> |",
        "```html\n<script>alert(1)</script>\n```",
        "    <script>alert(1)</script>",
        "# <svg onload=alert(1)>",
        '[a](x "\\"><script>alert(1)</script>")',
        '```"><script>\nx\n```',
    ],
)
def test_html_is_text(text):
    elements = Links(html_of(text, x="https://example.com/")).elements
    assert elements <= {"p", "pre", "code", "div", "table", "thead", "tbody", "tr", "th", "td", "h1", "a"}


@pytest.mark.parametrize("url", ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x"])
def test_a_link_to_a_script_is_text(url):
    assert Links(render(f"[a]({url})", lambda target: target).html).links == []


def test_headings_have_githubs_anchors():
    shown = render("# A\n## To rotate ENCRYPTION_KEYS\n## It's `x.y`, twice\n### A\n#### Deep", lambda target: None)
    assert shown.title == "A"
    assert [(each.title, each.anchor) for each in shown.headings] == [
        ("To rotate ENCRYPTION_KEYS", "to-rotate-encryption_keys"),
        ("It's x.y, twice", "its-xy-twice"),
        ("A", "a-1"),
    ]
    assert 'id="its-xy-twice"' in shown.html


def test_a_link_to_what_is_not_shown_is_its_text():
    html = html_of("[a `b`](other.md) and [c](source.py) and [d](other.md)", **{"other.md": "/docs/guides/other/"})
    assert Links(html).links == ["/docs/guides/other/"] * 2
    assert "<code>b</code></a> and c and" in html


def test_tables_and_code_can_be_scrolled_by_keyboard():
    html = html_of("| a |\n|---|\n| b |\n\n```js\nx < y\n```")
    assert html.startswith('<div class="scroll" tabindex="0">\n<table>')
    assert '<pre tabindex="0"><code class="language-js">x &lt; y\n</code></pre>' in html


def test_columns_are_aligned_without_style_attributes():
    html = render("| a | b |\n|---|--:|\n| 1 | 2 |", lambda url: url).html
    assert "style" not in html
    assert '<td class="align-right">2</td>' in html


def test_an_empty_heading_of_a_table_is_none():
    assert "<th>b</th>" in html_of("| | b |\n|---|---|\n| c | d |")
    assert "<th></th>" not in html_of("| | b |\n|---|---|\n| c | d |")


def test_code_in_a_column_is_found_by_the_search():
    text = "| A | B |\n|---|---|\n| `one` | `X_Y` and `Z …` |\n| two | `X_Y` |\n\nafter `it`"
    shown = render(text, lambda target: None, column=1)
    assert [(each.title, each.anchor) for each in shown.headings] == [("X_Y", "x_y"), ("Z …", "z"), ("X_Y", "x_y-1")]
    assert '<code id="x_y">X_Y</code>' in shown.html
    assert "<code>one</code>" in shown.html
    assert "<code>it</code>" in shown.html


# The files


@pytest.mark.parametrize("file", FILES)
def test_each_file_is_a_page_with_its_title(client, file):
    response = client.get(path_of(file))
    assert response.status_code == 200
    page = response.content.decode()
    assert f"<title>{rendered(file).title} · evoapi documents</title>".replace("'", "&#x27;") in page
    assert page.count("<h1") == 1
    ids = Links(page).ids
    assert len(ids) == len(set(ids))
    assert "<img" not in page


def test_a_server_that_renders_them_keeps_serving(server):
    """The watchdog looks on: the longest page, and what reads all of them."""
    for path in ("/docs/guides/compatibility/", "/docs/search.json"):
        assert server.get(path, key=None).status == 200


def test_the_names_of_pages_are_unique():
    assert len({Path(file).stem for file in FILES}) == len(FILES)


@pytest.mark.parametrize("name", ["nothing", "design", "..%2Fsettings", "README"])
def test_other_names_are_not_found(client, name):
    assert client.get(f"/docs/guides/{name}/").status_code == 404


def test_every_link_between_pages_leads_to_a_page_and_a_place_in_it(client):
    pages = {path_of(file): Links(rendered(file).html) for file in FILES}
    for path, page in list(pages.items()):
        for link in page.links:
            if link.startswith("http"):
                continue
            target, _, anchor = link.partition("#")
            target = target or path
            known = pages.get(target)
            if known is None:
                response = client.get(target)
                assert response.status_code == 200, f"{path} links to {link}"
                known = pages[target] = Links(response.content.decode())
            assert not anchor or anchor in known.ids, f"{path} links to {link}"


def test_each_file_that_users_need_is_shown():
    developers = {"design.md", "performance.md", "upgrading.md", "events.md"}
    files = {str(path.relative_to(DIRECTORY)) for path in DIRECTORY.rglob("*.md")}
    assert files - developers == set(FILES)
    assert set(GUIDES) | set(DETAILS) == set(FILES)


def test_headings_go_down_one_level_at_a_time():
    for file in FILES:
        levels = [int(level) for level in re.findall(r"<h([1-6])", rendered(file).html)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), file


def test_anchor_of_is_what_links_use():
    assert anchor_of("3. Where Meta posts to") == "3-where-meta-posts-to"
