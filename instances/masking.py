"""Masking of keys where they stand in texts that are logged or returned."""

from __future__ import annotations

import re

MASK = "********"

#: Clients put their key into the query by mistake.
_KEY_IN_QUERY = re.compile(r"((?:apikey|token)=)[^&\s]*", re.IGNORECASE)

#: URLs of databases, brokers and webhooks have a password before the host.
_PASSWORD_IN_URL = re.compile(r"(://[^/?#\s:@]{0,256}:)[^/?#\s@]{1,256}@")


def mask_keys(text: str) -> str:
    """Replace the keys in queries and the passwords in URLs by asterisks."""
    return _PASSWORD_IN_URL.sub(rf"\1{MASK}@", _KEY_IN_QUERY.sub(rf"\1{MASK}", text))
