"""The sections of the documents, in the order in which the navigation shows them."""

from __future__ import annotations

from realtime.pages.documents import events, files, guides, rest
from realtime.pages.documents.navigation import Section

#: A new section is a line here.
SECTIONS: tuple[Section, ...] = (
    guides.SECTION,
    events.SECTION,
    rest.SECTION,
    guides.DETAILS_SECTION,
    files.SECTION,
)
