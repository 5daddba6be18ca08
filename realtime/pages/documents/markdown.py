"""Markdown as HTML: CommonMark with tables, in which HTML is text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

from realtime.pages.documents.navigation import Heading

#: Returns the URL that a link's target has among the documents; None for one that is not shown, such as source code.
Resolve = Callable[[str], str | None]

#: The parser of all Markdown that pages show, documents and descriptions alike.
PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Rendered:
    """A Markdown document as a page shows it."""

    #: The text of its first heading.
    title: str
    #: The headings below that, down to the third level, and the names in tables that the search is to find.
    headings: Sequence[Heading]
    html: str


def render(text: str, resolve: Resolve, column: int | None = None) -> Rendered:
    """Render a document, in whose tables the code in the column with this number, from 0, names things.

    Headings get the anchors that GitHub gives them. A link to what is not shown becomes its text. Tables and code can
    be scrolled by keyboard, by themselves.
    """
    tokens = PARSER.parse(text)
    taken: Counter[str] = Counter()
    headings = _add_anchors(tokens, taken)
    named = [] if column is None else list(_name_rows(tokens, column, taken))
    for token in tokens:
        if token.children:
            token.children = _resolve_links(token.children, resolve)
    _drop_empty_headings(tokens)
    html = PARSER.renderer.render(_scrollable(tokens), PARSER.options, {})
    title = next((heading.title for level, heading in headings if level == 1), "")
    return Rendered(title, [*(heading for level, heading in headings if 1 < level < 4), *named], html)


def _add_anchors(tokens: Sequence[Token], taken: Counter[str]) -> list[tuple[int, Heading]]:
    """Give each heading an id; returns their levels and titles."""
    found = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            title = _text(inline.children or [])
            anchor = _unique(anchor_of(title), taken)
            token.attrs["id"] = anchor
            found.append((int(token.tag[1]), Heading(title, anchor)))
    return found


def _name_rows(tokens: Iterable[Token], column: int, taken: Counter[str]) -> Iterator[Heading]:
    """Give the code in a column of all tables an id; yields its texts."""
    cell = -1
    for token in tokens:
        if token.type == "tr_open":
            cell = -1
        elif token.type == "td_open":
            cell += 1
        elif token.type == "inline" and cell == column:
            for code in token.children or []:
                if code.type == "code_inline" and (anchor := anchor_of(code.content)):
                    code.attrs["id"] = _unique(anchor, taken)
                    yield Heading(code.content, str(code.attrs["id"]))
        elif token.type == "table_close":
            cell = -1


def _unique(anchor: str, taken: Counter[str]) -> str:
    number = taken[anchor]
    taken[anchor] += 1
    return f"{anchor}-{number}" if number else anchor


def anchor_of(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def _text(tokens: Iterable[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "code_inline"))


def _resolve_links(tokens: Sequence[Token], resolve: Resolve) -> list[Token]:
    """Return the tokens of a line with the URLs of links resolved, and without links to what is not shown."""
    kept = []
    open_links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            url = resolve(str(token.attrs["href"]))
            open_links.append(url is not None)
            if url is None:
                continue
            token.attrs["href"] = url
        elif token.type == "link_close" and not open_links.pop():
            continue
        kept.append(token)
    return kept


def _drop_empty_headings(tokens: Sequence[Token]) -> None:
    """Make cells of the heads of tables usual cells where they are empty: a screen reader would announce nothing."""
    for start, inline, end in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if start.type == "th_open" and not inline.content:
            start.tag = end.tag = "td"


def _scrollable(tokens: Iterable[Token]) -> list[Token]:
    """Return the tokens with a frame around each table, which the Tab key reaches."""
    kept = []
    for token in tokens:
        if style := token.attrs.pop("style", ""):  # the Content-Security-Policy takes no style attributes
            token.attrJoin("class", str(style).replace("text-align:", "align-"))
        if token.type == "table_open":
            kept.append(Token("scroll_open", "div", 1, attrs={"class": "scroll", "tabindex": "0"}, block=True))
        kept.append(token)
        if token.type == "table_close":
            kept.append(Token("scroll_close", "div", -1, block=True))
    return kept


def _code(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    language = token.info.split()[0] if token.info.strip() else "text"
    return f'<pre tabindex="0"><code class="language-{escapeHtml(language)}">{escapeHtml(token.content)}</code></pre>\n'


PARSER.add_render_rule("fence", _code)
PARSER.add_render_rule("code_block", _code)
