"""Evolution API's routes for instances, except their creation."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.instances.api.rows import ISO, SETTINGS, exists, row, unique
from tests.server import Number

# GET / and POST /verify-creds


def test_the_welcome_needs_no_key_and_has_a_version_that_clients_accept(server):
    assert server.get("/", key=None).json == {
        "status": 200,
        "message": "Welcome to the Evolution API, it is working!",
        "version": "2.4.0",
        "clientName": "evolution",
        "documentation": "https://doc.evolution-api.com",
    }


def test_verify_creds_accepts_the_global_key_and_no_token(server):
    instance = server.create()
    valid, token = server.post("/verify-creds", {}), server.post("/verify-creds", {}, key=instance.token)
    assert (valid.status, valid.json["message"]) == (200, "Credentials are valid")
    assert (token.status, token.json["response"]["message"]) == (401, "Unauthorized")


@pytest.mark.any_database
def test_variables_of_evolution_fill_the_welcome_and_the_log_in_of_its_manager(start_server):
    facebook = {"FACEBOOK_APP_ID": "1", "FACEBOOK_CONFIG_ID": "2", "FACEBOOK_USER_TOKEN": "very-secret"}
    server = start_server(CONFIG_BAILEYS_VERSION="2.3000.1028442591", **facebook)
    welcome = server.get("/", key=None).json
    assert welcome["whatsappWebVersion"] == "2.3000.1028442591"
    assert "very-secret" not in str(welcome)
    expected = {"facebookAppId": "1", "facebookConfigId": "2", "facebookUserToken": "very-secret"}
    valid = server.post("/verify-creds", {}).json
    assert valid == {"status": 200, "message": "Credentials are valid"} | expected


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
