"""The parts that the navigation of the documents is made of, and their index for the search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A place within a page."""

    title: str
    #: The `id` of its element.
    anchor: str


@dataclass(frozen=True)
class DocumentPage:
    """A page of the documents, as the navigation and the search know it."""

    title: str
    #: Its path on this server, which begins with /docs/.
    path: str
    #: A sentence for lists of pages.
    summary: str = ""
    headings: Sequence[Heading] = ()


@dataclass(frozen=True)
class Section:
    """A part of the navigation: pages of one kind."""

    title: str
    #: A sentence on what the pages are for.
    summary: str
    #: Returns the pages in their order; called for each page that is rendered, so it caches what is costly.
    pages: Callable[[], Sequence[DocumentPage]]


def search_index(sections: Sequence[Section]) -> Iterator[tuple[str, str, str]]:
    """Yield the title, the holder's title and the path of each page and each heading."""
    for section in sections:
        for page in section.pages():
            yield page.title, section.title, page.path
            for heading in page.headings:
                yield heading.title, page.title, f"{page.path}#{heading.anchor}"
