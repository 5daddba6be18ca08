"""URLs of webhooks: their origin, and their text without the credentials that receivers put into them."""

from __future__ import annotations

import re

from yarl import URL

from instances.crypto import MASK
from instances.outbound.inbox_urls import inbox_url

#: The value of a parameter in a query, or a parameter without a name.
_VALUE = re.compile(r"(?<==)[^&]+|(?<![^&])[^&=]+(?![^&])")


def is_same_origin(url: str, other: str) -> bool:
    """Return whether both URLs have the same scheme, host and port; a text that has none is like itself alone, and so
    is an inbox of this server: each has an owner of its own.
    """
    if url == other:
        return True
    return inbox_url(other) is None and _origin(url) is not None and _origin(url) == _origin(other)


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port, as the HTTP client reads them; None for a text without a host."""
    try:
        parsed = URL(url)
    except ValueError:
        return None
    return (parsed.scheme, parsed.host, parsed.port) if parsed.host else None


def masked_url(url: str) -> str:
    """Return a URL with its path, the values of its query and its fragment masked; a text that is no URL stays.

    Receivers put credentials there: https://hooks.slack.com/services/T…/B…/… or …/bot<token>/…
    """
    address, mark, fragment = url.partition("#")
    address, question, query = address.partition("?")
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    if separator:
        address = f"{scheme}://{host}{slash}{MASK if path else ''}"
    return f"{address}{question}{_VALUE.sub(MASK, query)}{mark}{MASK if fragment else ''}"
