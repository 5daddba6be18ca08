"""POST /webhook/evolution: any program with a key may be the engine behind an instance."""

from __future__ import annotations

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.clients.node import NodeSocket
from tests.environment import GLOBAL_KEY
from tests.server import Number, Server

ANA = "5511988887777@s.whatsapp.net"


@pytest.fixture
def instance(server) -> Number:
    return server.create()


@pytest.fixture
def client(server, node, instance) -> NodeSocket:
    return node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()


def received(server: Server, client: NodeSocket, instance: Number) -> list[dict[str, Any]]:
    """Return the events that the client has received so far, in order, up to a text that is sent as a marker."""
    marker = secrets.token_hex(8)
    sent = server.post(server.path("/message/sendText", instance), {"number": "55", "text": marker}, key=instance.token)
    assert sent.status == 201
    events = []
    while True:
        event = client.wait_for("event")["args"][0]
        if event["event"] == "send.message" and event["data"]["message"] == {"conversation": marker}:
            return events
        events.append(event)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def inbound(instance: Number, **members: Any) -> dict[str, Any]:
    key = {"remoteJid": ANA, "fromMe": False, "id": secrets.token_hex(8)}
    message = {"message": {"conversation": "Olá 😀"}, "messageType": "conversation", "pushName": "Ana Lima"}
    return {"numberId": instance.number, "key": key} | message | members


def is_empty(server: Server, instance: Number) -> bool:
    return not any(server.counts(instance).values())


def test_a_message_is_emitted_in_evolutions_shape(server, instance, client):
    before = int(time.time())
    body = inbound(
        instance, key={"remoteJid": ANA, "fromMe": False, "id": "ABC1234"}, profilePicUrl="https://p.example/a"
    )

    response = server.post("/webhook/evolution", body, key=instance.token)

    assert (response.status, response.json) == (200, {"status": "success"})
    upsert, contact, chat = received(server, client, instance)
    moment = upsert["data"].pop("messageTimestamp")
    assert before <= moment <= int(time.time())
    assert upsert["data"] == {
        "key": {"remoteJid": ANA, "fromMe": False, "id": "ABC1234", "profilePicUrl": "https://p.example/a"},
        "pushName": "Ana Lima",
        "message": {"conversation": "Olá 😀"},
        "messageType": "conversation",
        "instanceId": instance.id,
        "source": "unknown",
    }
    assert names([upsert, contact, chat]) == ["messages.upsert", "contacts.upsert", "chats.upsert"]
    assert contact["data"] == {
        "remoteJid": ANA,
        "pushName": "Ana Lima",
        "instanceId": instance.id,
        "profilePicUrl": "https://p.example/a",
    }
    assert chat["data"] == {"remoteJid": ANA, "instanceId": instance.id}


def test_each_message_announces_its_contact_and_chat_anew(server, instance, client):
    for _ in range(2):
        server.post("/webhook/evolution", inbound(instance), key=instance.token)

    assert names(received(server, client, instance))[3:] == [
        *("messages.upsert", "contacts.upsert", "chats.update", "chats.upsert"),
    ]
    assert server.counts(instance)["Contact"] == 1


def test_a_message_from_me_does_not_name_the_contact(server, instance, client):
    server.post("/webhook/evolution", inbound(instance), key=instance.token)
    for jid in (ANA, "5521977776666@s.whatsapp.net"):
        mine = inbound(instance, key={"remoteJid": jid, "fromMe": True}, pushName="Loja Centro")
        server.post("/webhook/evolution", mine, key=instance.token)

    events = received(server, client, instance)
    contacts = [event["data"].get("pushName") for event in events if event["event"] == "contacts.upsert"]
    assert contacts == ["Ana Lima", "Ana Lima", None]
    assert [event["data"]["pushName"] for event in events if event["event"] == "messages.upsert"][1] == "Loja Centro"
    assert people(server, instance) == {ANA: "Ana Lima", "5521977776666@s.whatsapp.net": None}


def people(server: Server, instance: Number) -> dict[str, str | None]:
    """Return the names of stored contacts and, where they have one, of chats."""
    code = f"""
import json
from instances.models import Chat, Contact
contacts = dict(Contact.objects.filter(instance_id={instance.id!r}).values_list("remote_jid", "push_name"))
chats = Chat.objects.filter(instance_id={instance.id!r}).exclude(name=None).values_list("remote_jid", "name")
assert all(contacts[jid] == name for jid, name in chats), (contacts, list(chats))
print(json.dumps(contacts))
"""
    return json.loads(server.shell(code))


def test_a_message_in_a_group_names_its_participant(server, instance, client):
    group, bruno = "120363040000000000@g.us", "5521977776666@s.whatsapp.net"
    for participant, name in ((ANA, "Ana Lima"), (bruno, "Bruno"), (ANA, "Ana Lima"), (ANA, "Ana")):
        key = {"remoteJid": group, "fromMe": False, "participant": participant}
        server.post("/webhook/evolution", inbound(instance, key=key, pushName=name), key=instance.token)
    key = {"remoteJid": group, "fromMe": True, "participant": "5511900000001@s.whatsapp.net"}
    server.post("/webhook/evolution", inbound(instance, key=key, pushName="Loja Centro"), key=instance.token)

    assert people(server, instance) == {group: None, ANA: "Ana", bruno: "Bruno"}
    events = [event for event in received(server, client, instance) if event["event"].startswith("contacts.")]
    assert [(event["event"], event["data"]["remoteJid"], event["data"].get("pushName")) for event in events] == [
        *(("contacts.upsert", group, None), ("contacts.upsert", ANA, "Ana Lima")),
        *(("contacts.upsert", group, None), ("contacts.upsert", bruno, "Bruno")),
        ("contacts.upsert", group, None),
        *(("contacts.upsert", group, None), ("contacts.update", ANA, "Ana")),
        ("contacts.upsert", group, None),
    ]


def test_repeats_of_one_id_make_one_event_and_are_answered_as_repeats(server, instance, client):
    body = inbound(instance)
    first, *repeats = (server.post("/webhook/evolution", body, key=instance.token).json for _ in range(3))

    assert first == {"status": "success"}
    for repeat in repeats:
        assert (repeat["status"], repeat["isRepeat"]) == ("success", True)
        assert repeat["message"].startswith(f'The message "{body["key"]["id"]}" is a repeat')
    assert names(received(server, client, instance)) == ["messages.upsert", "contacts.upsert", "chats.upsert"]


def test_repeats_that_arrive_at_once_make_one_event(server, instance, client):
    body = inbound(instance)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: server.post("/webhook/evolution", body, key=instance.token), range(8)))

    assert {response.status for response in responses} == {200}
    assert sorted("isRepeat" in response.json for response in responses) == [False] + [True] * 7
    assert names(received(server, client, instance)) == ["messages.upsert", "contacts.upsert", "chats.upsert"]


def test_an_id_in_another_chat_is_a_repeat(server, instance, client):
    """Ids are unique within an instance, as WhatsApp's are."""
    for number, chat in enumerate((ANA, "5521977776666@s.whatsapp.net", "120363040000000000@g.us")):
        key = {"remoteJid": chat, "fromMe": False, "id": "1"}
        answer = server.post("/webhook/evolution", inbound(instance, key=key), key=instance.token).json
        assert ("isRepeat" in answer) == (number > 0)
    assert names(received(server, client, instance)) == ["messages.upsert", "contacts.upsert", "chats.upsert"]


def test_a_message_without_an_id_is_never_a_repeat(server, instance):
    for id in ({}, {"id": None}, {"id": ""}):
        for _ in range(2):
            body = inbound(instance, key={"remoteJid": ANA, "fromMe": False} | id)
            assert server.post("/webhook/evolution", body, key=instance.token).json == {"status": "success"}
    assert server.counts(instance)["Message"] == 6


def test_one_id_at_two_instances_is_two_messages(server, instance):
    other = server.create()
    for number in (instance, other):
        body = inbound(number, key={"remoteJid": ANA, "fromMe": False, "id": "SAME"})
        server.post("/webhook/evolution", body, key=number.token)
    assert [server.counts(number)["Message"] for number in (instance, other)] == [1, 1]


@pytest.mark.parametrize("key", [{}, {"id": None}, {"id": ""}])
def test_a_message_without_an_id_gets_one(server, instance, client, key):
    for _ in range(2):
        server.post("/webhook/evolution", inbound(instance, key={"remoteJid": ANA} | key), key=instance.token)

    ids = [
        event["data"]["key"]["id"]
        for event in received(server, client, instance)
        if event["event"] == "messages.upsert"
    ]
    assert len(set(ids)) == 2
    assert all(ids)


def test_a_message_sent_from_another_device_is_from_me(server, instance, client):
    server.post("/webhook/evolution", inbound(instance, key={"remoteJid": ANA, "fromMe": True}), key=instance.token)
    assert received(server, client, instance)[0]["data"]["key"]["fromMe"] is True


def test_any_kind_of_message_is_passed_on_verbatim(server, instance, client):
    message = {"pollCreationMessage": {"name": "Hora?", "options": [{"optionName": "10h"}], "n": 2, "x": None}}
    server.post(
        "/webhook/evolution", inbound(instance, message=message, messageType="pollCreationMessage"), key=instance.token
    )
    data = received(server, client, instance)[0]["data"]
    assert (data["messageType"], data["message"]) == ("pollCreationMessage", message)


@pytest.mark.parametrize("message", [{}, {"message": None}])
def test_a_body_without_a_message_does_nothing(server, instance, message):
    body = {"numberId": instance.number} | message
    response = server.post("/webhook/evolution", body, key=instance.token)
    assert (response.status, response.json) == (200, {"status": "success"})
    assert is_empty(server, instance)


def test_an_unknown_number_is_answered_with_an_empty_body(server, instance):
    response = server.post("/webhook/evolution", inbound(instance, numberId="nobody"))
    assert (response.status, response.body) == (200, b"")
    assert is_empty(server, instance)


@pytest.mark.parametrize("integration", ["WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS"])
def test_numbers_of_other_integrations_are_unknown(server, integration):
    other = server.create(integration=integration)
    response = server.post("/webhook/evolution", inbound(other))
    assert (response.status, response.body) == (200, b"")
    assert is_empty(server, other)


# Authentication


def test_the_global_key_may_post_for_any_instance(server, instance):
    assert server.post("/webhook/evolution", inbound(instance), key=GLOBAL_KEY).json == {"status": "success"}


@pytest.mark.parametrize("key", [None, "", "wrong"])
def test_a_request_without_a_valid_key_stores_nothing(server, instance, key):
    response = server.post("/webhook/evolution", inbound(instance), key=key)
    assert (response.status, response.json["response"]["message"]) == (401, "Unauthorized")
    assert is_empty(server, instance)


def test_another_instances_token_is_refused_as_a_wrong_key_is(server, instance):
    other = server.create()
    for number in (instance.number, "nobody"):
        response = server.post("/webhook/evolution", inbound(instance, numberId=number), key=other.token)
        assert (response.status, response.json["response"]["message"]) == (401, "Unauthorized")
    assert is_empty(server, instance)


@pytest.mark.parametrize("setting", ["true", "127.0.0.0/8"])
def test_the_operator_may_open_the_endpoint(start_server, setting):
    server = start_server(EVOLUTION_INGRESS_OPEN=setting)
    instance = server.create()

    assert server.post("/webhook/evolution", inbound(instance), key=None).json == {"status": "success"}
    assert server.post("/webhook/evolution", inbound(instance, numberId="nobody"), key=None).body == b""
    assert server.post("/webhook/evolution", inbound(instance), key="wrong").status == 401
    assert server.counts(instance)["Message"] == 1


def test_an_endpoint_that_is_open_to_other_addresses_requires_a_key(start_server):
    server = start_server(EVOLUTION_INGRESS_OPEN="10.0.0.0/8,192.168.1.5")
    instance = server.create()
    spoofed = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    assert server.post("/webhook/evolution", inbound(instance), key=None, headers=spoofed).status == 401
    assert is_empty(server, instance)


# Invalid bodies


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"numberId": None}, "numberId"),
        ({"numberId": 5}, "numberId"),
        ({"numberId": {"contains": ""}}, "numberId"),
        ({"numberId": ""}, "numberId"),
        ({"numberId": "5\x00"}, "numberId"),
        ({"key": None}, "key"),
        ({"key": "ABC"}, "key"),
        ({"key": {}}, "key.remoteJid"),
        ({"key": {"remoteJid": 5}}, "key.remoteJid"),
        ({"key": {"remoteJid": "5" * 256}}, "key.remoteJid"),
        ({"key": {"remoteJid": "5\x00"}}, "key.remoteJid"),
        ({"key": {"remoteJid": ANA, "id": 5}}, "key.id"),
        ({"key": {"remoteJid": ANA, "id": "x" * 256}}, "key.id"),
        ({"key": {"remoteJid": ANA, "id": "x\x00"}}, "key.id"),
        ({"key": {"remoteJid": ANA, "fromMe": "false"}}, "key.fromMe"),
        ({"key": {"remoteJid": ANA, "participant": 5}}, "key.participant"),
        ({"message": "hello"}, "message"),
        ({"message": []}, "message"),
        ({"messageType": 5}, "messageType"),
        ({"messageType": "x" * 65}, "messageType"),
        ({"pushName": 5}, "pushName"),
        ({"profilePicUrl": 5}, "profilePicUrl"),
        ({"profilePicUrl": "https://p.example/\x00"}, "profilePicUrl"),
    ],
)
def test_the_error_of_an_invalid_message_names_the_member(server, instance, members, named):
    response = server.post("/webhook/evolution", inbound(instance, **members), key=GLOBAL_KEY)
    assert (response.status, response.json["error"]) == (400, "Bad Request")
    [message] = response.json["response"]["message"]
    assert named in message
    assert is_empty(server, instance)


def test_the_error_of_a_missing_member_names_it(server, instance):
    for name in ("numberId", "key"):
        body = {member: value for member, value in inbound(instance).items() if member != name}
        response = server.post("/webhook/evolution", body)
        assert (response.status, response.json["response"]["message"]) == (
            400,
            [f'instance requires property "{name}"'],
        )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"numberId=5", b"[" * 5000])
def test_a_body_that_is_no_object_is_refused(server, body):
    response = server.post("/webhook/evolution", body)
    assert (response.status, response.json["status"]) == (400, 400)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=latin-1"])
def test_the_content_type_does_not_matter(server, instance, content_type):
    response = server.post("/webhook/evolution", inbound(instance), headers={"Content-Type": content_type})
    assert response.json == {"status": "success"}


def test_long_names_and_odd_texts_are_emitted_unchanged(server, instance, client):
    # json.dumps writes half a surrogate pair as \\ud83d, as careless programs do
    message = {"conversation": "\x00 NUL, \ud83d half an emoji, " + "x" * 10_000, "n": 2**53 - 1, "f": 1e300}
    for name in ("Ana" * 200, "A\x00na"):
        response = server.post("/webhook/evolution", inbound(instance, message=message, pushName=name))
        assert response.json == {"status": "success"}

    upserts = [event["data"] for event in received(server, client, instance) if event["event"] == "messages.upsert"]
    assert [data["pushName"] for data in upserts] == ["Ana" * 200, "A\x00na"]
    assert upserts[0]["message"] == message | {"conversation": message["conversation"].replace("\ud83d", "?")}
