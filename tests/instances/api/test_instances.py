"""Evolution API's routes for instances: bodies, responses and errors as its clients know them."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from tests.environment import VERIFY_TOKEN
from tests.server import Number, Server

SETTINGS = {
    "rejectCall": False,
    "msgCall": "",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def unique(prefix: str = "loja") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def a_number() -> str:
    return str(uuid.uuid4().int)[:14]


def row(server: Server, name: str) -> dict[str, Any]:
    [found] = server.get(f"/instance/fetchInstances?instanceName={quote(name)}").json
    return found


def exists(server: Server, name: str) -> bool:
    return server.get(f"/instance/fetchInstances?instanceName={quote(name)}").status == 200


# GET / and POST /verify-creds


def test_the_welcome_needs_no_key_and_has_a_version_that_clients_accept(server):
    assert server.get("/", key=None).json == {
        "status": 200,
        "message": "Welcome to the Evolution API, it is working!",
        "version": "2.3.6",
        "clientName": "evolution",
        "documentation": "https://doc.evolution-api.com",
    }


def test_verify_creds_accepts_the_global_key_and_no_token(server):
    instance = server.create()
    valid, token = server.post("/verify-creds", {}), server.post("/verify-creds", {}, key=instance.token)
    assert (valid.status, valid.json["message"]) == (200, "Credentials are valid")
    assert (token.status, token.json["response"]["message"]) == (401, "Unauthorized")


# POST /instance/create


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
        ({}, True, 31),
        ({"events": []}, True, 31),
        ({"events": ["CALL"]}, True, 1),
        ({"enabled": True}, True, 31),
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
        " a",
        "a ",
        "  ",
        ".",
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
    assert message.startswith("instanceName ")
    assert len(server.get("/instance/fetchInstances").json) == before


def test_a_name_with_a_lone_surrogate_is_refused(server):
    response = server.post("/instance/create", rb'{"instanceName": "a\ud83d", "integration": "EVOLUTION"}')
    assert response.status == 400, "it becomes a question mark, which a name may not contain"


def test_names_are_case_sensitive(server):
    name = unique()
    server.create(name)
    server.create(name.upper())
    assert row(server, name)["id"] != row(server, name.upper())["id"]


@pytest.mark.parametrize(
    "segment", ["nobody", "%ff", "%zz", "a%00b", "a%0Ab", "%ED%A0%80", "%F0%9F%98%80", "..", "%2e%2e", "x" * 4000]
)
def test_a_path_with_an_unknown_name_is_not_found(server, segment):
    response = server.get(f"/instance/connectionState/{segment}")
    assert (response.status, response.json["error"]) == (404, "Not Found")
    [message] = response.json["response"]["message"]
    assert re.fullmatch(r'The ".*" instance does not exist', message, re.DOTALL)


# GET /instance/fetchInstances


def test_a_row_has_the_members_that_clients_read(server):
    instance = server.create(websocket={"enabled": True, "events": ["CALL"]})
    server.receive(instance)

    found = row(server, instance.name)

    created, websocket, setting = found["createdAt"], found.pop("Websocket"), found.pop("Setting")
    assert list(found) == [
        *("id", "name", "connectionStatus", "ownerJid", "profileName", "profilePicUrl", "integration", "number"),
        *("businessId", "token", "clientName", "disconnectionReasonCode", "disconnectionObject", "disconnectionAt"),
        *("createdAt", "updatedAt", "Chatwoot", "Proxy", "Rabbitmq", "Nats", "Sqs", "_count"),
    ]
    assert (found["id"], found["name"], found["token"]) == (instance.id, instance.name, instance.token)
    assert (found["integration"], found["number"]) == ("EVOLUTION", instance.number)
    assert (found["connectionStatus"], found["clientName"]) == ("open", "evolution")
    assert found["_count"] == {"Message": 1, "Contact": 1, "Chat": 1}
    assert not any(found[name] for name in ("Chatwoot", "Proxy", "Rabbitmq", "Nats", "Sqs"))
    assert ISO.fullmatch(created)
    assert set(websocket) == {"id", "enabled", "events", "createdAt", "updatedAt", "instanceId"}
    assert websocket["instanceId"] == setting["instanceId"] == instance.id
    assert {name: setting[name] for name in SETTINGS} == SETTINGS


def test_the_global_key_finds_all_instances_and_a_token_its_own(server):
    mine, other = server.create(), server.create()
    assert {mine.name, other.name} <= {found["name"] for found in server.get("/instance/fetchInstances").json}
    assert [found["name"] for found in server.get("/instance/fetchInstances", key=mine.token).json] == [mine.name]


def test_a_token_of_several_instances_gives_access_to_each(server):
    token = unique("shared")
    names = sorted(server.create(token=token).name for _ in range(2))
    server.create()
    found = server.get("/instance/fetchInstances", key=token).json
    assert [each["name"] for each in found] == names
    for name in names:
        assert server.get(server.path("/instance/connectionState", name), key=token).status == 200


@pytest.fixture(scope="module")
def pair(server) -> tuple[Number, Number]:
    return server.create("Loja São João & filhos"), server.create()


@pytest.mark.parametrize(
    "query",
    [
        "instanceName={name}",
        "instanceId={id}",
        "number={number}",
        "instanceId={id}&instanceName=other",
        "x=1&instanceName={name}",
    ],
)
def test_rows_are_found_by_name_id_and_number(server, pair, query):
    wanted = pair[0]
    query = query.format(name=quote(wanted.name), id=wanted.id, number=wanted.number)
    for key in {"key": wanted.token}, {}:
        assert [found["id"] for found in server.get(f"/instance/fetchInstances?{query}", **key).json] == [wanted.id]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("instanceName=nobody", "nobody"),
        ("instanceName=a%00b", "a\x00b"),
        ("instanceId=nobody", "nobody"),
        ("instanceId=00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000000"),
        ("number=0", "0"),
        ("number=%00", "\x00"),
    ],
)
def test_an_unknown_instance_is_not_found(server, pair, query, value):
    for key in {"key": pair[0].token}, {}:
        response = server.get(f"/instance/fetchInstances?{query}", **key)
        assert (response.status, response.json["response"]["message"]) == (404, [f'Instance "{value}" not found'])


def test_a_token_does_not_find_another_instance(server, pair):
    mine, theirs = pair
    for query in (f"instanceName={theirs.name}", f"instanceId={theirs.id}", f"number={theirs.number}"):
        assert server.get(f"/instance/fetchInstances?{query}", key=mine.token).status == 404


# GET /instance/connectionState and DELETE /instance/delete


@pytest.mark.parametrize(
    ("integration", "state"), [("EVOLUTION", "open"), ("WHATSAPP-BUSINESS", "open"), ("WHATSAPP-BAILEYS", "close")]
)
def test_the_state_of_an_instance(server, integration, state):
    instance = server.create(integration=integration)
    response = server.get(server.path("/instance/connectionState", instance), key=instance.token)
    assert response.json == {"instance": {"instanceName": instance.name, "state": state}}


def test_a_deleted_instance_is_gone_at_once_and_its_name_is_free(server, node):
    instance = server.create()
    server.receive(instance)
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    response = server.request("DELETE", server.path("/instance/delete", instance), key=instance.token)

    assert response.status == 200
    assert response.json == {"status": "SUCCESS", "error": False, "response": {"message": "Instance deleted"}}
    assert client.event("instance.delete")["data"] == {"instanceName": instance.name, "instanceId": instance.id}
    assert client.event("remove.instance")["data"] is None
    assert server.get(server.path("/instance/connectionState", instance)).status == 404
    assert server.get("/instance/fetchInstances", key=instance.token).status == 401, "its token is no longer valid"
    assert server.request("DELETE", server.path("/instance/delete", instance)).status == 404
    again = server.create(instance.name, number=instance.number)
    assert server.counts(again) == {"Message": 0, "Contact": 0, "Chat": 0}


def test_a_delete_with_a_json_content_type_and_an_empty_body_is_accepted(server):
    instance = server.create()
    assert server.request("DELETE", server.path("/instance/delete", instance), b"", key=instance.token).status == 200


def test_of_concurrent_deletions_one_succeeds(server):
    instance = server.create()
    with ThreadPoolExecutor(6) as pool:
        path = server.path("/instance/delete", instance)
        statuses = sorted(pool.map(lambda _: server.request("DELETE", path).status, range(6)))
    assert statuses == [200] + [404] * 5


def test_an_instance_can_be_deleted_during_traffic(server):
    instance = server.create()
    with ThreadPoolExecutor(6) as pool:
        traffic = [pool.submit(server.receive, instance, text) for text in "abcdefgh"]
        for number in range(8):
            body = {"number": "5511988887777", "text": "x"} | ({"id": str(number)} if number % 2 else {})
            traffic.append(pool.submit(server.post, server.path("/message/sendText", instance), body))
            traffic.append(pool.submit(server.post, server.path("/websocket/set", instance), {"enabled": True}))
        deletion = pool.submit(server.request, "DELETE", server.path("/instance/delete", instance))
        statuses = {call.result(30).status for call in traffic}

    assert deletion.result(30).status == 200
    assert statuses <= {200, 201, 401, 404}
    assert not exists(server, instance.name)
