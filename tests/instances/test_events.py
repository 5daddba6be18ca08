"""The event types: Evolution API's names, subscriptions to them, and secrets that are removed from their data."""

import jsonschema_rs
import pytest

from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE, EventType
from instances.events.document import EXAMPLE, document
from tests.server import ROOT

#: The names that clients subscribe to, and the values that they receive, in Evolution API 2.3.6.
EVOLUTION = {
    "APPLICATION_STARTUP": "application.startup",
    "INSTANCE_CREATE": "instance.create",
    "INSTANCE_DELETE": "instance.delete",
    "QRCODE_UPDATED": "qrcode.updated",
    "CONNECTION_UPDATE": "connection.update",
    "STATUS_INSTANCE": "status.instance",
    "MESSAGES_SET": "messages.set",
    "MESSAGES_UPSERT": "messages.upsert",
    "MESSAGES_EDITED": "messages.edited",
    "MESSAGES_UPDATE": "messages.update",
    "MESSAGES_DELETE": "messages.delete",
    "SEND_MESSAGE": "send.message",
    "SEND_MESSAGE_UPDATE": "send.message.update",
    "CONTACTS_SET": "contacts.set",
    "CONTACTS_UPSERT": "contacts.upsert",
    "CONTACTS_UPDATE": "contacts.update",
    "PRESENCE_UPDATE": "presence.update",
    "CHATS_SET": "chats.set",
    "CHATS_UPDATE": "chats.update",
    "CHATS_UPSERT": "chats.upsert",
    "CHATS_DELETE": "chats.delete",
    "GROUPS_UPSERT": "groups.upsert",
    "GROUPS_UPDATE": "groups.update",
    "GROUP_PARTICIPANTS_UPDATE": "group-participants.update",
    "CALL": "call",
    "TYPEBOT_START": "typebot.start",
    "TYPEBOT_CHANGE_STATUS": "typebot.change-status",
    "LABELS_EDIT": "labels.edit",
    "LABELS_ASSOCIATION": "labels.association",
    "CREDS_UPDATE": "creds.update",
    "MESSAGING_HISTORY_SET": "messaging-history.set",
    "REMOVE_INSTANCE": "remove.instance",
    "LOGOUT_INSTANCE": "logout.instance",
}
INTERNAL = {"CREDS_UPDATE"}

#: The names that an empty list of events stands for, in order.
EVOLUTION_DEFAULTS = [
    *("APPLICATION_STARTUP", "QRCODE_UPDATED", "MESSAGES_SET", "MESSAGES_UPSERT", "MESSAGES_EDITED"),
    *("MESSAGES_UPDATE", "MESSAGES_DELETE", "SEND_MESSAGE", "SEND_MESSAGE_UPDATE", "CONTACTS_SET"),
    *("CONTACTS_UPSERT", "CONTACTS_UPDATE", "PRESENCE_UPDATE", "CHATS_SET", "CHATS_UPSERT", "CHATS_UPDATE"),
    *("CHATS_DELETE", "GROUPS_UPSERT", "GROUP_UPDATE", "GROUP_PARTICIPANTS_UPDATE", "CONNECTION_UPDATE"),
    *("LABELS_EDIT", "LABELS_ASSOCIATION", "CALL", "TYPEBOT_START", "TYPEBOT_CHANGE_STATUS", "MESSAGING_HISTORY_SET"),
    *("REMOVE_INSTANCE", "LOGOUT_INSTANCE", "INSTANCE_CREATE", "INSTANCE_DELETE", "STATUS_INSTANCE"),
]


def test_every_event_of_evolution_api_has_its_name_and_value():
    ours = {event.name: event.value for event in EventType}
    assert {name: ours.get(name) for name in EVOLUTION} == EVOLUTION


def test_event_types_that_are_not_in_evolution_api_say_so():
    assert {event.name for event in EventType if event.label.startswith("Ours: ")} == set(EventType.names) - set(
        EVOLUTION
    )


def test_an_empty_list_is_shown_as_the_32_names_in_evolutions_order():
    assert DEFAULT_EVENTS == EVOLUTION_DEFAULTS
    assert len(DEFAULT_EVENTS) == 32


def test_all_but_the_internal_events_can_be_subscribed_to():
    assert set(SUBSCRIBABLE) == set(EventType.names) - INTERNAL | {"GROUP_UPDATE"}
    assert {"BUSINESS_UPDATE", "ENDPOINT_DISABLED", "DELIVERIES_DROPPED"} < set(SUBSCRIBABLE)
    assert {event.name for event in EventType if not event.is_subscribable} == INTERNAL


@pytest.mark.parametrize("spelling", ["GROUP_UPDATE", "GROUPS_UPDATE"])
def test_a_group_update_is_subscribed_to_by_either_spelling(spelling):
    assert EventType.GROUPS_UPDATE.is_wanted_by([spelling])


def test_a_subscription_to_other_names_does_not_include_an_event():
    assert not EventType.MESSAGES_UPSERT.is_wanted_by(["MESSAGES_UPDATE", "GROUP_UPDATE"])
    assert not EventType.GROUPS_UPSERT.is_wanted_by(["GROUP_UPDATE", "GROUPS_UPDATE"])


def test_the_keys_of_a_session_are_removed_from_the_events_of_bots():
    session = {"id": "s1", "parameters": {"apiKey": "evo_secret", "serverUrl": "https://evo.example"}}
    data = {"remoteJid": "55@s.whatsapp.net", "status": "opened", "session": session}

    scrubbed = EventType.TYPEBOT_CHANGE_STATUS.scrub(data)

    assert scrubbed["session"] == {"id": "s1", "parameters": {"serverUrl": "https://evo.example"}}
    assert data["session"]["parameters"]["apiKey"] == "evo_secret", "the original data is unchanged"


@pytest.mark.parametrize("name", ["apikey", "apiKey", "api_key", "API-KEY", "access_token", "accessToken", "appSecret"])
@pytest.mark.parametrize("event", EventType)
def test_no_event_carries_a_key_however_it_is_spelled(event, name):
    assert event.scrub([{"deep": ({name: "secret"}, 5)}]) == [{"deep": [{}, 5]}]


@pytest.mark.parametrize("name", ["token", "password", "secret", "Authorization", "refresh_token", "webhookSecret"])
def test_credentials_are_removed_from_everything_but_peoples_messages(name):
    assert EventType.INSTANCE_CREATE.scrub({name: "x", "instanceName": "a"}) == {"instanceName": "a"}
    form = {"message": {"interactiveMessage": {"nfm_reply": {name: "what they typed"}}}}
    assert EventType.MESSAGES_UPSERT.scrub(form) == form


@pytest.mark.parametrize(
    "message",
    [
        {"type": "APP_STATE_SYNC_KEY_SHARE", "appStateSyncKeyShare": {"keys": [{"keyData": "x"}]}},
        {"senderKeyDistributionMessage": {"axolotlSenderKeyDistributionMessage": "x"}},
        {"historySyncNotification": {"mediaKey": {"0": 1}, "directPath": "/v"}},
        {"creds": {"noiseKey": {"private": "x"}, "signedIdentityKey": "x", "advSecretKey": "x"}},
    ],
)
def test_the_key_material_of_whatsapp_is_removed(message):
    for scrubbed in (
        EventType.MESSAGES_EDITED.scrub(message),
        EventType.MESSAGES_UPSERT.scrub({"message": message}),
        EventType.MESSAGES_SET.scrub([{"message": {"protocolMessage": message | {"mediaKey": "x"}}}]),
    ):
        assert not [part for part in ("'x'", "ediaKey", "yShare", "essageSecret") if part in str(scrubbed)], scrubbed


@pytest.mark.parametrize("event", [EventType.MESSAGES_UPSERT, EventType.SEND_MESSAGE, EventType.MESSAGES_SET])
def test_the_keys_of_media_and_polls_stay_in_the_contents_of_messages(event):
    """Without them nobody could decrypt media or count the votes of a poll."""
    image = {"imageMessage": {"mediaKey": {"0": 1, "1": 2}, "caption": "see"}}
    content = {"messageContextInfo": {"messageSecret": "c2VjcmV0"}, "ephemeralMessage": {"message": image}}
    data = {"key": {"id": "A"}, "message": content}
    assert event.scrub([data]) == [data]

    edit = {"type": "MESSAGE_EDIT", "editedMessage": content}
    assert EventType.MESSAGES_EDITED.scrub(edit) == edit
    assert event.scrub({"message": {"protocolMessage": edit}}) == {"message": {"protocolMessage": edit}}


def test_a_message_without_keys_is_unchanged():
    data = {"key": {"id": "A", "fromMe": False}, "message": {"conversation": "my apikey is 5"}, "n": [1, None, True]}
    assert EventType.MESSAGES_UPSERT.scrub(data) == data


def test_the_page_of_the_events_is_the_catalogue():
    assert (ROOT / "docs" / "events.md").read_text() == document(), "run `make events`"


@pytest.mark.parametrize("event", EventType)
def test_every_event_type_has_a_description_and_a_sample_without_secrets(event):
    assert event.label.endswith(".")
    assert event.scrub(event.sample(EXAMPLE)) == event.sample(EXAMPLE)


@pytest.mark.parametrize("event", EventType)
def test_the_sample_of_an_event_is_as_its_schema_says(event):
    validator = jsonschema_rs.validator_for(event.schema, validate_formats=True)
    assert [error.message for error in validator.iter_errors(event.sample(EXAMPLE))] == []


@pytest.mark.parametrize("event", EventType)
def test_every_member_of_a_schema_has_a_description(event):
    def undescribed(schema, path):
        if isinstance(schema, list):
            return [found for part in schema for found in undescribed(part, path)]
        names = schema.get("properties", {})
        missing = [f"{path}.{name}" for name, member in names.items() if not member.get("description")]
        parts = [(name, member) for name, member in names.items()] + [
            (key, schema[key]) for key in ("items", "anyOf", "additionalProperties") if schema.get(key)
        ]
        return missing + [found for name, part in parts for found in undescribed(part, f"{path}.{name}")]

    assert undescribed(event.schema, event.value) == []
