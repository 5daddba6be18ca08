"""Secrets that webhook deliveries are signed with, in the format of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import secrets as random

PREFIX = "whsec_"

#: Bytes of a secret, by Standard Webhooks.
MIN_SECRET, MAX_SECRET = 24, 64

#: Secrets that sign at the same time: the new one, and the one before it.
MAX_SECRETS = 2


def new_secret() -> str:
    """Return a random secret of 32 bytes."""
    return PREFIX + base64.b64encode(random.token_bytes(32)).decode()


def check_secret(secret: str) -> None:
    """Raise ValueError for a malformed secret; its message does not repeat the secret."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"A signing secret begins with {PREFIX}")
    try:
        size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except ValueError:  # binascii.Error too
        raise ValueError(f"A signing secret is {PREFIX} and base64") from None
    if not MIN_SECRET <= size <= MAX_SECRET:
        raise ValueError(f"A signing secret holds {MIN_SECRET} to {MAX_SECRET} bytes, in base64")
