"""Signatures of received webhooks, checked as a receiver checks them that follows Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from instances.outbound.webhook_secrets import PREFIX

#: Seconds by which a timestamp may differ from the time of arrival.
TOLERANCE = 5 * 60


class Verdict(Enum):
    """The verdict on a request's signature."""

    VALID = "valid"
    INVALID = "invalid"
    UNSIGNED = "unsigned"
    #: Signed, but no secret is known to check it with.
    UNCHECKED = "unchecked"


class Finding(NamedTuple):
    """A verdict, with a sentence for people that gives the reason; it holds no secret."""

    verdict: Verdict
    reason: str


def check(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], at: float, owner: str) -> Finding:
    """Check the signature of a request that arrived `at`, a Unix time in seconds.

    `headers` are by names in lower case. One of the `secrets` (`whsec_…`) must fit; `owner` says whose they are: "of
    endpoint 7".
    """
    signatures = headers.get("webhook-signature", "")
    if not signatures:
        return Finding(Verdict.UNSIGNED, "It has no header webhook-signature")
    if not secrets:
        return Finding(Verdict.UNCHECKED, "No secret is known to check its signature with")
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id:
        return _invalid("It has no header webhook-id, which is signed with the body")
    if not re.fullmatch("[0-9]{1,15}", timestamp, re.ASCII):
        return _invalid("Its header webhook-timestamp is not a number of seconds since 1970")
    found = [text.partition(",")[2] for text in signatures.split() if text.startswith("v1,")]
    if not found:
        return _invalid("Its header webhook-signature has no signature that begins with v1,")
    signed = b"%b.%b.%b" % (id.encode("latin-1", "replace"), timestamp.encode(), body)
    if not any(_fits(found, _key(secret), signed) for secret in secrets):
        return _invalid(_explain(found, secrets, signed))
    return _check_time(int(timestamp), at) or Finding(Verdict.VALID, f"It fits the secret {owner}")


def _check_time(timestamp: int, at: float) -> Finding | None:
    """Return a finding for a timestamp that is too far from the time of arrival."""
    age = round(at - timestamp)
    if abs(age) <= TOLERANCE:
        return None
    if timestamp > 100_000_000_000:
        return _invalid("Its signature fits, but webhook-timestamp is in milliseconds, and has to be in seconds")
    minutes, direction = abs(age) // 60, "old" if age > 0 else "in the future"
    return _invalid(f"Its signature fits, but webhook-timestamp is {minutes} minutes {direction}: 5 are accepted")


def _explain(found: Sequence[str], secrets: Sequence[str], signed: bytes) -> str:
    """Return the reason why no signature fits: a common mistake, if it is one."""
    texts = [text.encode() for secret in secrets for text in (secret, secret.removeprefix(PREFIX))]
    if any(_fits(found, text, signed) for text in texts):
        return "It is signed with the secret as a text: what stands behind whsec_ has to be decoded from base64 first"
    digests = {hmac.digest(_key(secret), signed, "sha256").hex() for secret in secrets}
    if not digests.isdisjoint(text.lower() for text in found):
        return "Its signature is hexadecimal, and has to be base64"
    return "Its signature fits no secret that is known here, or body, webhook-id or webhook-timestamp were changed"


def _fits(found: Sequence[str], key: bytes, signed: bytes) -> bool:
    wanted = base64.b64encode(hmac.digest(key, signed, "sha256"))
    return any(hmac.compare_digest(wanted, text.encode("latin-1", "replace")) for text in found)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))


def _invalid(reason: str) -> Finding:
    return Finding(Verdict.INVALID, reason)
