"""GET /openapi.json: the OpenAPI document of the routes."""

from __future__ import annotations

from functools import cache

import orjson
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from instances.api.openapi import Generator


@cache
def document() -> bytes:
    """Return the document as JSON; cached, because to generate it takes a tenth of a second."""
    return orjson.dumps(Generator().get_schema(request=None, public=True))


@require_GET
def openapi(request: HttpRequest) -> HttpResponse:
    """Return the document; no key is required."""
    return HttpResponse(document(), content_type="application/json")
