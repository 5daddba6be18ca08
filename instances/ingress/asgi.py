"""The ASGI application of the ingress endpoints: a request goes from here to queue.py and on to batch.py.

It stores many requests by one commit, and passes neither Django's middleware nor its views; it sends the headers that
those would. view.py serves the same endpoints wherever evoapi's URLs are deployed in another way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from instances import errors
from instances.asgi import Application, ClientDisconnected, Receive, Scope, Send, read_body, respond
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, error_response
from instances.ingress.queue import IngressQueue

logger = logging.getLogger(__name__)

#: Headers that Django's middleware adds to every response.
RESPONSE_HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", settings.SECURE_REFERRER_POLICY.encode()),
    (b"cross-origin-opener-policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY.encode()),
    (b"vary", b"origin"),
]
#: Host headers that are cached as allowed, at most.
MAX_CACHED_HOSTS = 100


class IngressRouter:
    """Route POST requests to ingress endpoints, and all other requests to `other`.

    Expects bodies to be limited in size by an application in front of it (see `BodyLimit`).
    """

    def __init__(self, endpoints: Iterable[IngressEndpoint], other: Application) -> None:
        self.endpoints = list(endpoints)
        self.other = other
        self.queue = IngressQueue()
        self._allowed_hosts: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint, name = self._route(scope)
        headers = AsgiHeaders(scope["headers"])
        if endpoint is None or not self._is_allowed_host(headers.get("host", "")):
            await self.other(scope, receive, send)
            return
        try:
            body = await read_body(receive)
        except ClientDisconnected:
            return
        peer = scope["client"][0] if scope.get("client") else ""
        response = await self._respond_to(IngressRequest(endpoint, scope["path"], name, headers, peer, body))
        length = (b"content-length", str(len(response.body)).encode())
        response_headers = [*RESPONSE_HEADERS, length, *_cors_headers(headers.get("origin"))]
        await respond(send, response.status, response_headers, response.body)

    def _route(self, scope: Scope) -> tuple[IngressEndpoint | None, str]:
        if scope["method"] == "POST":
            for endpoint in self.endpoints:
                name = endpoint.match(scope["path"])
                if name is not None:
                    return endpoint, name
        return None, ""

    def _is_allowed_host(self, host: str) -> bool:
        """Return whether ALLOWED_HOSTS has the host; Django responds to a request for any other host."""
        if host in self._allowed_hosts:
            return True
        domain, _ = split_domain_port(host)
        is_allowed = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
        if is_allowed and len(self._allowed_hosts) < MAX_CACHED_HOSTS:
            self._allowed_hosts.add(host)
        return is_allowed

    async def _respond_to(self, request: IngressRequest) -> IngressResponse:
        try:
            return await self.queue.submit(request)
        except Exception as error:
            response = error_response(request, error)
            if response is None:
                logger.exception("%s has failed", request.path)
                response = IngressResponse(500, errors.error_response(500, "Internal Server Error").content)
            return response


def _cors_headers(origin: str | None) -> list[tuple[bytes, bytes]]:
    """Return the CORS headers that django-cors-headers would send to a page of this origin."""
    if not origin:
        return []
    if settings.CORS_ALLOW_ALL_ORIGINS:
        return [(b"access-control-allow-origin", b"*")]
    try:
        is_allowed = urlsplit(origin)[:2] in [urlsplit(allowed)[:2] for allowed in settings.CORS_ALLOWED_ORIGINS]
    except ValueError:
        return []
    return [(b"access-control-allow-origin", origin.encode("latin-1"))] if is_allowed else []


class AsgiHeaders(Mapping[str, str]):
    """The headers of an ASGI scope, by case-insensitive name; only a few are read, so none is parsed in advance."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        values = [value for each, value in self._pairs if each == wanted]
        if not values:
            raise KeyError(name)
        return b",".join(values).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})
