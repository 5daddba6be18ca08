"""What is told beside a webhook's body: Standard Webhooks' signature and the token of `jwt_key`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

import orjson

from instances.outbound.webhook_secrets import MAX_SECRETS, PREFIX

#: Seconds for which such a token is good.
JWT_LIFETIME = 600


# Standard Webhooks


def headers(id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """`timestamp`: of this attempt, in seconds. Raises ValueError for a secret that `check_secret` refuses.

    Without a secret the id and the timestamp are told all the same: receivers know repeats by the id.
    """
    told = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    if secrets:
        signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
        told["webhook-signature"] = " ".join(_signature(secret, signed) for secret in secrets[:MAX_SECRETS])
    return told


def _signature(secret: str, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


# Evolution API's jwt_key


def token(key: str, now: int) -> str:
    """A JSON Web Token (HS256) as Evolution API signs it; `now` in seconds."""
    claims = {"iat": now, "exp": now + JWT_LIFETIME, "app": "evolution", "action": "webhook"}
    signed = _HS256 + b"." + _base64url(orjson.dumps(claims))
    return (signed + b"." + _base64url(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HS256 = _base64url(b'{"alg":"HS256","typ":"JWT"}')
