"""Where events come in. A door is one piece of code with two ways to it: straight from ASGI, and as a Django view.

The first one answers many requests by one commit, and passes neither Django's middleware nor its views; it gives the
headers that those would. The second one is for wherever evoapi's URLs are served in another way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from instances import errors
from instances.asgi import Application, ClientDisconnected, Receive, Scope, Send, read_body, respond
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, Visit, refusal
from instances.ingress.queue import IngressQueue

logger = logging.getLogger(__name__)


#: What Django's middleware adds to every answer.
SECURITY = [
    (b"content-type", b"application/json"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", settings.SECURE_REFERRER_POLICY.encode()),
    (b"cross-origin-opener-policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY.encode()),
    (b"vary", b"origin"),
]


class IngressRouter:
    """ASGI application: what is posted to doors goes to them, everything else to `other`.

    In front of it, bodies are limited in size.
    """

    def __init__(self, doors: Iterable[IngressEndpoint], other: Application) -> None:
        self.doors = list(doors)
        self.other = other
        self.intake = IngressQueue()
        self._allowed_hosts: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door, name = self._door(scope)
        headers = AsgiHeaders(scope["headers"])
        if door is None or not self._is_ours(headers.get("host", "")):
            await self.other(scope, receive, send)
            return
        try:
            body = await read_body(receive)
        except ClientDisconnected:
            return
        peer = scope["client"][0] if scope.get("client") else ""
        call = IngressRequest(scope["path"], name, headers, peer, body)
        answer = await self._answer(door, call)
        length = (b"content-length", str(len(answer.body)).encode())
        told = [*SECURITY, length, *_allowed_origin(headers.get("origin"))]
        await respond(send, answer.status, told, answer.body)

    def _door(self, scope: Scope) -> tuple[IngressEndpoint | None, str]:
        if scope["method"] == "POST":
            for door in self.doors:
                name = door.name_in(scope["path"])
                if name is not None:
                    return door, name
        return None, ""

    def _is_ours(self, host: str) -> bool:
        """Whether the server is meant; Django has words for those who mean another one."""
        if host in self._allowed_hosts:
            return True
        domain, _ = split_domain_port(host)
        is_ours = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
        if is_ours and len(self._allowed_hosts) < 100:
            self._allowed_hosts.add(host)
        return is_ours

    async def _answer(self, door: IngressEndpoint, call: IngressRequest) -> IngressResponse:
        try:
            return await self.intake.enter(Visit(door, call))
        except Exception as error:
            answer = refusal(call, error)
            if answer is None:
                logger.exception("%s has failed", call.path)
                answer = IngressResponse(500, errors.error_response(500, "Internal Server Error").content)
            return answer


def _allowed_origin(origin: str | None) -> list[tuple[bytes, bytes]]:
    """What django-cors-headers says to a page of this origin."""
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
    """Those of an ASGI scope, of which few are ever looked at."""

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
