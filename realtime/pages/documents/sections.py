"""The sections of the documents, in the order in which the navigation shows them."""

from __future__ import annotations

from realtime.pages.documents import events, files, rest
from realtime.pages.documents.navigation import Section

#: A new section is a line here.
SECTIONS: tuple[Section, ...] = (events.SECTION, rest.SECTION, files.SECTION)
