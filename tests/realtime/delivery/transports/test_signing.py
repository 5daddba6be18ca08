"""The headers that sign a webhook, verified as receivers do."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from instances.outbound.webhook_headers import check_headers
from instances.outbound.webhook_secrets import check_secret, new_secret
from realtime.delivery.transports import signing

pytestmark = pytest.mark.any_database

BODY = '{"event":"messages.upsert","data":{"text":"olá 😀"}}'.encode()


def signed(*secrets, at=0, body=BODY):
    return signing.headers("epoch.7", int(time.time()) + at, body, secrets)


def test_a_signature_is_accepted_by_standard_webhooks_own_library():
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed(secret)) == json.loads(BODY)


def test_a_signed_webhook_has_three_headers():
    secret = new_secret()
    headers = signing.headers("epoch.7", 1700000000, BODY, [secret])
    assert list(headers) == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("epoch.7", "1700000000")


def test_during_a_rotation_the_new_and_the_old_secret_both_verify():
    new, old = new_secret(), new_secret()
    for secret in (new, old):
        Webhook(secret).verify(BODY, signed(new, old))


def test_no_more_than_two_secrets_sign():
    assert len(signed(*[new_secret() for _ in range(4)])["webhook-signature"].split(" ")) == 2


def test_another_secret_another_body_or_another_id_is_refused_by_the_receiver():
    secret = new_secret()
    headers = signed(secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY.replace(b"7", b"8").replace(b"o", b"a"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers | {"webhook-id": "epoch.8"})


@pytest.mark.parametrize("at", [-301, 302])
def test_an_old_signature_is_refused(at):
    secret = new_secret()
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(secret).verify(BODY, signed(secret, at=at))


def test_without_a_secret_there_is_no_signature():
    assert list(signed()) == ["webhook-id", "webhook-timestamp"]


def test_new_secrets_differ_and_are_valid():
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        check_secret(secret)
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + base64.b64encode(bytes(32)).decode() + "\n",
        "whsec_" + "é" * 40,
        "whsec_!" + base64.b64encode(bytes(30)).decode(),
        "whpk_" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_a_secret_that_cannot_sign_is_refused(secret):
    with pytest.raises(ValueError, match="signing secret") as refusal:
        check_secret(secret)
    assert not secret or secret.removeprefix("whsec_") == "" or secret not in str(refusal.value)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_made_elsewhere_are_accepted(size):
    check_secret("whsec_" + base64.b64encode(bytes(size)).decode())


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_has_evolutions_claims_and_is_signed_with_the_key():
    head, claims, signature = signing.token("chave ç", 1700000000).split(".")
    assert json.loads(decoded(head)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decoded(claims)) == {
        "iat": 1700000000,
        "exp": 1700000600,
        "app": "evolution",
        "action": "webhook",
    }
    expected = hmac.new("chave ç".encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    assert decoded(signature) == expected


# Stored headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"apikey": "B6D711FCDE4D4FD5936544120E713976"},
        {"authorization": "Bearer abc", "jwt_key": "s3cret"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"X-Loja": "São João", "x_y!#$%&'*+.^`|~": "a\tb"},
        {"X-Empty": ""},
        {"x" * 128: "y" * 8192},
    ],
)
def test_valid_headers_stay_as_they_are(headers):
    assert check_headers(headers) == headers


def test_numbers_and_booleans_become_strings():
    assert check_headers({"X-Number": 7, "X-Flag": True}) == {"X-Number": "7", "X-Flag": "true"}


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a:", "é", "a\r\nX: y", "a\x00", "(a)", "a/b", "x" * 129),
        *("Host", "content-length", "Transfer-Encoding", "Connection", "keep-alive", "TE", "Trailer", "Upgrade"),
        *("Expect", "Proxy-Connection", "proxy-authorization", "Content-Encoding"),
        *("webhook-id", "Webhook-Signature", "WEBHOOK-x"),
    ],
)
def test_an_invalid_or_reserved_name_is_refused(name):
    with pytest.raises(ValueError, match="header") as refusal:
        check_headers({name: "value-that-is-secret"})
    assert "secret" not in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "value",
    [
        *("a\nb", "a\r\nX: y", "\x00", "a\x1f", "\x7f", "a\x85b", "a\u2028b", " a", "a ", "\ta", "\ud800"),
        *("x" * 8193, "é" * 5000, None, [], {}, b"a"),
    ],
)
def test_a_value_that_would_be_changed_on_its_way_is_refused(value):
    with pytest.raises(ValueError, match="X-Key"):
        check_headers({"X-Key": value})


@pytest.mark.parametrize(
    "headers",
    [
        {f"X-{number}": "" for number in range(51)},
        {"X-Key": "a", "x-key": "b"},
        {f"X-{number}": "y" * 8000 for number in range(5)},
        {"jwt_key": ""},
    ],
)
def test_too_many_headers_and_duplicates_are_refused(headers):
    with pytest.raises(ValueError, match=r"header|jwt_key"):
        check_headers(headers)


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(max_size=50), st.integers(), st.none()), max_size=5))
def test_an_accepted_header_breaks_no_other(headers):
    try:
        checked = check_headers(headers)
    except ValueError:
        return
    for name, value in checked.items():
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set(' ,:;()<>@[]{}"/\\')
        assert not set(value) & set("\r\n\x00")
        value.encode()
