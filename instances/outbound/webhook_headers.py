"""Validation of the headers that are stored with a webhook and sent with its deliveries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: The text that replaces values which a key may not read.

#: The stored header that is not sent: its value signs a JWT for Authorization.
JWT_KEY = "jwt_key"

#: Limits of stored headers: their number, characters of a name, bytes of a value, bytes of all together.
MAX_HEADERS, MAX_NAME, MAX_VALUE, MAX_TOTAL = 50, 128, 8 * 1024, 32 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: Headers of framing and of the connection (RFC 9110, section 7.6.1), which the HTTP client sets.
_RESERVED = frozenset(
    (
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def check_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers as they are stored, numbers and booleans as strings.

    Raises ValueError, whose message repeats no value.
    """
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"There are more than {MAX_HEADERS} headers")
    checked = {name: _check_header(name, value) for name, value in headers.items()}
    if len({name.lower() for name in checked}) < len(checked):
        raise ValueError("A header is given twice, in different letters")
    if sum(len(name) + len(value.encode()) for name, value in checked.items()) > MAX_TOTAL:
        raise ValueError(f"The headers are longer than {MAX_TOTAL} bytes together")
    return checked


def _check_header(name: str, value: Any) -> str:
    if not _TOKEN.fullmatch(name) or len(name) > MAX_NAME:
        raise ValueError(
            f"{_excerpt(name)} is no name of a header: letters, digits and !#$%&'*+-.^_`|~ are, up to {MAX_NAME}"
        )
    if name.lower() in _RESERVED or name.lower().startswith("webhook-"):
        raise ValueError(f"The header {name} is set by us, and cannot be stored")
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"The value of the header {name} must be a text")
    if len(value.encode(errors="replace")) > MAX_VALUE:
        raise ValueError(f"The value of the header {name} is longer than {MAX_VALUE} bytes")
    if name == JWT_KEY and not value:
        raise ValueError("jwt_key is empty: nothing can be signed with it")
    # beyond ASCII the bytes are UTF-8, which HTTP transfers as opaque (RFC 9110, section 5.5)
    if not all(character.isprintable() or character == "\t" for character in value):
        raise ValueError(f"The value of the header {name} holds control characters")
    if value != value.strip():
        raise ValueError(f"The value of the header {name} begins or ends with a space")
    return value


def _excerpt(name: str) -> str:
    return ascii(name if len(name) <= 40 else name[:40] + "…")
