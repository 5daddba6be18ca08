"""POST /instance/create: bodies, names, numbers and concurrent requests."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.environment import VERIFY_TOKEN
from tests.instances.api.rows import SETTINGS, a_number, exists, row, unique


def test_a_channel_is_created_open_with_a_token_of_its_own(server):
    name = unique()
    response = server.post("/instance/create", {"instanceName": name, "integration": "EVOLUTION", "number": a_number()})

    created = response.json
    assert response.status == 201
    assert created == {
        "instance": {
            "instanceName": name,
            "instanceId": str(uuid.UUID(created["instance"]["instanceId"])),
            "integration": "EVOLUTION",
            "webhookWaBusiness": None,
            "accessTokenWaBusiness": "",
            "status": "open",
        },
        "hash": str(uuid.UUID(created["hash"])).upper(),
        "webhook": {},
        "websocket": {},
        "rabbitmq": {},
        "nats": {},
        "sqs": {},
        "settings": SETTINGS,
    }


def test_creating_a_cloud_api_instance_returns_the_settings_of_metas_webhook(start_server):
    server = start_server(SERVER_URL="https://evo.example")
    body = {"instanceName": unique(), "integration": "WHATSAPP-BUSINESS", "number": a_number(), "token": unique("EAAB")}

    created = server.post("/instance/create", body | {"businessId": "1234"}, headers={"Host": "evo.example"}).json

    assert created["instance"]["status"] == "open"
    assert created["instance"]["webhookWaBusiness"] == "https://evo.example/webhook/meta"
    assert created["instance"]["accessTokenWaBusiness"] == VERIFY_TOKEN
    assert created["hash"] == body["token"]


def test_a_whatsapp_web_instance_is_created_closed_even_with_another_status(server):
    body = {"instanceName": unique(), "integration": "WHATSAPP-BAILEYS", "qrcode": True, "status": "open"}
    created = server.post("/instance/create", body).json
    assert created["instance"]["status"] == "close"
    assert "qrcode" not in created


def test_all_members_of_a_creation_are_stored(server):
    settings = SETTINGS | {"rejectCall": True, "msgCall": "Não atendemos", "wavoipToken": "w"}
    body = {
        "instanceName": unique(),
        "integration": "EVOLUTION",
        "number": a_number(),
        "token": unique("Own-Token"),
        "businessId": "77",
        "ownerJid": "5511@s.whatsapp.net",
        "profileName": "Loja São João",
        "profilePicUrl": "https://p.example/a.jpg",
        "status": "connecting",
        "websocket": {"enabled": True, "events": ["MESSAGES_UPSERT"]},
    }
    created = server.post("/instance/create", body | settings).json

    found = row(server, body["instanceName"])

    assert created["hash"] == found["token"] == body["token"]
    assert created["instance"]["status"] == found["connectionStatus"] == "connecting"
    assert created["websocket"] == {"enabled": True}
    assert created["settings"] == settings
    assert {name: found["Setting"][name] for name in settings} == settings
    for name in ("number", "businessId", "ownerJid", "profileName", "profilePicUrl"):
        assert found[name] == body[name]
    assert found["Websocket"]["events"] == ["MESSAGES_UPSERT"]


@pytest.mark.parametrize(
    ("websocket", "enabled", "events"),
    [
        ({}, True, 32),
        ({"events": []}, True, 32),
        ({"events": ["CALL"]}, True, 1),
        ({"enabled": True}, True, 32),
        ({"enabled": False}, False, 0),
        ({"enabled": False, "events": ["CALL"]}, False, 0),
    ],
)
def test_websocket_settings_at_creation_are_enabled_by_default(server, websocket, enabled, events):
    name = unique()
    response = server.post(
        "/instance/create", {"instanceName": name, "integration": "EVOLUTION", "websocket": websocket}
    )
    assert (response.status, response.json["websocket"]) == (201, {"enabled": enabled})
    found = row(server, name)["Websocket"]
    assert (found["enabled"], len(found["events"])) == (enabled, events)


def test_settings_are_taken_by_their_names_of_v1(server):
    name = unique()
    old = {"reject_call": True, "msg_call": "No calls", "groups_ignore": True, "always_online": True}
    body = {"instanceName": name, "integration": "EVOLUTION", "alwaysOnline": False}
    created = server.post("/instance/create", body | old)
    assert created.status == 201
    assert created.headers["X-Ignored-Members"] is None
    expected = SETTINGS | {"rejectCall": True, "msgCall": "No calls", "groupsIgnore": True}
    assert created.json["settings"] == expected
    assert {each: row(server, name)["Setting"][each] for each in SETTINGS} == expected

    wrong = server.post("/instance/create", {"instanceName": unique(), "integration": "EVOLUTION", "read_status": 1})
    assert wrong.json["response"]["message"] == [["readStatus is not of a type(s) boolean"]]


def test_transports_that_are_off_and_chatwoot_do_not_keep_an_instance_from_being_created(server):
    events = {"enabled": True, "events": ["CALL"]}
    off = {name: events for name in ("nats", "sqs", "kafka", "rabbitmq")}
    off |= {"pusher": events | {"appId": "1", "key": "k", "secret": "s", "cluster": "c", "useTLS": True}}
    chatwoot = {"chatwootAccountId": "1", "chatwootToken": "t", "chatwootUrl": "https://c", "chatwootSignMsg": True}
    name = unique()
    body = {"instanceName": name, "integration": "EVOLUTION", "qrcode": True, "token": "t" * 500}
    created = server.post("/instance/create", body | off | chatwoot)
    assert created.status == 201
    assert (created.json["nats"], created.json["sqs"], created.json["rabbitmq"]) == ({}, {}, {})
    ignored = created.headers["X-Ignored-Members"].split(", ")
    assert {*ignored} == {"nats", "sqs", "kafka", "pusher", *chatwoot}
    found = row(server, name)
    assert [found[each] for each in ("Nats", "Sqs", "Rabbitmq", "Chatwoot")] == [None] * 4


def test_unknown_members_are_ignored(server):
    extra = {"proxyHost": "x", "chatwootUrl": None, "rabbitmq": {"enabled": True, "events": []}, "webhookUrl": 5}
    body = {"instanceName": unique(), "integration": "EVOLUTION"}
    assert server.post("/instance/create", body | extra).status == 201


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"instanceName": ...}, ['instance requires property "instanceName"']),
        ({"instanceName": None}, ["instanceName is not of a type(s) string"]),
        ({"instanceName": 5}, ["instanceName is not of a type(s) string"]),
        ({"instanceName": ""}, ['The "instanceName" cannot be empty']),
        ({"integration": ...}, ['instance requires property "integration"']),
        ({"token": None}, ["token is not of a type(s) string"]),
        ({"token": ["x"]}, ["token is not of a type(s) string"]),
        ({"token": "x" * 4097}, ["token does not meet maximum length of 4096"]),
        ({"number": 5511}, ["number is not of a type(s) string"]),
        ({"number": "abc"}, ['number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"']),
        ({"number": "1"}, ['number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"']),
        ({"number": "55\n"}, ['number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"']),
        ({"number": "\u0665" * 3}, ['number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"']),
        ({"number": "5" * 256}, ["number does not meet maximum length of 255"]),
        ({"businessId": "5" * 256}, ["businessId does not meet maximum length of 255"]),
        ({"profileName": "x\x00"}, ["profileName must not contain NUL characters"]),
        ({"status": "up"}, ["status is not one of enum values: open,connecting,close"]),
        ({"qrcode": "true"}, ["qrcode is not of a type(s) boolean"]),
        ({"rejectCall": 1}, ["rejectCall is not of a type(s) boolean"]),
        ({"alwaysOnline": None}, ["alwaysOnline is not of a type(s) boolean"]),
        ({"msgCall": "x" * 101}, ["msgCall does not meet maximum length of 100"]),
        ({"websocket": "yes"}, ["websocket is not of a type(s) object"]),
        ({"websocket": None}, ["websocket is not of a type(s) object"]),
        ({"websocket": {"enabled": "yes"}}, ["websocket.enabled is not of a type(s) boolean"]),
        ({"websocket": {"events": "CALL"}}, ["websocket.events is not of a type(s) array"]),
    ],
)
def test_an_error_in_a_body_names_the_member(server, changed, message):
    body = {"instanceName": unique(), "integration": "EVOLUTION"} | changed
    body = {name: value for name, value in body.items() if value is not ...}

    response = server.post("/instance/create", body)

    assert response.status == 400
    assert response.json == {"status": 400, "error": "Bad Request", "response": {"message": [message]}}
    if isinstance(body.get("instanceName"), str) and body["instanceName"]:
        assert not exists(server, body["instanceName"])


@pytest.mark.parametrize("integration", ["evolution", "WHATSAPP", "", None, 5, [], {}, True])
def test_an_unknown_integration_is_refused(server, integration):
    response = server.post("/instance/create", {"instanceName": unique(), "integration": integration})
    assert response.status == 400
    [[message]] = response.json["response"]["message"]
    assert message == "integration is not one of enum values: WHATSAPP-BAILEYS,WHATSAPP-BUSINESS,EVOLUTION"


def test_all_errors_of_a_body_are_returned_at_once(server):
    response = server.post("/instance/create", {"token": 1, "websocket": {"enabled": 1, "events": ["NOPE"]}})
    [messages] = response.json["response"]["message"]
    assert len(messages) == 5
    assert messages[-1].startswith("websocket.events[0] is not one of enum values: APPLICATION_STARTUP,QRCODE_UPDATED,")


@pytest.mark.parametrize(
    ("missing", "message"), [({"token": "t"}, "number is required"), ({"number": "551199"}, "token is required")]
)
def test_a_cloud_api_instance_requires_a_number_and_a_token(server, missing, message):
    name = unique()
    response = server.post("/instance/create", {"instanceName": name, "integration": "WHATSAPP-BUSINESS"} | missing)
    assert (response.status, response.json["response"]["message"]) == (400, [message])
    assert not exists(server, name)


@pytest.mark.parametrize("token", ["a\nb", "a\x7f", " a", "a ", "\t"])
def test_a_token_that_is_not_a_valid_header_value_is_refused(server, token):
    response = server.post("/instance/create", {"instanceName": unique(), "integration": "EVOLUTION", "token": token})
    assert response.status == 400
    assert response.json["response"]["message"][0][0].startswith("token must not")


def test_a_name_in_use_is_refused_and_its_instance_unchanged(server):
    first = server.create()
    again = {"instanceName": first.name, "integration": "EVOLUTION", "number": a_number(), "token": unique("other")}

    response = server.post("/instance/create", again)

    assert (response.status, response.json["error"]) == (403, "Forbidden")
    assert response.json["response"]["message"] == [f'This name "{first.name}" is already in use.']
    assert row(server, first.name)["token"] == first.token
    assert row(server, first.name)["number"] == first.number


@pytest.mark.parametrize("integration", ["EVOLUTION", "WHATSAPP-BUSINESS"])
def test_two_instances_of_an_integration_cannot_have_the_same_number(server, integration):
    first = server.create(integration=integration)
    second = {"instanceName": unique(), "integration": integration, "number": first.number, "token": unique("t")}

    response = server.post("/instance/create", second | {"websocket": {"enabled": True, "events": []}})

    assert (response.status, response.json["error"]) == (403, "Forbidden")
    assert response.json["response"]["message"] == [f'This number "{first.number}" is already in use.']
    assert not exists(server, second["instanceName"])


def test_instances_of_different_integrations_may_have_the_same_number(server):
    first = server.create(integration="WHATSAPP-BUSINESS")
    server.create(integration="EVOLUTION", number=first.number)
    server.create(integration="WHATSAPP-BAILEYS", number=first.number)
    server.create(integration="WHATSAPP-BAILEYS", number=first.number)


def test_concurrent_creations_of_a_name_leave_one_complete_instance(server):
    name = unique()

    def create(attempt: int) -> Any:
        body = {"instanceName": name, "integration": "EVOLUTION", "number": a_number(), "token": f"{name}-{attempt}"}
        return server.post("/instance/create", body | {"websocket": {"enabled": True, "events": ["CALL"]}})

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(create, range(8)))

    assert sorted(response.status for response in responses) == [201] + [403] * 7
    winner = next(response.json for response in responses if response.status == 201)
    found = row(server, name)
    assert (found["id"], found["token"]) == (winner["instance"]["instanceId"], winner["hash"])
    assert found["Websocket"]["events"] == ["CALL"]


def test_concurrent_creations_with_the_same_number_leave_one_instance(server):
    number = a_number()
    names = [unique() for _ in range(8)]

    def create(name: str) -> int:
        return server.post(
            "/instance/create", {"instanceName": name, "integration": "EVOLUTION", "number": number}
        ).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, names)) == [201] + [403] * 7
    assert sum(exists(server, name) for name in names) == 1


# Names


@pytest.mark.parametrize(
    "name",
    ["Loja São João", "100%", "%41", "日本 支店", "x&y=z", "a:b;c", 'it\'s "so"', "a+b", "😀 loja", "~", "x" * 255],
)
def test_a_name_with_spaces_accents_and_signs_works_as_path_and_namespace(server, node, name):
    name = name if len(name) == 255 else f"{name} {unique()}"
    instance = server.create(name)
    client = node.connect(f"{server.url}/{name}", auth={"apikey": instance.token}).connected()

    state = server.get(server.path("/instance/connectionState", name), key=instance.token)
    sent = server.post(server.path("/message/sendText", name), {"number": "55", "text": "x"}, key=instance.token)

    assert state.json == {"instance": {"instanceName": name, "state": "open"}}
    assert client.event("send.message")["data"] == sent.json
    assert row(server, name)["name"] == name
    assert server.request("DELETE", server.path("/instance/delete", name)).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a\\b",
        "a,b",
        "a?b",
        "a#b",
        "a\x00b",
        "a\nb",
        "a\u2028b",
        "  ",
        ".",
        " .. ",
        "..",
        "x" * 256,
        "x" * 300,
    ],
)
def test_a_name_that_cannot_be_in_a_path_or_namespace_is_refused(server, name):
    before = len(server.get("/instance/fetchInstances").json)

    response = server.post("/instance/create", {"instanceName": name, "integration": "EVOLUTION"})

    assert (response.status, response.json["error"]) == (400, "Bad Request")
    [[message]] = response.json["response"]["message"]
    assert "instanceName" in message
    assert len(server.get("/instance/fetchInstances").json) == before


@pytest.mark.parametrize("around", [" {} ", "\n{}\t", "\xa0{}", "{}\ufeff"])
def test_white_space_around_a_name_is_removed_before_anything_else(server, around):
    name = unique("loja centro")
    created = server.post("/instance/create", {"instanceName": around.format(name), "integration": "EVOLUTION"})
    assert (created.status, created.json["instance"]["instanceName"]) == (201, name)

    again = server.post("/instance/create", {"instanceName": around.format(name), "integration": "EVOLUTION"})
    assert (again.status, again.json["response"]["message"]) == (403, [f'This name "{name}" is already in use.'])
    assert row(server, name)["id"] == created.json["instance"]["instanceId"], "it is still there"


def test_a_name_of_nothing_but_white_space_is_empty(server):
    response = server.post("/instance/create", {"instanceName": " \t\n", "integration": "EVOLUTION"})
    assert (response.status, response.json["response"]["message"]) == (400, [['The "instanceName" cannot be empty']])


def test_a_name_with_a_lone_surrogate_is_refused(server):
    response = server.post("/instance/create", rb'{"instanceName": "a\ud83d", "integration": "EVOLUTION"}')
    assert response.status == 400, "it becomes a question mark, which a name may not contain"


def test_names_are_case_sensitive(server):
    name = unique()
    server.create(name)
    server.create(name.upper())
    assert row(server, name)["id"] != row(server, name.upper())["id"]
