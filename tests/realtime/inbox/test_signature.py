"""The check of a signature, against the reference library of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook as Signer

from instances.outbound.webhook_secrets import new_secret
from realtime.inbox.signature import Verdict, check

pytestmark = pytest.mark.any_database

BODY, NOW = b'{"hello": "world"}', 1_795_932_065
SECRET, OTHER = new_secret(), new_secret()


def signed(secret: str = SECRET, at: int = NOW, **changes: str) -> dict[str, str]:
    signature = Signer(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


def verdict(headers: dict[str, str], body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> tuple[Verdict, str]:
    return check(headers, body, secrets, NOW, "of this inbox")


def test_what_the_reference_library_signs_is_valid():
    assert verdict(signed()) == (Verdict.VALID, "It fits the secret of this inbox")
    assert verdict(signed(), secrets=(OTHER, SECRET))[0] is Verdict.VALID
    two = f"{signed(OTHER)['webhook-signature']} {signed()['webhook-signature']}"
    assert verdict(signed(webhook_signature=two))[0] is Verdict.VALID


def test_without_a_signature_or_a_secret_there_is_nothing_to_check():
    assert verdict({"content-type": "text/plain"})[0] is Verdict.UNSIGNED
    assert verdict(signed(), secrets=()) == (Verdict.UNCHECKED, "No secret is known to check its signature with")


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        (signed(OTHER), BODY, "fits no secret"),
        (signed(), BODY + b"\n", "fits no secret"),
        (signed(webhook_id="msg_2"), BODY, "webhook-id or webhook-timestamp were changed"),
        (signed(webhook_id=""), BODY, "no header webhook-id"),
        (signed(webhook_timestamp="yesterday"), BODY, "webhook-timestamp is not a number"),
        (signed(webhook_timestamp=""), BODY, "webhook-timestamp is not a number"),
        (signed(webhook_signature="K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="), BODY, "begins with v1,"),
        (signed(webhook_signature="v1,é"), BODY, "fits no secret"),
        (signed(at=NOW - 720), BODY, "12 minutes old"),
        (signed(at=NOW + 720), BODY, "12 minutes in the future"),
    ],
)
def test_the_reason_of_a_wrong_one_is_told(headers, body, reason):
    found, text = verdict(headers, body)
    assert found is Verdict.INVALID
    assert reason in text
    assert SECRET[6:] not in text


def test_common_mistakes_are_named():
    content = b"msg_1.%d.%b" % (NOW, BODY)
    as_text = base64.b64encode(hmac.digest(SECRET.encode(), content, hashlib.sha256)).decode()
    assert "decoded from base64" in verdict(signed(webhook_signature=f"v1,{as_text}"))[1]
    hexadecimal = hmac.digest(base64.b64decode(SECRET[6:]), content, hashlib.sha256).hex()
    assert "hexadecimal" in verdict(signed(webhook_signature=f"v1,{hexadecimal}"))[1]
    milliseconds = b"msg_1.%d000.%b" % (NOW, BODY)
    fits = base64.b64encode(hmac.digest(base64.b64decode(SECRET[6:]), milliseconds, hashlib.sha256)).decode()
    headers = signed(webhook_timestamp=f"{NOW}000", webhook_signature=f"v1,{fits}")
    assert "in milliseconds" in verdict(headers)[1]
