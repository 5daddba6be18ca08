"""The documents: public pages and files, without anything of an instance."""

from __future__ import annotations

import orjson
from django.urls import reverse

from instances.api.openapi import document as openapi_document
from realtime.pages.documents.layout import JSON, document, render
from realtime.pages.documents.navigation import search_index
from realtime.pages.documents.sections import SECTIONS


@document()
def index() -> bytes:
    """Return the first page: all sections with their pages."""
    return render("pages/documents/index.html", reverse("documents:index"))


@document(JSON)
def search() -> bytes:
    """Return the titles of all pages and headings, for the search box."""
    return orjson.dumps(list(search_index(SECTIONS)))


@document(JSON)
def openapi() -> bytes:
    """Return the document that /openapi.json has, too."""
    return openapi_document()
