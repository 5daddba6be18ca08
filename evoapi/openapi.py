"""GET /openapi.json: the OpenAPI document of the routes."""

from __future__ import annotations

from functools import cache

import orjson
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from drf_spectacular import drainage

from instances.api.openapi import Generator


@cache
def document() -> bytes:
    """Return the document as JSON; cached, because to generate it takes a fifth of a second."""
    # for its warnings drf-spectacular looks for the file of each view and serializer: so many short calls of the system
    # that the thread keeps the GIL, as other threads get it after 5 ms without one
    drainage._get_source_location = lambda of: (None, None)  # type: ignore[assignment]
    return orjson.dumps(Generator().get_schema(request=None, public=True))


@require_GET
def openapi(request: HttpRequest) -> HttpResponse:
    """Return the document; no key is required."""
    return HttpResponse(document(), content_type="application/json")
