"""The gate: the rules for hosts and for pages of other origins, and the headers of every response.

Django checks the Host of each request that its views answer, and its middleware adds headers to their responses. The
gate stands in front of everything, and does the same for what is answered beside Django: Socket.IO, event streams,
posted payloads, refusals. A browser sends requests on behalf of any page; these headers tell whose page it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.utils.module_loading import import_string

from instances import errors
from instances.access.client_address import client_address
from instances.asgi import Application, AsgiHeaders, Headers, Message, Receive, Scope, Send, respond

#: Characters of an Origin that are looked at: no host's name makes a longer one.
MAX_ORIGIN = 300
#: Characters of a Host header, at most: those of a domain name (RFC 1035, section 2.3.4) and of a port.
MAX_HOST = 255 + 6

NOT_THIS_HOST = "This server is not reached by that name: see SERVER_URL and ALLOWED_HOSTS"


# Hosts


def is_allowed_host(host: str) -> bool:
    """Return whether ALLOWED_HOSTS admits a Host header.

    The rule is Django's, but that names may have underscores, as those of Docker Compose's services have.
    """
    return len(host) <= MAX_HOST and _is_allowed_host(host, tuple(settings.ALLOWED_HOSTS))


@lru_cache(maxsize=256)
def _is_allowed_host(host: str, allowed: tuple[str, ...]) -> bool:
    domain = _domain(host)
    return bool(domain) and validate_host(domain, allowed)


def _domain(host: str) -> str:
    """Return the domain of a Host header in lower case, "" for a malformed one."""
    domain, _ = split_domain_port(host.replace("_", "-"))  # Django takes a hyphen where we take an underscore
    return host.lower()[: len(domain)]


def _is_nobodys_domain(host: str) -> bool:
    """Return whether no stranger can own the name in a Host header, and make it resolve to this machine.

    So are addresses, names without a dot, and names that ALLOWED_HOSTS lists.
    """
    domain = _domain(host)
    listed = [name for name in settings.ALLOWED_HOSTS if name != "*"]
    return "." not in domain or _is_address(domain) or validate_host(domain, listed)


def _is_address(domain: str) -> bool:
    try:
        ip_address(domain)
    except ValueError:
        return False
    return True


# Origins: https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Origin


def is_allowed_origin(origin: str, host: str) -> bool:
    """Return whether pages of an origin may use sockets: if CORS_ORIGIN lists it or is `*`, or if it is our own."""
    return settings.CORS_ALLOW_ALL_ORIGINS or _is_listed(origin) or _is_own(origin, host)


def _is_listed(origin: str) -> bool:
    try:
        url = urlsplit(origin[:MAX_ORIGIN])
    except ValueError:
        return False
    return _cors().origin_found_in_white_lists(origin[:MAX_ORIGIN], url)


@cache
def _cors() -> CorsMiddleware:
    return CorsMiddleware(lambda request: HttpResponse())


def _is_own(origin: str, host: str) -> bool:
    """Return whether an origin is that of SERVER_URL or of the host that the request names.

    Where any host is allowed, a stranger's page may have a host that resolves to this machine (DNS rebinding), so the
    host says nothing.
    """
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    is_ours = "*" not in settings.ALLOWED_HOSTS and is_allowed_host(host)
    return is_ours and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


# Requests without a key

#: The field of a query by which Engine.IO responds with a script. A page of any origin can load it, without an Origin.
_JSONP = re.compile(rb"(?:^|&)(?:j|%6a)(?:=|&|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, as far as the connection and the headers tell."""

    #: The address at the other end of the connection.
    peer: str
    #: The client's address: the peer's, or the one that trusted proxies report.
    address: str
    #: True unless a browser may have sent it for a page that CORS_ORIGIN does not list: such a request needs a key,
    #: from whatever address it comes.
    may_be_keyless: bool

    @classmethod
    def of(cls, scope: Scope) -> Caller:
        """Return the caller of an ASGI scope, HTTP or websocket."""
        peer = (scope.get("client") or ("", 0))[0]
        caller = cls.of_request(scope.get("method", ""), AsgiHeaders(scope["headers"]), peer)
        if caller.may_be_keyless and _JSONP.search(scope["query_string"]):
            return replace(caller, may_be_keyless=False)
        return caller

    @classmethod
    def of_request(cls, method: str, headers: Mapping[str, str], peer: str) -> Caller:
        """Return the caller of a request with these headers, by case-insensitive name."""
        address = client_address(peer, headers.get("x-forwarded-for", ""))
        return cls(peer, address, _may_be_keyless(method, headers.get("host", ""), headers.get("origin")))


def _may_be_keyless(method: str, host: str, origin: str | None) -> bool:
    if not is_allowed_host(host):
        return False
    if origin is not None:
        return _is_listed(origin) or _is_own(origin, host)
    # browsers send an Origin with all that a page of another host can read, but for scripts, and with websockets and
    # POST; none with a GET to the page's own host
    return method != "GET" or _is_nobodys_domain(host)


# Responses


def response_headers(method: str, path: str, origin: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that every response to such a request has, unless it has others of these names."""
    return _django_headers(
        "OPTIONS" if method == "OPTIONS" else "GET",
        next((beginning for beginning in settings.PATHS_WITHOUT_CORS if path.startswith(beginning)), "/"),
        None if origin is None else origin[:MAX_ORIGIN],
    )


@lru_cache(maxsize=256)
def _django_headers(method: str, path: str, origin: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that Django's middleware adds to every response to such a request."""
    request = HttpRequest()
    request.method, request.path, request.path_info = method, path, path
    if origin is not None:
        request.META["HTTP_ORIGIN"] = origin
    answer: Callable[[HttpRequest], HttpResponse] = lambda _: HttpResponse()  # noqa: E731
    for middleware in reversed(settings.HEADER_MIDDLEWARE):
        answer = import_string(middleware)(answer)
    headers = [(name.lower(), value) for name, value in answer(request).items()]
    return tuple(
        (name.encode(), value.encode("latin-1"))
        for name, value in headers
        if name not in ("content-type", "content-length")
    )


class Gate:
    """ASGI middleware in front of everything: it refuses what other pages may not send, answers their preflight
    requests, and adds the headers of Django's middleware to each response that lacks them.
    """

    def __init__(self, app: Application, sockets_path: str) -> None:
        """`sockets_path` is where requests of origins that are not allowed are refused, and not only kept from being
        read: browsers apply CORS to no websocket.
        """
        self.app = app
        self.sockets_path = sockets_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = AsgiHeaders(scope["headers"])
        origin = headers.get("origin")
        if origin is not None:
            origin = origin[: MAX_ORIGIN + 1]  # it is kept as long as the request is served
        responder = Responder(scope, origin, send)
        refusal = self._refusal(scope, headers.get("host", ""), origin) if origin is not None else None
        if refusal:
            await responder.refuse(receive, 400, refusal)
        elif _is_preflight(scope, headers):
            await respond(responder.send, 200, [(b"content-length", b"0")])
        else:
            try:
                await self.app(scope, receive, responder.send)
            except Exception:
                await responder.fail()
                raise

    def _refusal(self, scope: Scope, host: str, origin: str) -> str | None:
        """Return why a request with an Origin is refused, None if it is not."""
        if not is_allowed_host(host):
            return NOT_THIS_HOST
        if f"{scope['path']}/".startswith(self.sockets_path) and not is_allowed_origin(origin, host):
            return f"{origin[:MAX_ORIGIN]} is not an accepted origin: see CORS_ORIGIN"
        return None


def _is_preflight(scope: Scope, headers: Mapping[str, str]) -> bool:
    return (
        scope.get("method") == "OPTIONS"
        and "access-control-request-method" in headers
        and not scope["path"].startswith(settings.PATHS_WITHOUT_CORS)
    )


def _completed(given: list[tuple[bytes, bytes]], ours: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers with those of ours that are missing, and with our Vary in theirs."""
    names = {name.lower() for name, _ in given}
    for name, value in ours:
        if name not in names:
            given.append((name, value))
        elif name == b"vary":
            given = [(each, _with_vary(text, value) if each.lower() == b"vary" else text) for each, text in given]
    return given


def _with_vary(given: bytes, ours: bytes) -> bytes:
    """Return the value of a Vary with another field: a cache must keep what each origin gets apart."""
    fields = {field.strip().lower() for field in given.split(b",")}
    return given if ours.lower() in fields or b"*" in fields else given + b", " + ours


class Responder:
    """Sends the response to one request; completes its headers, if it is one of HTTP."""

    def __init__(self, scope: Scope, origin: str | None, send: Send) -> None:
        self._scope = scope
        self._origin = origin
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        """Send a message of the application's on."""
        if message["type"] == "http.response.start":
            self._has_begun = True
            ours = response_headers(self._scope["method"], self._scope["path"], self._origin)
            message = message | {"headers": _completed(list(message.get("headers", ())), ours)}
        await self._send(message)

    async def refuse(self, receive: Receive, status: int, message: str) -> None:
        """Respond with an error, in place of the application; to a websocket's handshake, too."""
        body = errors.error_response(status, [message]).content
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if self._scope["type"] == "http":
            await respond(self.send, status, headers, body)
            return
        await receive()
        if "websocket.http.response" in self._scope.get("extensions", {}):
            await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": body})
        else:
            await self._send({"type": "websocket.close"})

    async def fail(self) -> None:
        """Respond to a request whose application has failed, if it has not responded yet."""
        if self._scope["type"] == "http" and not self._has_begun:
            body = errors.error_response(500, "Internal Server Error").content
            await respond(self.send, 500, [(b"content-type", b"application/json"), (b"connection", b"close")], body)
