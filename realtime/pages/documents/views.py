"""The documents: public pages and files, without anything of an instance."""

from __future__ import annotations

import orjson
from django.http import Http404
from django.urls import reverse
from django.utils.safestring import mark_safe

from instances.api.openapi import document as openapi_document
from realtime.pages.documents import events as of_events
from realtime.pages.documents import guides
from realtime.pages.documents import rest as of_rest
from realtime.pages.documents.asyncapi import asyncapi_document
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


@document()
def events() -> bytes:
    """Return the page of all events."""
    return render("pages/documents/events.html", reverse("documents:events"), **of_events.index())


@document()
def event(name: str) -> bytes:
    """Return the page of an event type."""
    return render("pages/documents/event.html", reverse("documents:event", args=[name]), **of_events.event(name))


@document()
def rest() -> bytes:
    """Return the page of all routes."""
    return render("pages/documents/rest.html", reverse("documents:rest"), **of_rest.index())


@document()
def rest_group(name: str) -> bytes:
    """Return the page of a group of routes."""
    path = reverse("documents:rest_group", args=[name])
    return render("pages/documents/rest_group.html", path, **of_rest.group(name))


@document(JSON)
def openapi() -> bytes:
    """Return the document that /openapi.json has, too."""
    return openapi_document()


@document(JSON)
def asyncapi() -> bytes:
    """Return the AsyncAPI document."""
    return orjson.dumps(asyncapi_document())


@document("application/schema+json")
def schema(name: str) -> bytes:
    """Return the JSON Schema of an event type, or of the envelope."""
    return of_events.schema(name)


@document()
def guide(name: str) -> bytes:
    """Return the page of a guide, or of another Markdown file under docs/."""
    file = guides.find(name)
    if file is None:
        raise Http404
    shown = guides.rendered(file)
    text = mark_safe(shown.html)  # noqa: S308 (made of our files, in which HTML is text)
    return render("pages/documents/guide.html", guides.path_of(file), title=shown.title, text=text)
