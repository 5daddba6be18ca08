"""GET /openapi.json: the OpenAPI document of the routes."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from instances.api.openapi import document


@require_GET
def openapi(request: HttpRequest) -> HttpResponse:
    """Return the document; no key is required."""
    return HttpResponse(document(), content_type="application/json")
