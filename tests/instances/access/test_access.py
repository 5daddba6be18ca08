"""Who may call what: a key opens its own instances, there what its scopes say, and nothing by any other way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from instances.crypto import Secret
from instances.models import ApiKey, Instance, Integration
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
TEXT = {"number": "5511988887777", "text": "hello"}

#: Every route that wants a key: method, path, body, scope, and the status of success. {i} is the instance asked for.
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
def mine(db) -> Instance:
    return Instance.objects.create(name="minha loja", integration=Integration.EVOLUTION, number="1001")


@pytest.fixture
def theirs(db) -> Instance:
    return Instance.objects.create(name="alheia", integration=Integration.EVOLUTION, number="1002")


@pytest.fixture
def call(client):
    """Calls a route of the table for an instance, with a key."""

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
    answer = call(route, mine.token.reveal())
    if ROUTES[route][3] == "global":
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    else:
        assert answer.status_code == ROUTES[route][4]


@pytest.mark.parametrize("route", ROUTES)
def test_another_instances_token_opens_nothing_here(call, mine, theirs, route):
    answer = call(route, theirs.token.reveal())
    if route == "fetchInstances":
        assert [row["name"] for row in answer.json()] == ["alheia"]
    else:
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert Instance.objects.filter(name="minha loja").exists()
    assert not mine.messages.exists()


@pytest.mark.parametrize("reach", ["its own", "all"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_may_do_what_its_scope_says(call, mine, theirs, route, scope, reach):
    key = issue(scope, all_instances=True) if reach == "all" else issue(scope, instances=(mine,))
    _, _, _, needed, success = ROUTES[route]

    answer = call(route, key)

    if needed == "global":
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    elif needed == scope:
        assert answer.status_code == success
    else:
        assert answer.status_code == 403
        assert answer.json()["response"]["message"] == [f"This key may not {needed}"]


@pytest.mark.parametrize("name", ["minha loja", "nobody", "a\x00b", "x" * 300])
@pytest.mark.parametrize("route", [route for route, row in ROUTES.items() if "{i}" in row[1]])
def test_a_key_of_others_learns_nothing_of_a_name(call, mine, theirs, route, name):
    key = issue(*SCOPES, instances=(theirs,))
    answer = call(route, key, name.replace("\x00", "%00"))
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


@pytest.mark.parametrize("route", [route for route, row in ROUTES.items() if "{i}" in row[1]])
def test_a_key_for_all_is_told_that_a_name_does_not_exist(call, mine, route):
    for key in (GLOBAL_KEY, issue(*SCOPES, all_instances=True)):
        answer = call(route, key, "nobody")
        assert answer.status_code == 404
        assert answer.json()["response"]["message"] == ['The "nobody" instance does not exist']


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_key_whose_time_is_over_opens_nothing(call, mine, route, state):
    past = timezone.now() - timedelta(seconds=1)
    key = issue(
        *SCOPES, all_instances=True, **{"expired": {"expires_at": past}, "revoked": {"revoked_at": past}}[state]
    )
    answer = call(route, key)
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


def test_a_key_opens_until_it_expires_or_is_revoked(call, mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"], expires_at=timezone.now() + timedelta(hours=1))
    key.instances.add(mine)
    assert call("connectionState", secret).status_code == 200
    key.revoke()
    assert call("connectionState", secret).status_code == 401


def test_an_instance_that_is_added_to_a_key_is_open_at_once(call, mine, theirs):
    key, secret = ApiKey.objects.issue("a test's", ["read"])
    key.instances.add(mine)
    assert call("connectionState", secret, "alheia").status_code == 401
    key.instances.add(theirs)
    assert call("connectionState", secret, "alheia").status_code == 200
    assert [row["name"] for row in call("fetchInstances", secret).json()] == ["alheia", "minha loja"]


def test_a_key_notes_when_it_was_used(call, mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"], all_instances=True)
    assert key.last_used_at is None
    call("fetchInstances", secret)
    key.refresh_from_db()
    assert key.last_used_at is not None


def test_what_is_stored_of_a_key_is_not_the_key(mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"])
    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert secret not in str(stored)
    columns = Instance.objects.filter(pk=mine.pk).values("token_digest").get()
    assert mine.token.reveal() not in str(columns)
    assert mine.token.reveal() not in repr(mine.token)


def test_only_who_may_manage_reads_the_token(call, mine):
    reader, manager = issue("read", instances=(mine,)), issue("read", "manage", instances=(mine,))
    tokens = [call("fetchInstances", key).json()[0]["token"] for key in (reader, manager, mine.token.reveal())]
    assert tokens == [None, mine.token.reveal(), mine.token.reveal()]


def test_the_graph_token_is_no_key_once_the_instances_own_is_another(call, db):
    whatsapp = Instance(
        name="minha loja", integration=Integration.CLOUD_API, number="1", provider_token=Secret("graph")
    )
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


# No key, a wrong one, or one in the wrong place


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
def test_whoever_has_no_key_is_refused_in_one_and_the_same_way(call, mine, route, key):
    answers = [call(route, key), call(route, key, "nobody")]
    for answer in answers:
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
        assert answer["Content-Type"] == "application/json"
    assert answers[0].content == answers[1].content
    assert Instance.objects.filter(name="minha loja").exists()
    assert not Instance.objects.filter(name="new").exists()


def test_a_taken_name_is_nobodys_business_without_a_key(client, mine):
    answer = request(client, "POST", "/instance/create", {"instanceName": mine.name, "integration": "EVOLUTION"})
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


def test_an_instance_with_an_empty_token_is_not_opened_by_an_empty_key(call, mine):
    mine.give_token("")
    mine.save()
    assert [call("connectionState", key).status_code for key in ("", " ")] == [401, 401]


@pytest.mark.parametrize("route", ROUTES)
def test_a_session_of_the_admin_opens_nothing(client, call, mine, route):
    client.force_login(get_user_model().objects.create_superuser("admin"))
    assert client.get("/admin/").status_code == 200
    answer = call(route, None)
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


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
def test_a_key_in_another_header_is_none(call, mine, route, headers):
    assert call(route, None, **headers).status_code == 401


@pytest.mark.parametrize("query", ["apikey={key}", "token={key}", "api_key={key}"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_in_the_query_is_none(client, mine, route, query):
    method, path, body, _, _ = ROUTES[route]
    answer = request(client, method, path.replace("{i}", mine.name) + "?" + query.format(key=GLOBAL_KEY), body)
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


def test_a_key_in_the_body_is_none(client, mine):
    answer = request(client, "POST", f"/message/sendText/{mine.name}", TEXT | {"apikey": GLOBAL_KEY})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["APIKEY", "apiKey", "ApiKey"])
def test_the_headers_name_may_be_written_in_any_case(client, mine, name):
    assert request(client, "GET", f"/websocket/find/{mine.name}", headers={name: GLOBAL_KEY}).status_code == 200


def test_a_wrong_key_is_not_made_good_by_a_right_one_elsewhere(client, mine):
    path = f"/websocket/find/{mine.name}?apikey={GLOBAL_KEY}"
    assert request(client, "GET", path, headers={"apikey": "wrong"}).status_code == 401


def test_a_body_is_not_even_read_without_a_key(client, mine):
    answer = client.post("/instance/create", data=b"{", content_type="application/json")
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


# The instance is the path's


@pytest.mark.parametrize("query", ["instanceName={name}", "name={name}", "instanceId={id}", "instanceName={name}&x=1"])
@pytest.mark.parametrize("route", ["websocket/set", "sendText", "delete", "connectionState", "websocket/find"])
def test_a_query_cannot_aim_a_key_at_another_instance(client, mine, theirs, route, query):
    method, path, body, _, success = ROUTES[route]
    path = path.replace("{i}", mine.name) + "?" + query.format(name=theirs.name, id=theirs.pk)

    answer = request(client, method, path, body, {"apikey": mine.token.reveal()})

    assert answer.status_code == success
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


def test_no_path_slips_past_the_key(client, mine, theirs):
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
def test_a_message_comes_in_with_a_key_that_may_publish(client, mine, scope, reach):
    key = issue(scope, all_instances=True) if reach == "all" else issue(scope, instances=(mine,))
    answer = publish(client, key)
    if scope == "publish":
        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
    else:
        assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    assert mine.messages.exists() == (scope == "publish")


def test_a_key_that_may_publish_elsewhere_learns_nothing_here(client, mine, theirs):
    key = issue("publish", instances=(theirs,))
    for number in ("1001", "nobody"):
        answer = publish(client, key, number)
        assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert not mine.messages.exists()
    assert publish(client, key, "1002").json() == {"status": "success"}


def test_a_session_of_the_admin_brings_nothing_in(client, mine):
    client.force_login(get_user_model().objects.create_superuser("admin"))
    assert publish(client, None).status_code == 401
    assert client.post("/webhook/meta", data=b"{}", content_type="application/json").status_code == 401
    assert not mine.messages.exists()


# Through the running server


def test_no_key_is_in_the_log_or_in_an_answer(server):
    instance = server.create()
    secret = "a-secret-that-somebody-typed"
    for path in (f"/websocket/find/{instance.name}?apikey={secret}", f"/nowhere?apiKey={secret}&x=1", "/nowhere"):
        for key in (secret, instance.token):
            answer = server.get(path, key=key)
            assert secret not in answer.body.decode()
            assert instance.token not in answer.body.decode()
    log = server.log.read_text()
    assert secret not in log
    assert instance.token not in log


def test_what_a_key_opens_over_http_is_the_same(server):
    """The matrix above runs in this process; here is one of each through the server itself."""
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
