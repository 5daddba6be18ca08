"""The sections of the documents, in the order in which the navigation shows them."""

from __future__ import annotations

from realtime.pages.documents import files
from realtime.pages.documents.navigation import Section

#: A new section is a line here.
SECTIONS: tuple[Section, ...] = (files.SECTION,)
