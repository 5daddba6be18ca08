"""Django middleware: headers that Django's own does not add."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class DefaultHeaders:
    """Adds headers to each response that has none of that name.

    `no-store`, because most responses hold tokens or messages. Strict-Transport-Security (RFC 6797) over http as well,
    where browsers ignore it: behind a proxy Django does not know which it is.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        if settings.SECURE_HSTS_SECONDS:
            hsts = f"max-age={settings.SECURE_HSTS_SECONDS}"
            response.headers.setdefault("Strict-Transport-Security", hsts)
        for beginning, policy in settings.CONTENT_SECURITY_POLICIES.items():
            if request.path.startswith(beginning):
                response.headers.setdefault("Content-Security-Policy", policy)
        return response
