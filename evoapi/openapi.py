"""GET /openapi.json: the routes, described for programs and people."""

from __future__ import annotations

from functools import cache

import orjson
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from instances.api.openapi import Generator


@cache
def document() -> bytes:
    """Made once: it takes a tenth of a second, and needs no key."""
    return orjson.dumps(Generator().get_schema(request=None, public=True))


@require_GET
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(document(), content_type="application/json")
