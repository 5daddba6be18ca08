"""Access of keys over REST: a key opens its own instances within its scopes, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from instances.crypto import Secret
from instances.models import ApiKey, Instance
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
TEXT = {"number": "5511988887777", "text": "hello"}

#: Every route that requires a key: method, path, body, scope, and the status of success. {i} is the instance.
ROUTES = {
    "verify-creds": ("POST", "/verify-creds", {}, "global", 200),
    "create": ("POST", "/instance/create", {"instanceName": "new", "integration": "EVOLUTION"}, "global", 201),
    "fetchInstances": ("GET", "/instance/fetchInstances", None, "read", 200),
    "connectionState": ("GET", "/instance/connectionState/{i}", None, "read", 200),
    "websocket/find": ("GET", "/websocket/find/{i}", None, "read", 200),
    "websocket/set": ("POST", "/websocket/set/{i}", {"enabled": True}, "manage", 201),
    "websocket/token": ("POST", "/websocket/token/{i}", {}, "listen", 201),
    "rotateToken": ("POST", "/instance/rotateToken/{i}", {}, "manage", 200),
    "delete": ("DELETE", "/instance/delete/{i}", None, "manage", 200),
    "sendText": ("POST", "/message/sendText/{i}", TEXT, "send", 201),
}
SCOPES = ["listen", "read", "send", "publish", "manage"]


@pytest.fixture
def call(client):
    """Call a route of the table for an instance, with a key."""

    def call(route: str, key: str | None, name: str = "minha loja", **headers: str) -> Any:
        method, path, body, _, _ = ROUTES[route]
        headers |= {} if key is None else {"apikey": key}
        return request(client, method, path.replace("{i}", name), body, headers)

    return call


def request(client: Any, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    data = {} if body is None else {"data": body, "content_type": "application/json"}
    return getattr(client, method.lower())(path, headers=headers or {}, **data)


def issue(*scopes: str, instances: tuple[Instance, ...] = (), **fields: Any) -> str:
    key, secret = ApiKey.objects.issue("a test's", list(scopes), **fields)
    key.instances.set(instances)
    return secret


# Keys of each kind


@pytest.mark.parametrize("route", ROUTES)
def test_the_global_key_opens_everything(call, mine, route):
    assert call(route, GLOBAL_KEY).status_code == ROUTES[route][4]


@pytest.mark.parametrize("route", ROUTES)
def test_an_instances_token_opens_all_that_is_its_own(call, mine, route):
    response = call(route, mine.token.reveal())
    if ROUTES[route][3] == "global":
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    else:
        assert response.status_code == ROUTES[route][4]


@pytest.mark.parametrize("route", ROUTES)
def test_another_instances_token_opens_nothing_here(call, mine, theirs, route):
    response = call(route, theirs.token.reveal())
    if route == "fetchInstances":
        assert [row["name"] for row in response.json()] == ["alheia"]
    else:
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    assert Instance.objects.filter(name="minha loja").exists()
    assert not mine.messages.exists()


@pytest.mark.parametrize("reach", ["its own", "all"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_may_do_what_its_scope_allows(call, mine, theirs, route, scope, reach):
    key = issue(scope, all_instances=True) if reach == "all" else issue(scope, instances=(mine,))
    _, _, _, needed, success = ROUTES[route]

    response = call(route, key)

    if needed == "global":
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    elif needed == scope:
        assert response.status_code == success
    else:
        assert response.status_code == 403
        assert response.json()["response"]["message"] == [f"This key may not {needed}"]


@pytest.mark.parametrize("name", ["minha loja", "unknown", "a\x00b", "x" * 300])
@pytest.mark.parametrize("route", [route for route, row in ROUTES.items() if "{i}" in row[1]])
def test_a_key_of_another_instance_learns_nothing_of_a_name(call, mine, theirs, route, name):
    key = issue(*SCOPES, instances=(theirs,))
    response = call(route, key, name.replace("\x00", "%00"))
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


@pytest.mark.parametrize("route", [route for route, row in ROUTES.items() if "{i}" in row[1]])
def test_a_key_for_all_instances_gets_404_for_an_unknown_name(call, mine, route):
    for key in (GLOBAL_KEY, issue(*SCOPES, all_instances=True)):
        response = call(route, key, "unknown")
        assert response.status_code == 404
        assert response.json()["response"]["message"] == ['The "unknown" instance does not exist']


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_an_expired_or_revoked_key_opens_nothing(call, mine, route, state):
    past = timezone.now() - timedelta(seconds=1)
    key = issue(
        *SCOPES, all_instances=True, **{"expired": {"expires_at": past}, "revoked": {"revoked_at": past}}[state]
    )
    response = call(route, key)
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


def test_a_key_opens_until_it_expires_or_is_revoked(call, mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"], expires_at=timezone.now() + timedelta(hours=1))
    key.instances.add(mine)
    assert call("connectionState", secret).status_code == 200
    key.revoke()
    assert call("connectionState", secret).status_code == 401


def test_an_instance_added_to_a_key_is_open_at_once(call, mine, theirs):
    key, secret = ApiKey.objects.issue("a test's", ["read"])
    key.instances.add(mine)
    assert call("connectionState", secret, "alheia").status_code == 401
    key.instances.add(theirs)
    assert call("connectionState", secret, "alheia").status_code == 200
    assert [row["name"] for row in call("fetchInstances", secret).json()] == ["alheia", "minha loja"]


def test_a_key_records_when_it_record_use(call, mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"], all_instances=True)
    assert key.last_used_at is None
    call("fetchInstances", secret)
    key.refresh_from_db()
    assert key.last_used_at is not None


def test_keys_and_tokens_are_not_stored_in_clear(mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"])
    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert secret not in str(stored)
    columns = Instance.objects.filter(pk=mine.pk).values("token_digest").get()
    assert mine.token.reveal() not in str(columns)
    assert mine.token.reveal() not in repr(mine.token)


def test_only_a_key_with_the_manage_scope_reads_the_token(call, mine):
    reader, manager = issue("read", instances=(mine,)), issue("read", "manage", instances=(mine,))
    tokens = [call("fetchInstances", key).json()[0]["token"] for key in (reader, manager, mine.token.reveal())]
    assert tokens == [None, mine.token.reveal(), mine.token.reveal()]


def test_the_graph_token_is_no_key_when_the_instance_has_its_own_token(call, db):
    whatsapp = Instance(name="minha loja", integration="WHATSAPP-BUSINESS", number="1", provider_token=Secret("graph"))
    whatsapp.give_token("own-token")
    whatsapp.save()
    assert call("connectionState", "own-token").status_code == 200
    assert call("connectionState", "graph").status_code == 401


def test_tokens_and_keys_survive_a_new_secret_key(call, mine, settings):
    secret = issue("read", instances=(mine,))
    former, settings.SECRET_KEY = settings.SECRET_KEY, "another-secret-key"
    assert call("connectionState", secret).status_code == 401
    settings.SECRET_KEY_FALLBACKS = [former]
    assert call("connectionState", secret).status_code == 200
    assert call("connectionState", mine.token.reveal()).status_code == 200


# No key, a wrong key, or a key in the wrong header


NO_KEYS = {
    "no key": None,
    "an empty key": "",
    "a wrong key": "wrong",
    "Evolution's published key": "429683C4C977415CAAFCCE10F7D57E11",
    "Evolution's default key": "BQYHJGJHJ",
    "the global key and more": GLOBAL_KEY + "x",
    "half of the global key": GLOBAL_KEY[:16],
    "the global key in capitals": GLOBAL_KEY.upper(),
    "two keys": f"{GLOBAL_KEY}, {GLOBAL_KEY}",
    "Bearer": f"Bearer {GLOBAL_KEY}",
    "signs": "é😀'\" OR 1=1 --",
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
@pytest.mark.parametrize("route", ROUTES)
def test_all_requests_without_a_valid_key_get_the_same_response(call, mine, route, key):
    responses = [call(route, key), call(route, key, "unknown")]
    for response in responses:
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
        assert response["Content-Type"] == "application/json"
    assert responses[0].content == responses[1].content
    assert Instance.objects.filter(name="minha loja").exists()
    assert not Instance.objects.filter(name="new").exists()


def test_a_taken_name_is_not_disclosed_without_a_key(client, mine):
    response = request(client, "POST", "/instance/create", {"instanceName": mine.name, "integration": "EVOLUTION"})
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


def test_an_instance_with_an_empty_token_is_not_opened_by_an_empty_key(call, mine):
    mine.give_token("")
    mine.save()
    assert [call("connectionState", key).status_code for key in ("", " ")] == [401, 401]


@pytest.mark.parametrize("route", ROUTES)
def test_a_session_of_the_admin_opens_nothing(client, call, mine, route):
    client.force_login(get_user_model().objects.create_superuser("admin"))
    assert client.get("/admin/").status_code == 200
    response = call(route, None)
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {GLOBAL_KEY}"},
        {"Authorization": f"apikey {GLOBAL_KEY}"},
        {"X-API-Key": GLOBAL_KEY},
        {"Cookie": f"apikey={GLOBAL_KEY}"},
        {"Api-Key": GLOBAL_KEY},
    ],
)
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_in_another_header_is_ignored(call, mine, route, headers):
    assert call(route, None, **headers).status_code == 401


@pytest.mark.parametrize("query", ["apikey={key}", "token={key}", "api_key={key}"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_in_the_query_is_ignored(client, mine, route, query):
    method, path, body, _, _ = ROUTES[route]
    response = request(client, method, path.replace("{i}", mine.name) + "?" + query.format(key=GLOBAL_KEY), body)
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


def test_a_key_in_the_body_is_ignored(client, mine):
    response = request(client, "POST", f"/message/sendText/{mine.name}", TEXT | {"apikey": GLOBAL_KEY})
    assert response.status_code == 401


@pytest.mark.parametrize("name", ["APIKEY", "apiKey", "ApiKey"])
def test_the_headers_name_may_be_written_in_any_case(client, mine, name):
    assert request(client, "GET", f"/websocket/find/{mine.name}", headers={name: GLOBAL_KEY}).status_code == 200


def test_a_wrong_key_is_not_replaced_by_a_right_one_in_the_query(client, mine):
    path = f"/websocket/find/{mine.name}?apikey={GLOBAL_KEY}"
    assert request(client, "GET", path, headers={"apikey": "wrong"}).status_code == 401


def test_a_body_is_not_parsed_without_a_key(client, mine):
    response = client.post("/instance/create", data=b"{", content_type="application/json")
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


# The instance is the path's


@pytest.mark.parametrize("query", ["instanceName={name}", "name={name}", "instanceId={id}", "instanceName={name}&x=1"])
@pytest.mark.parametrize("route", ["websocket/set", "sendText", "delete", "connectionState", "websocket/find"])
def test_a_query_cannot_aim_a_key_at_another_instance(client, mine, theirs, route, query):
    method, path, body, _, success = ROUTES[route]
    path = path.replace("{i}", mine.name) + "?" + query.format(name=theirs.name, id=theirs.pk)

    response = request(client, method, path, body, {"apikey": mine.token.reveal()})

    assert response.status_code == success
    assert Instance.objects.filter(pk=theirs.pk).exists()
    assert not theirs.subscriptions.exists()
    assert not theirs.messages.exists()
    assert Instance.objects.filter(pk=mine.pk).exists() == (route != "delete")


def test_a_body_cannot_aim_a_key_at_another_instance(client, mine, theirs):
    aimed = {"instanceName": theirs.name, "instance": theirs.name, "instanceId": str(theirs.pk), "name": theirs.name}
    key = {"apikey": mine.token.reveal()}
    assert request(client, "POST", f"/message/sendText/{mine.name}", TEXT | aimed, key).status_code == 201
    assert request(client, "POST", f"/websocket/set/{mine.name}", {"enabled": True} | aimed, key).status_code == 201
    assert (mine.messages.count(), theirs.messages.count()) == (1, 0)
    assert not theirs.subscriptions.exists()


def test_no_path_bypasses_the_key(client, mine, theirs):
    key = {"apikey": mine.token.reveal()}
    for path in (
        f"/websocket/find/{theirs.name}?x=/instance/create",
        f"/websocket/find/{theirs.name}?x=/instance/fetchInstances",
        f"/instance/connectionState/{mine.name}/../{theirs.name}",
        f"//instance/connectionState/{theirs.name}",
    ):
        assert request(client, "GET", path, headers=key).status_code in (401, 404)


# POST /webhook/evolution


def publish(client: Any, key: str | None, number: str = "1001") -> Any:
    body = {"numberId": number, "key": {"remoteJid": "55@s.whatsapp.net"}, "message": {"conversation": "x"}}
    return request(client, "POST", "/webhook/evolution", body, {} if key is None else {"apikey": key})


@pytest.mark.parametrize("reach", ["its own", "all"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_message_is_received_with_a_key_that_may_publish(client, mine, scope, reach):
    key = issue(scope, all_instances=True) if reach == "all" else issue(scope, instances=(mine,))
    response = publish(client, key)
    if scope == "publish":
        assert (response.status_code, response.json()) == (200, {"status": "success"})
    else:
        assert (response.status_code, response.json()["error"]) == (403, "Forbidden")
    assert mine.messages.exists() == (scope == "publish")


def test_a_key_that_may_publish_for_another_instance_learns_nothing(client, mine, theirs):
    key = issue("publish", instances=(theirs,))
    for number in ("1001", "unknown"):
        response = publish(client, key, number)
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    assert not mine.messages.exists()
    assert publish(client, key, "1002").json() == {"status": "success"}


def test_nothing_is_received_with_a_session_of_the_admin(client, mine):
    client.force_login(get_user_model().objects.create_superuser("admin"))
    assert publish(client, None).status_code == 401
    assert client.post("/webhook/meta", data=b"{}", content_type="application/json").status_code == 401
    assert not mine.messages.exists()


# Through the running server


def test_no_key_is_in_the_log_or_in_a_response(server):
    instance = server.create()
    secret = "a-secret-typed-into-a-url"
    for path in (f"/websocket/find/{instance.name}?apikey={secret}", f"/nowhere?apiKey={secret}&x=1", "/nowhere"):
        for key in (secret, instance.token):
            response = server.get(path, key=key)
            assert secret not in response.body.decode()
            assert instance.token not in response.body.decode()
    log = server.log.read_text()
    assert secret not in log
    assert instance.token not in log


def test_a_running_server_gives_a_key_the_same_access(server):
    """The matrix above runs in this process; this is one case of each through a server."""
    mine, theirs = server.create("minha loja de verdade"), server.create()
    path = server.path("/instance/connectionState", mine)
    keys = server.shell(
        "from instances.models import ApiKey, Instance\n"
        f"mine = Instance.objects.get(name={mine.name!r})\n"
        "for scope in ('read', 'send'):\n"
        "    key, secret = ApiKey.objects.issue('a test', [scope])\n"
        "    key.instances.add(mine)\n"
        "    print(secret)\n"
    ).split()
    statuses = [server.get(path, key=key).status for key in (GLOBAL_KEY, mine.token, theirs.token, *keys, None, "")]
    assert statuses == [200, 200, 401, 200, 403, 401, 401]
