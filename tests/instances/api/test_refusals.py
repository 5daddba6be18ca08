"""Routes that only a phone can serve: an invalid request is refused as such, a valid one in the channel's words."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from instances.api import groups, phone_routes
from instances.api.refusals import Refusal
from instances.evolution_routes import ROUTES
from tests.server import Number, Server

pytestmark = pytest.mark.any_database

REFUSALS = (
    *(*phone_routes.CHATS, *phone_routes.LABELS_AND_CALLS, *phone_routes.BAILEYS),
    *(groups.CREATE, groups.ALL, *groups.CHANGES, *groups.READS, *groups.INVITES),
)
GROUP = {"groupJid": "120363025246125486@g.us"}
PEOPLE = ["5511988887777"]
KEY = phone_routes.KEY

WORDS = {
    "WHATSAPP-BAILEYS": 'The "{name}" instance is not connected',
    "WHATSAPP-BUSINESS": "Method not available on WhatsApp Business API",
    "EVOLUTION": "Method not available on Evolution Channel",
}


@pytest.fixture(scope="module")
def instances(server: Server) -> dict[str, Number]:
    return {integration: server.create(integration=integration) for integration in WORDS}


@pytest.fixture(scope="module")
def instance(instances: dict[str, Number]) -> Number:
    return instances["WHATSAPP-BUSINESS"]


def path_of(refusal: Refusal, instance: Number) -> str:
    query = {parameter.name: parameter.type["example"] for parameter in refusal.parameters if parameter.required}
    return f"/{refusal.path}/{instance.name}" + (f"?{urlencode(query)}" if query else "")


@pytest.mark.parametrize("integration", WORDS)
def test_a_valid_request_is_refused_in_the_channels_words(server, instances, integration):
    instance = instances[integration]
    for refusal in REFUSALS:
        response = server.request(refusal.method, path_of(refusal, instance), refusal.example, key=instance.token)
        message = [WORDS[integration].format(name=instance.name)]
        body = {"status": 400, "error": "Bad Request", "response": {"message": message}}
        assert (response.status, response.json) == (400, body), refusal.path
        assert ("X-Evoapi-Note" in response.headers) == (integration != "WHATSAPP-BUSINESS")


def message(server: Server, instance: Number, method: str, path: str, body: Any = None) -> Any:
    route, _, query = path.partition("?")
    response = server.request(method, f"/{route}/{instance.name}?{query}", body, key=instance.token)
    assert response.status == 400, response.body
    return response.json["response"]["message"]


NUMBERS = '"numbers" must be an array of numeric strings'
PARTICIPANTS = '"participants" must be an array of numeric strings'


@pytest.mark.parametrize(
    ("method", "path", "body", "lines"),
    [
        ("POST", "chat/whatsappNumbers", {"numbers": []}, ["numbers does not meet minimum length of 1"]),
        ("POST", "chat/whatsappNumbers", {"numbers": ["1", "1"]}, ["numbers contains duplicate item"]),
        ("POST", "chat/whatsappNumbers", {"numbers": "1"}, ["numbers is not of a type(s) array"]),
        ("POST", "chat/markMessageAsPlayed", {}, ['instance requires property "playedMessages"']),
        (
            *("POST", "chat/markMessageAsPlayed", {"playedMessages": [{"id": "1"}]}),
            ['playedMessages[0] requires property "fromMe"', 'playedMessages[0] requires property "remoteJid"'],
        ),
        ("POST", "chat/archiveChat", {"archive": "yes"}, ["archive is not of a type(s) boolean"]),
        ("POST", "chat/markChatUnread", {"lastMessage": {}}, ['lastMessage requires property "key"']),
        ("DELETE", "chat/deleteMessageForEveryone", KEY | {"id": ""}, ['The "id" cannot be empty']),
        ("POST", "chat/updateMessage", {"key": 5}, ["key is not of a type(s) object"]),
        ("POST", "chat/updateMessage", {"text": None}, ["text is not of a type(s) string"]),
        (
            *("POST", "chat/updatePrivacySettings", phone_routes.PRIVACY | {"online": "none", "last": None}),
            [
                "online is not one of enum values: all,match_last_seen",
                "last is not one of enum values: all,contacts,contact_blacklist,none",
            ],
        ),
        ("POST", "label/handleLabel", {"number": 5, "labelId": "1", "action": "add"}, ["Invalid format"]),
        (
            *("POST", "call/offer", {"number": "5511", "callDuration": 16}),
            ["callDuration must be less than or equal to 15"],
        ),
        ("POST", "call/offer", {"number": "5511", "callDuration": True}, ["callDuration is not of a type(s) integer"]),
        ("POST", "group/create", {"subject": "a"}, ['instance requires property "participants"']),
        ("POST", "group/create", {"subject": "a", "participants": ["123"]}, [PARTICIPANTS]),
    ],
)
def test_an_invalid_request_is_refused_with_the_rules_that_failed(server, instance, method, path, body, lines):
    assert message(server, instance, method, path, body) == [lines]


@pytest.mark.parametrize(
    ("path", "body", "rules"),
    [
        ("updateGroupSubject", GROUP, [("instance", 'instance requires property "subject"')]),
        ("updateGroupSubject", GROUP | {"subject": ""}, [("subject", 'The "subject" cannot be empty')]),
        ("updateGroupSubject", {"groupJid": 5, "subject": "a"}, [("groupJid", "groupJid is not of a type(s) string")]),
        ("sendInvite", GROUP | {"description": "a", "numbers": ["x" * 10]}, [("numbers[0]", NUMBERS)]),
        (
            *("updateParticipant", GROUP | {"action": "promoted", "participants": []}),
            [
                ("action", "action is not one of enum values: add,remove,promote,demote"),
                ("participants", "participants does not meet minimum length of 1"),
            ],
        ),
        (
            *("updateMemberAddMode", GROUP | {"mode": "all"}),
            [("mode", "mode is not one of enum values: admin_add,all_member_add")],
        ),
        (
            *("toggleEphemeral", GROUP | {"expiration": 60}),
            [("expiration", "expiration is not one of enum values: 0,86400,604800,7776000")],
        ),
    ],
)
def test_a_group_route_names_the_member_of_each_rule_that_failed(server, instance, path, body, rules):
    expected = [{"property": member, "message": text} for member, text in rules]
    assert message(server, instance, "POST", f"group/{path}", body) == expected


def test_a_group_is_named_by_the_body_or_by_the_query(server, instance):
    refused = [WORDS["WHATSAPP-BUSINESS"]]
    assert message(server, instance, "POST", "group/updateGroupSubject", {"subject": "a"}) == groups.NO_GROUP
    assert message(server, instance, "POST", "group/updateGroupSubject?groupJid=12", {"subject": "a"}) == refused
    assert message(server, instance, "DELETE", "group/leaveGroup") == groups.NO_GROUP
    assert message(server, instance, "DELETE", "group/leaveGroup", GROUP) == refused
    assert message(server, instance, "GET", "group/findGroupInfos?groupJid=12-34") == refused
    [rule] = message(server, instance, "GET", "group/findGroupInfos?groupJid=abc")
    assert rule == {"property": "groupJid", "message": 'groupJid does not match pattern "^[\\\\d-]+@g.us$"'}


def test_the_query_of_a_group_route_is_checked(server, instance):
    assert message(server, instance, "GET", "group/inviteInfo") == groups.NO_INVITE_CODE
    [rule] = message(server, instance, "GET", "group/acceptInviteCode?inviteCode=short")
    assert rule["property"] == "inviteCode"
    for query in ("", "getParticipants=yes"):
        assert message(server, instance, "GET", f"group/fetchAllGroups?{query}") == groups.NO_PARTICIPANTS


def test_an_id_of_a_message_is_made_for_every_channel(server, instances):
    ids = {server.get(server.path("/baileys/generateMessageID", each)).json["id"] for each in instances.values()}
    assert len(ids) == 3
    assert all(id.startswith("3EB0") and len(id) == 22 for id in ids)


def test_reads_of_chatbots_find_nothing(server, instance):
    for route in ROUTES:
        family = route.path.split("/")[1]
        if family in ("typebot", "openai", "dify", "evolutionBot", "flowise", "n8n", "evoai") and route.method == "GET":
            response = server.get(route.path.format(name=instance.name, id="1"), key=instance.token)
            is_one_thing = "fetch/" in route.path or "fetchSettings" in route.path
            assert (response.status, response.json) == (200, None if is_one_thing else []), route.path


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("typebot", "Typebot is disabled"),
        ("openai", "Openai is disabled"),
        ("dify", "Dify is disabled"),
        ("evolutionBot", "EvolutionBot is disabled"),
        ("flowise", "Flowise is disabled"),
        ("n8n", "N8n is disabled"),
        ("evoai", "Evoai is disabled"),
        ("chatwoot", "Chatwoot is disabled"),
    ],
)
def test_every_write_of_a_chatbot_says_that_it_is_disabled(server, instance, family, words):
    writes = [route for route in ROUTES if route.path.split("/")[1] == family and route.method != "GET"]
    assert len(writes) >= 2
    for route in writes:
        path = route.path.format(name=instance.name, id="1")
        response = server.request(route.method, path, {"enabled": True}, key=instance.token)
        assert (response.status, response.json["response"]["message"]) == (400, [words]), route.path


def test_chatwoot_is_unset_and_its_webhook_needs_no_key(server, instance):
    unset = server.get(server.path("/chatwoot/find", instance), key=instance.token).json
    assert (unset["enabled"], unset["webhook_url"]) == (False, "")
    for name in (instance.name, "nobody"):
        response = server.post(f"/chatwoot/webhook/{name}", {"event": "message_created"}, key=None)
        assert (response.status, response.json["response"]["message"]) == (400, ["Chatwoot is disabled"])
