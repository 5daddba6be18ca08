"""URLs of this server's inboxes, which a webhook may be sent to although the server's own host may be private.

Nothing connects to them: a delivery is handed over inside the process by the id in the URL. So they are recognized by
their text alone, and the SSRF guard has no exception for them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from django.conf import settings

from instances.outbound.ssrf_guard import MAX_URL, check_url

#: The beginning of the paths of inboxes.
PATH = "/inbox/"

#: Bytes of randomness in an id, and its characters in URL-safe base64.
ID_BYTES, ID_LENGTH = 16, 22

#: The end of an inbox's URL: its id, the name of an event (`byEvents`), and a query.
_END = rf"/inbox/(?P<id>[A-Za-z0-9_-]{{{ID_LENGTH}}})(?P<rest>(?:/[A-Za-z0-9_-]{{1,100}})?(?:\?[!-~]*)?)"
_URL = re.compile(rf"(?P<base>(?i:https?)://[^/?#@\\\s]+(?:/[!-~]*?)?){_END}")
_PATH_AND_QUERY = re.compile(_END)

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class InboxUrl(NamedTuple):
    """The parts of an inbox's URL behind the server's."""

    id: str
    #: The path behind the id, and the query.
    rest: str


def inbox_url(url: str) -> InboxUrl | None:
    """Return the parts of a URL of an inbox of this server; None for any other URL.

    The host is that of SERVER_URL, a name in ALLOWED_HOSTS, or the address that this server listens on.
    """
    if PATH not in url or len(url) > MAX_URL:  # the common case
        return None
    match = _URL.fullmatch(url)
    if match is None or not _is_own(match["base"]):
        return None
    return InboxUrl(match["id"], match["rest"])


def inbox_path(path: str, query: str) -> InboxUrl | None:
    """Return the parts of a request's path, which is not percent-encoded, and query; None if it is to no inbox."""
    match = _PATH_AND_QUERY.fullmatch(f"{path}?{query}" if query else path)
    return InboxUrl(match["id"], match["rest"]) if match else None


def url_of(id: str) -> str:
    """Return the URL of an inbox by which deliveries of ours are sent to it."""
    return f"{settings.SERVER_URL or _own_address()}{PATH}{id}"


def check_receiver(url: str) -> None:
    """Raise ValueError, with a message for the user, for a URL that no webhook may be sent to: one that the SSRF guard
    refuses, unless it is that of an inbox.
    """
    if inbox_url(url) is None:
        check_url(url)


def _is_own(base: str) -> bool:
    """Return whether a scheme, host, port and path are those of this server."""
    base = _without_default_port(base)
    if base in (_without_default_port(settings.SERVER_URL), _own_address()):
        return True
    scheme, _, authority = base.partition("://")
    if "/" in authority:
        return False
    host, port = _host_and_port(authority)
    is_here = scheme == "http" and port == f":{settings.SERVER_PORT}"
    if host in ("localhost", "127.0.0.1", "[::1]"):
        return is_here
    if "*" in settings.ALLOWED_HOSTS and is_here and (host.startswith("[") or re.fullmatch(r"[0-9.]+|[^.]+", host)):
        return True  # an address, or a name that no stranger can own
    return host in settings.ALLOWED_HOSTS and (is_here or not port)


def _without_default_port(url: str) -> str:
    """Return the URL of a server with scheme and host in lower case, and without the default port of its scheme."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    scheme, authority = scheme.lower(), authority.lower()
    return f"{scheme}{separator}{authority.removesuffix(_DEFAULT_PORTS.get(scheme, ' '))}{slash}{path}"


def _host_and_port(authority: str) -> tuple[str, str]:
    """Return the host, with its brackets, and the port with its colon; "" for none."""
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port:
        return authority, ""
    return host, f":{port}"


def _own_address() -> str:
    """Return the URL of this server, as far as it knows it without SERVER_URL."""
    host = "127.0.0.1" if settings.SERVER_HOST in ("0.0.0.0", "::") else settings.SERVER_HOST  # noqa: S104 (compared)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.SERVER_PORT}"
