"""Rendering of the documents: each page is made once, and is the same for everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from realtime.pages.documents.sections import SECTIONS

HTML = "text/html; charset=utf-8"
JSON = "application/json"

#: Pages and files that are kept; there are fewer of them.
KEPT = 512


def render(template: str, path: str, **context: Any) -> bytes:
    """Return a page with the navigation, in which the page of this path is the current one."""
    navigation = [
        {"section": section, "pages": (pages := section.pages()), "is_open": path in [page.path for page in pages]}
        for section in SECTIONS
    ]
    context |= {"section": "documents", "navigation": navigation, "path": path}
    return render_to_string(template, context).encode()


def document(content_type: str = HTML) -> Callable[[Callable[..., bytes]], Callable[..., HttpResponse]]:
    """Have a function of the path's parts answer requests: with what it returned at the first request for this path.

    The function raises Http404 for parts that it does not know; those are not kept.
    """

    def decorate(function: Callable[..., bytes]) -> Callable[..., HttpResponse]:
        @lru_cache(KEPT)
        def make(**parts: str) -> tuple[bytes, str]:
            content = function(**parts)
            return content, quote_etag(hashlib.sha256(content).hexdigest()[:32])

        @require_safe
        @wraps(function)
        def view(request: HttpRequest, **parts: str) -> HttpResponse:
            content, etag = make.__wrapped__(**parts) if settings.DEBUG else make(**parts)
            # an update of the server changes pages, so browsers ask each time
            headers = {"ETag": etag, "Cache-Control": "no-cache"}
            response = HttpResponse(content, content_type=content_type, headers=headers)
            return get_conditional_response(request, etag=etag, response=response) or response

        return view

    return decorate
