"""Short-lived tokens that a key mints, and that pages join with."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core import signing
from django.utils import timezone

from instances.access.access import Access, still_authorized
from instances.access.minted_tokens import SALT, MintedToken
from instances.models import ApiKey, Instance
from tests.environment import GLOBAL_KEY
from tests.server import Number

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
SCOPES = ["listen", "read", "send", "publish", "manage"]


# Through a running server


def test_a_running_server_mints_a_token(server):
    instance = server.create()
    before = timezone.now()

    response = server.post(server.path("/websocket/token", instance), key=instance.token)

    minted = response.json
    assert (response.status, list(minted)) == (201, ["token", "expiresAt", "scopes"])
    assert minted["scopes"] == ["listen"]
    lifetime = datetime.fromisoformat(minted["expiresAt"]) - before
    assert timedelta(seconds=299) < lifetime < timedelta(seconds=310)
    for path in ("/websocket/find", "/instance/connectionState"):
        assert server.get(server.path(path, instance), key=minted["token"]).json == UNAUTHORIZED
    assert server.post(server.path("/websocket/token", instance), key=minted["token"]).json == UNAUTHORIZED
    assert server.receive(Number(instance.name, minted["token"], instance.id, instance.number)).status == 401
    assert minted["token"] not in server.log.read_text()


def test_a_minted_token_ends_in_every_process_with_its_minter(server, start_server):
    """Minted by one server, read by a shell, rotated by another server."""
    instance, other = server.create(), start_server()
    token = server.post(server.path("/websocket/token", instance), key=instance.token).json["token"]
    code = f"from instances.access.access import Access\nprint(Access.from_minted_token({token!r}) is not None)"
    assert server.shell(code).strip() == "True"
    other.post(other.path("/instance/rotateToken", instance), key=instance.token)
    assert server.shell(code).strip() == "False"


# Minting


@pytest.fixture
def mint(client):
    def mint(key: str, body: Any = None, name: str = "minha loja") -> Any:
        return client.post(f"/websocket/token/{name}", body or {}, "application/json", headers={"apikey": key})

    return mint


def issue(*scopes: str, instances: tuple[Instance, ...] = (), **fields: Any) -> tuple[ApiKey, str]:
    key, secret = ApiKey.objects.issue("a test's", list(scopes), **fields)
    key.instances.set(instances)
    return key, secret


@pytest.fixture
def minter(request, mine) -> tuple[str, Any]:
    """A key of each kind, and a function that ends it."""

    def rotated() -> None:
        mine.rotate_token()

    if request.param == "global key":
        return GLOBAL_KEY, None
    if request.param == "own token":
        return mine.token.reveal(), rotated
    everywhere = request.param == "key for all"
    key, secret = issue("listen", "send", "read", instances=() if everywhere else (mine,), all_instances=everywhere)
    return secret, key.revoke


MINTERS = pytest.mark.parametrize("minter", ["global key", "own token", "key", "key for all"], indirect=True)


@MINTERS
def test_a_key_that_may_listen_may_mint(mint, minter, mine, theirs):
    secret, _ = minter
    response = mint(secret)
    assert (response.status_code, response.json()["scopes"]) == (201, ["listen"])

    access = Access.from_minted_token(response.json()["token"])

    assert access.scopes == {"listen"}
    assert (access.opens(mine), access.opens(theirs)) == (True, False)
    assert not access.is_for_all
    assert not access.is_global
    assert access.refreshed() == access


@MINTERS
def test_a_minted_token_is_no_key_and_a_key_is_no_minted_token(mint, minter, mine):
    secret, _ = minter
    token = mint(secret).json()["token"]
    assert Access.from_key(token) is None
    assert Access.from_minted_token(secret) is None
    assert mint(token).json() == UNAUTHORIZED


@MINTERS
def test_a_minted_access_mints_nothing(mint, minter, mine):
    access = Access.from_minted_token(mint(minter[0]).json()["token"])
    with pytest.raises(ValueError, match="Only a key mints tokens"):
        access.mint(mine, ["listen"], timedelta(minutes=1))


@pytest.mark.parametrize("wanted", ["listen", "read", "send"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_mints_only_scopes_that_it_has(mint, mine, scope, wanted):
    _, secret = issue("listen", scope, instances=(mine,))
    response = mint(secret, {"scopes": [wanted]})
    if wanted in ("listen", scope):
        assert (response.status_code, response.json()["scopes"]) == (201, [wanted])
        assert Access.from_minted_token(response.json()["token"]).scopes == {wanted}
    else:
        assert response.status_code == 403
        assert response.json()["response"]["message"] == [f"This key may not {wanted}"]


@pytest.mark.parametrize("scope", [scope for scope in SCOPES if scope != "listen"])
def test_a_key_that_may_not_listen_mints_nothing(mint, mine, scope):
    _, secret = issue(scope, instances=(mine,))
    assert mint(secret).status_code == 403
    assert mint(secret, {"scopes": [scope]}).status_code in (400, 403)


def test_scopes_are_returned_once_and_in_order(mint, mine):
    response = mint(GLOBAL_KEY, {"scopes": ["send", "listen", "send"]})
    assert response.json()["scopes"] == ["listen", "send"]


def test_a_key_mints_only_for_its_own_instances(mint, mine, theirs):
    for secret in (mine.token.reveal(), issue("listen", instances=(mine,))[1]):
        for name in ("alheia", "unknown"):
            response = mint(secret, name=name)
            assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    assert mint(GLOBAL_KEY, name="unknown").status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"expiresIn": 0}, "expiresIn must be greater than or equal to 1"),
        ({"expiresIn": -5}, "expiresIn must be greater than or equal to 1"),
        ({"expiresIn": 86401}, "expiresIn must be less than or equal to 86400"),
        ({"expiresIn": 10**30}, "expiresIn is not of a type(s) integer"),
        ({"expiresIn": "60"}, "expiresIn is not of a type(s) integer"),
        ({"expiresIn": 1.5}, "expiresIn is not of a type(s) integer"),
        ({"expiresIn": True}, "expiresIn is not of a type(s) integer"),
        ({"expiresIn": None}, "expiresIn is not of a type(s) integer"),
        ({"scopes": []}, "scopes does not meet minimum length of 1"),
        ({"scopes": "listen"}, "scopes is not of a type(s) array"),
        ({"scopes": None}, "scopes is not of a type(s) array"),
        ({"scopes": ["manage"]}, "scopes[0] is not one of enum values: listen,read,send"),
        ({"scopes": ["listen", "publish"]}, "scopes[1] is not one of enum values: listen,read,send"),
        ({"scopes": [["listen"]]}, "scopes[0] is not one of enum values: listen,read,send"),
        ({"scopes": [None]}, "scopes[0] is not one of enum values: listen,read,send"),
    ],
)
def test_an_invalid_request_for_a_token_gets_400(mint, mine, body, message):
    response = mint(GLOBAL_KEY, body)
    assert (response.status_code, response.json()["response"]["message"]) == (400, [[message]])


@pytest.mark.parametrize("seconds", [1, 300, 86400])
def test_a_token_and_its_response_hold_the_expiry(mint, mine, seconds):
    before = timezone.now()
    minted = mint(GLOBAL_KEY, {"expiresIn": seconds}).json()
    expires_at = MintedToken.read(minted["token"]).expires_at
    assert timedelta(0) <= expires_at - before - timedelta(seconds=seconds) < timedelta(seconds=1)
    assert abs(datetime.fromisoformat(minted["expiresAt"]) - expires_at) < timedelta(milliseconds=2)


# The end of a minted token


def may_listen(access: Access, instance_id: UUID | None, name: str | None) -> bool:
    return bool(still_authorized([(access, instance_id, name)]))


def minted_by(secret: str, instance: Instance, scopes: tuple[str, ...] = ("listen",), lifetime: float = 60) -> str:
    return Access.from_key(secret).mint(instance, scopes, timedelta(seconds=lifetime)).text


@MINTERS
def test_the_expiry_bounds_joining_and_not_joined_sockets(mine, minter):
    secret, _ = minter
    joined = Access.from_minted_token(minted_by(secret, mine))
    assert Access.from_minted_token(minted_by(secret, mine, lifetime=0)) is None
    assert Access.from_minted_token(minted_by(secret, mine, lifetime=-1)) is None
    assert joined.expires_at is None


def test_a_minted_token_expires_with_the_key_that_minted_it(mine):
    key, secret = issue("listen", instances=(mine,), expires_at=timezone.now() + timedelta(hours=1))
    token = minted_by(secret, mine)
    assert Access.from_minted_token(token).expires_at == Access.from_key(secret).expires_at == key.expires_at

    ApiKey.objects.update(expires_at=timezone.now())

    assert Access.from_minted_token(token) is None


def end(how: str, key: ApiKey, mine: Instance, theirs: Instance) -> None:
    if how == "revoked":
        key.revoke()
    elif how == "deleted":
        key.delete()
    elif how == "expired":
        key.expires_at = timezone.now()
        key.save()
    elif how == "for another instance":
        key.instances.set([theirs])
    elif how == "without the scope":
        key.scopes = ["send"]
        key.save()
    else:
        mine.delete()


ENDS = ["revoked", "deleted", "expired", "for another instance", "without the scope", "without its instance"]


@pytest.mark.parametrize("how", ENDS)
def test_a_minted_token_ends_with_the_key_that_minted_it(mine, theirs, how):
    key, secret = issue("listen", "send", instances=(mine,))
    token, instance_id = minted_by(secret, mine), mine.pk
    joined = Access.from_minted_token(token)
    assert may_listen(joined, instance_id, mine.name)

    end(how, key, mine, theirs)

    assert Access.from_minted_token(token) is None
    assert not may_listen(joined, instance_id, "minha loja")


def test_a_minted_token_ends_when_its_minter_loses_one_of_its_scopes(mine):
    key, secret = issue("listen", "send", instances=(mine,))
    both, listen = minted_by(secret, mine, ("listen", "send")), minted_by(secret, mine)
    access = Access.from_minted_token(both)
    key.scopes = ["listen"]
    key.save()
    assert Access.from_minted_token(both) is None
    assert access.refreshed() is None
    assert Access.from_minted_token(listen).scopes == {"listen"}


@pytest.mark.parametrize("how", ["rotated", "deleted"])
def test_a_minted_token_ends_with_the_instance_token_that_minted_it(mine, how):
    token, instance_id = minted_by(mine.token.reveal(), mine), mine.pk
    joined = Access.from_minted_token(token)
    mine.rotate_token() if how == "rotated" else mine.delete()
    assert Access.from_minted_token(token) is None
    assert not may_listen(joined, instance_id, "minha loja")


def test_rotation_keeps_tokens_that_another_key_minted(mine):
    token = minted_by(GLOBAL_KEY, mine)
    joined = Access.from_minted_token(token)
    mine.rotate_token()
    assert Access.from_minted_token(token).opens(mine)
    assert may_listen(joined, mine.pk, mine.name)


def test_a_token_that_two_instances_share_mints_for_one_instance(mine, theirs):
    theirs.rotate_token(mine.token.reveal())
    access = Access.from_minted_token(minted_by(mine.token.reveal(), mine))
    assert (access.opens(mine), access.opens(theirs)) == (True, False)
    assert access.refreshed().opens(theirs) is False


def test_a_minted_token_ends_with_the_global_key_that_minted_it(mine, settings):
    token = minted_by(GLOBAL_KEY, mine)
    settings.AUTHENTICATION_API_KEY = "another-global-key"
    assert Access.from_minted_token(token) is None
    settings.AUTHENTICATION_API_KEY = GLOBAL_KEY
    assert Access.from_minted_token(token) is not None


@MINTERS
def test_minted_tokens_survive_a_new_secret_key(mine, minter, settings):
    token = minted_by(minter[0], mine)
    former, settings.SECRET_KEY = settings.SECRET_KEY, "another-secret-key"
    assert Access.from_minted_token(token) is None
    settings.SECRET_KEY_FALLBACKS = [former]
    assert Access.from_minted_token(token).opens(mine)


def test_a_renamed_instance_keeps_its_tokens_but_not_its_sockets(mine):
    token = minted_by(GLOBAL_KEY, mine)
    joined = Access.from_minted_token(token)
    mine.name = "loja nova"
    mine.save()
    assert Access.from_minted_token(token).opens(mine)
    assert not may_listen(joined, mine.pk, "minha loja")


# Forgeries


@pytest.mark.parametrize(
    "forged",
    ["", ".", "::", "a:b:c", "é", "\ud800", "\x00", "x" * 100_000, "eyJhIjoxfQ:1tKwXz:AAAA", ".eJw:1tKwXz:AAAA"],
    ids=ascii,
)
def test_a_malformed_token_opens_nothing(db, forged):
    assert Access.from_minted_token(forged) is None


def test_no_character_of_a_token_can_be_changed(mine):
    token = minted_by(GLOBAL_KEY, mine)
    for index, character in enumerate(token):
        changed = token[:index] + ("A" if character != "A" else "Q") + token[index + 1 :]
        assert Access.from_minted_token(changed) is None, index
        assert Access.from_minted_token(token[:index]) is None


def test_a_token_cannot_be_changed_to_another_instance(mine, theirs):
    encoded, *rest = minted_by(mine.token.reveal(), mine).split(":")
    payload = json.loads(base64.urlsafe_b64decode(encoded + "=="))
    payload |= {"instance": theirs.pk.hex}
    other = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    assert Access.from_minted_token(":".join((other, *rest))) is None


@pytest.mark.parametrize("salt", ["django.core.signing", "django.contrib.sessions.backends.signed_cookies", SALT + "x"])
def test_a_signature_for_another_purpose_is_no_token(mine, salt):
    payload = signing.loads(minted_by(GLOBAL_KEY, mine), salt=SALT)
    assert Access.from_minted_token(signing.dumps(payload, salt=salt)) is None


def test_the_payload_of_a_token_holds_no_secret(mine):
    _, secret = issue("listen", instances=(mine,))
    for key in (GLOBAL_KEY, mine.token.reveal(), secret):
        payload = str(signing.loads(minted_by(key, mine), salt=SALT))
        assert key not in payload
        assert mine.token_digest not in payload
