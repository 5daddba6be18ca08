"""Headers that sign a webhook: the signature of Standard Webhooks, and the token of `jwt_key`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Generator, Iterable, Sequence

import orjson

from instances.outbound.webhook_secrets import MAX_SECRETS, PREFIX

#: Seconds for which a token is valid.
JWT_LIFETIME = 600


# Standard Webhooks


def headers(id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of Standard Webhooks; `timestamp` is the attempt's Unix time in seconds.

    Without a secret the id and the timestamp are there all the same: receivers recognize repeats by the id.
    Raises ValueError for a secret that `check_secret` refuses.
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-headers-sending-metadata-to-consumers
    """
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return _headers(id, timestamp, [hmac.digest(key, signed, "sha256") for key in _keys(secrets)])


def headers_in_slices(
    id: str, timestamp: int, pieces: Iterable[memoryview], secrets: Sequence[str]
) -> Generator[None, None, dict[str, str]]:
    """Return what `headers` returns for a body in pieces; yields after each of them."""
    signed = b"%b.%d." % (id.encode(), timestamp)
    signers = [hmac.new(key, signed, "sha256") for key in _keys(secrets)]
    for piece in pieces if signers else ():
        for signer in signers:
            signer.update(piece)
        yield
    return _headers(id, timestamp, [signer.digest() for signer in signers])


def _headers(id: str, timestamp: int, signatures: Sequence[bytes]) -> dict[str, str]:
    signed_headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    if signatures:
        texts = ["v1," + base64.b64encode(signature).decode() for signature in signatures]
        signed_headers["webhook-signature"] = " ".join(texts)
    return signed_headers


def _keys(secrets: Sequence[str]) -> list[bytes]:
    return [_key(secret) for secret in secrets[:MAX_SECRETS]]


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


# Evolution API's jwt_key


def token(key: str, now: int) -> str:
    """Return a JSON Web Token (RFC 7519, HS256) with Evolution API's claims; `now` is the Unix time in seconds."""
    claims = {"iat": now, "exp": now + JWT_LIFETIME, "app": "evolution", "action": "webhook"}
    signed = _HS256 + b"." + _base64url(orjson.dumps(claims))
    return (signed + b"." + _base64url(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HS256 = _base64url(b'{"alg":"HS256","typ":"JWT"}')
