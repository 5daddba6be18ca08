"""POST /webhook/meta: payloads are authenticated by Meta's signature, and stored and emitted completely, once."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instances.changes import InboundMessage, Notice
from instances.crypto import Secret
from instances.events import event_occurred
from instances.models import Chat, Contact, Instance, Message
from instances.providers.base import InvalidPayload
from instances.providers.cloud_api import CloudApi
from instances.providers.cloud_api_ingress import is_signed
from realtime.log.models import Event
from tests.clients.node import NodeSocket
from tests.environment import APP_SECRET, VERIFY_TOKEN
from tests.server import ROOT, Number, Server

PAYLOADS = Path(__file__).with_name("payloads")
ANA = "5511988887777@s.whatsapp.net"
NUMBER, OTHER_NUMBER = "106540352242922", "106540352249999"
BUSINESS, OTHER_BUSINESS = "102290129340398", "102290129349999"


def payload(name: str, number: str = NUMBER, other: str = OTHER_NUMBER) -> bytes:
    """Return the bytes of a sample payload, escaped as Meta escapes, for a number of the test's own."""
    body = (PAYLOADS / f"{name}.json").read_bytes()
    for placeholder, value in {
        b"PHONE_NUMBER_ID": number,
        b"OTHER_NUMBER_ID": other,
        b"OTHER_BUSINESS_ID": OTHER_BUSINESS,
        b'"BUSINESS_ID"': f'"{business_of(number)}"',
    }.items():
        body = body.replace(placeholder, value.encode())
    return body


def business_of(number: str) -> str:
    return BUSINESS if number == NUMBER else f"1{number}"


def value_with(number: str = NUMBER, field: str = "messages", **members: Any) -> dict[str, Any]:
    """Return a payload with one value of these members."""
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": number}} | members
    entry = {"id": business_of(number), "changes": [{"field": field, "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def text(id: Any = "wamid.1", **members: Any) -> dict[str, Any]:
    sent = {"from": "5511988887777", "id": id, "timestamp": "1761057627", "type": "text", "text": {"body": "oi"}}
    return {name: value for name, value in (sent | members).items() if value is not None}


def parse(body: Any) -> list[Any]:
    return CloudApi().parse(body if isinstance(body, bytes) else json.dumps(body).encode(), {})


# The signature


def test_the_signature_is_that_of_the_raw_bytes():
    body = rb'{"object":"whatsapp_business_account","note":"\u00e9 \/ ok"}'
    signature = "sha256=a53d24a2599a603c5946616b63b1b56396aa89bd7d0bf6283f859c68e782d6c6"

    assert is_signed(body, signature, "my-app-secret")
    assert not is_signed(json.dumps(json.loads(body)).encode(), signature, "my-app-secret")
    assert not is_signed(body, signature, "another-secret")
    for wrong in ("", "sha256=", signature.removeprefix("sha256="), signature[:-1], signature.upper(), "sha256=é"):
        assert not is_signed(body, wrong, "my-app-secret")


@pytest.mark.parametrize(
    ("signature", "status"),
    [(None, 401), ("", 403), ("sha256=" + "0" * 64, 403), ("sha1=" + "0" * 40, 403), ("nonsense", 403)],
)
def test_a_body_without_its_signature_is_refused_and_stores_nothing(server, signature, status):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    headers = {} if signature is None else {"X-Hub-Signature-256": signature}

    response = server.post("/webhook/meta", payload("text", instance.number), key=None, headers=headers)

    assert response.status == status
    assert response.json["status"] == status
    assert server.counts(instance) == {"Message": 0, "Contact": 0, "Chat": 0}


def test_a_signature_of_other_bytes_is_refused(server):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    signed = server.post_meta(payload("text", instance.number), secret="another-secret")
    assert (signed.status, signed.json["error"]) == (403, "Forbidden")


def test_no_key_replaces_the_signature(server):
    response = server.post("/webhook/meta", payload("text"))
    assert (response.status, response.json["response"]["message"]) == (401, "Unauthorized")


def test_all_requests_are_refused_without_an_app_secret_and_the_log_names_the_variable(start_server):
    server = start_server(WA_BUSINESS_APP_SECRET="", WA_BUSINESS_TOKEN_WEBHOOK="")

    posted = server.post_meta(payload("text"), secret="")
    asked = server.get("/webhook/meta?hub.mode=subscribe&hub.verify_token=&hub.challenge=1", key=None)

    assert (posted.status, asked.status) == (403, 403)
    log = server.log.read_text()
    assert "WA_BUSINESS_APP_SECRET is not set" in log
    assert "WA_BUSINESS_TOKEN_WEBHOOK is not set" in log


# The verification request


def test_the_challenge_is_returned_as_plain_text(server):
    query = f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=%3Cb%3E1158201444"
    response = server.get(f"/webhook/meta?{query}", key=None)
    assert (response.status, response.body) == (200, b"<b>1158201444")
    assert response.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hub.mode=subscribe&hub.challenge=1",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=%C3%A9",
        f"hub.mode=unsubscribe&hub.challenge=1&hub.verify_token={VERIFY_TOKEN}",
        f"hub.challenge=1&hub.verify_token={VERIFY_TOKEN}",
    ],
)
def test_a_wrong_verification_request_gets_no_challenge(server, query):
    response = server.get(f"/webhook/meta?{query}", key=None)
    assert (response.status, response.json["error"]) == (403, "Forbidden")
    assert VERIFY_TOKEN not in response.body.decode()


# From bytes to changes


def test_a_text_keeps_its_accents_and_emoji():
    [message] = parse(payload("text"))

    assert message == InboundMessage(
        number=NUMBER,
        id="wamid.TEXT",
        remote_jid=ANA,
        push_name="Ana Conceição 🌻",
        type="conversation",
        content={"conversation": "Olá! Amanhã às 10h? 😀 https://loja.example/a"},
        timestamp=1761057627,
        own_phone="5511944440000",
    )


def test_a_batch_is_read_over_entries_changes_and_messages_in_metas_order():
    changes = parse(payload("batch"))

    assert [(change.number, change.id) for change in changes] == [
        (NUMBER, "wamid.B1"),
        (NUMBER, "wamid.B2"),
        (NUMBER, "wamid.B3"),
        (NUMBER, "wamid.OUT"),
        (OTHER_NUMBER, "wamid.B4"),
        (NUMBER, "wamid.B5"),
    ]
    assert [change.push_name for change in changes if isinstance(change, InboundMessage)] == [
        "Ana Conceição 🌻",
        "Bruno",
        "Ana Conceição 🌻",
        "Ana Conceição 🌻",
        "Bruno",
    ]


@pytest.fixture(scope="module")
def every_type() -> dict[str, InboundMessage]:
    return {message.id.removeprefix("wamid."): message for message in parse(payload("every_type"))}


@pytest.mark.parametrize(
    ("id", "message_type", "member"),
    [
        ("IMAGE", "imageMessage", {"caption": "A vitrine, à noite", "id": "1479537139650973"}),
        ("VIDEO", "videoMessage", {"mime_type": "video/mp4"}),
        ("DOCUMENT", "documentMessage", {"filename": "orçamento.pdf"}),
        ("STICKER", "stickerMessage", {"animated": False}),
        ("VOICE", "audioMessage", {"ptt": True}),
        ("AUDIO", "audioMessage", {"ptt": False}),
        ("LOCATION", "locationMessage", {"degreesLatitude": -23.5505, "name": "Praça da Sé"}),
        ("CONTACT", "contactMessage", {"displayName": "José Antônio"}),
        ("CONTACTS", "contactsArrayMessage", {"displayName": "2 contacts"}),
        ("REACTION", "reactionMessage", {"key": {"id": "wamid.TEXT"}, "text": "❤️"}),
        ("UNREACTION", "reactionMessage", {"key": {"id": "wamid.TEXT"}}),
        ("BUTTON_REPLY", "interactiveMessage", {"button_reply": {"id": "sim-1", "title": "Sim"}}),
        ("LIST_REPLY", "interactiveMessage", {"type": "list_reply"}),
        ("FLOW_REPLY", "interactiveMessage", {"type": "nfm_reply"}),
        ("BUTTON", "buttonMessage", {"payload": "PARAR", "text": "Não quero mais"}),
    ],
)
def test_each_type_has_evolutions_name_and_form(every_type, id, message_type, member):
    message = every_type[id]
    assert message.type == message_type
    assert message.content[message_type].items() >= member.items()


def test_the_title_of_a_reply_reads_as_a_conversation(every_type):
    titles = {id: every_type[id].content.get("conversation") for id in ("BUTTON_REPLY", "LIST_REPLY", "BUTTON")}
    assert titles == {"BUTTON_REPLY": "Sim", "LIST_REPLY": "Grande", "BUTTON": "Não quero mais"}


def test_a_contact_card_is_a_vcard(every_type):
    assert every_type["CONTACT"].content["contactMessage"]["vcard"].split("\n") == [
        *("BEGIN:VCARD", "VERSION:3.0", "N:José Antônio", "FN:José Antônio", "ORG:Padaria São Bento;"),
        *("EMAIL:jose@padaria.example", "URL:https://padaria.example"),
        *("item1.TEL;waid=5511977776666:+55 11 97777-6666", "item1.X-ABLabel:Celular", "END:VCARD"),
    ]
    cards = every_type["CONTACTS"].content["contactsArrayMessage"]["contacts"]
    assert [card["displayName"] for card in cards] == ["José Antônio", "Só o nome"]


def test_a_reply_names_the_message_it_replies_to(every_type):
    context = {"stanzaId": "wamid.ASKED", "from": "5511944440000", "forwarded": True}
    assert every_type["REPLY"].context == context
    assert every_type["REPLY"].content == {"conversation": "às dez", "contextInfo": context}


@pytest.mark.parametrize(
    ("id", "content"),
    [
        ("ORDER", {"order": {"catalog_id": "C1"}}),
        ("SYSTEM", {"system": {"type": "user_changed_number"}}),
        ("UNSUPPORTED", {"unsupported": {"type": "poll"}}),
        ("WELCOME", {}),
        ("FUTURE", {"hologram": {"depth": 3, "colours": ["blue"]}}),
    ],
)
def test_a_type_that_evolution_does_not_know_is_kept_completely(every_type, id, content):
    message = every_type[id]
    assert message.type == "unknown"
    assert list(message.content) == list(content)
    for member, known in content.items():
        assert message.content[member].items() >= known.items()


@pytest.mark.parametrize(
    "type_",
    [
        "request_welcome",
        "unsupported",
        "system",
        "order",
        "ephemeral",
        "group_invite",
        "poll",
        "text",
        "hologram",
        ["text"],
    ],
)
def test_the_name_of_a_type_without_a_counterpart_is_announced(type_):
    [message] = parse(value_with(messages=[text(type=type_, text=None)]))
    assert (message.type, message.content, message.extra["type"]) == ("unknown", {}, type_)
    [history] = parse(value_with(history=[{"threads": [{"messages": [text(type=type_, text=None)]}]}]))
    assert history.data[0]["type"] == type_


def test_a_known_type_has_no_name_of_metas(every_type):
    assert {id for id, message in every_type.items() if "type" in message.extra} == {
        *("ORDER", "SYSTEM", "UNSUPPORTED", "WELCOME", "FUTURE"),
    }


def test_a_status_and_a_field_that_are_new_are_announced_by_name():
    [report] = parse(
        value_with(statuses=[{"id": "wamid.1", "status": "boosted", "type": "payment", "payment": {"x": 1}}])
    )
    assert (report.status, report.extra["type"], report.extra["payment"]) == ("BOOSTED", "payment", {"x": 1})
    changes = parse(value_with(field="standby", messages=[text()], statuses=[{"id": "wamid.2", "status": "sent"}]))
    assert [change.extra["field"] for change in changes] == ["standby", "standby"]
    [update] = parse(value_with(field="hologram_update", hologram=1))
    assert update.data["field"] == "hologram_update"


def test_members_besides_the_content_are_kept(every_type):
    assert every_type["AD"].extra["referral"]["source_id"] == "ADID"
    assert every_type["FUTURE"].extra == {"mood": {"is": "good"}, "type": "hologram"}
    assert every_type["UNSUPPORTED"].extra["errors"][0]["code"] == 131051


def test_status_updates_keep_all_members_of_metas():
    reports = parse(payload("statuses"))

    assert [(report.id, report.status) for report in reports] == [
        *(("wamid.OUT", "SENT"), ("wamid.OUT", "DELIVERED"), ("wamid.OUT", "READ"), ("wamid.OUT2", "FAILED")),
        *(("wamid.OUT3", "READ"), ("wamid.OUT3", "READ")),
    ]
    sent, failed, in_group = reports[0].as_event(), reports[3].as_event(), reports[4].as_event()
    assert sent["pricing"]["category"] == "service"
    assert (sent["biz_opaque_callback_data"], sent["messageTimestamp"]) == ("pedido 7", 1761057700)
    assert (sent["keyId"], sent["remoteJid"], sent["participant"], sent["fromMe"]) == ("wamid.OUT", ANA, ANA, True)
    assert failed["errors"][0]["error_data"] == {"details": "More than 24 hours have passed"}
    assert in_group["remoteJid"] == "120363040000000000@g.us"
    assert in_group["participant"] == "5521977776666@s.whatsapp.net"
    assert len({report.dedupe_key for report in reports}) == len(reports)


def test_people_without_a_phone_number_have_a_jid_of_their_user_id():
    named, by_contact = parse(payload("username"))
    for message in (named, by_contact):
        assert message.remote_jid == "BR.13491208655302741918@lid"
        assert message.push_name == "Zoë"
        assert message.extra["contact"] == {"username": "@zoe", "user_id": "BR.13491208655302741918"}


CONTACT = {"username": "@zoe", "user_id": "BR.134", "parent_user_id": "BR.ENT.99"}


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [text()]},
        {"message_echoes": [text(**{"from": "5511944440000", "to": "5511988887777"})]},
        {"statuses": [{"id": "wamid.OUT", "status": "delivered", "recipient_id": "5511988887777"}]},
        {"statuses": [{"id": "wacid.1", "type": "call", "status": "RINGING", "recipient_id": "5511988887777"}]},
        {"calls": [{"id": "wacid.2", "from": "5511988887777", "event": "connect", "timestamp": "1761057627"}]},
        {"calls": [{"id": "wacid.3", "from": "5511944440000", "to_user_id": "BR.134", "event": "terminate"}]},
    ],
    ids=["a message", "an echo", "a status", "a status of a call", "a call", "a call to a person without a number"],
)
def test_usernames_and_user_ids_are_told_in_the_contact(members):
    profile = {"name": "Zoë", "username": "@zoe"}
    of_zoe = {"profile": profile, "wa_id": "5511988887777", "user_id": "BR.134", "parent_user_id": "BR.ENT.99"}
    others = [{"profile": {"name": "Bia", "username": "@bia"}, "wa_id": "5521977776666", "user_id": "BR.777"}]

    [change] = parse(value_with(contacts=[*others, of_zoe], **members))

    data = change.data if isinstance(change, Notice) else change.extra
    assert data["contact"] == CONTACT


def test_a_chat_has_both_addresses_where_both_are_known():
    contact = {"wa_id": "5511988887777", "user_id": "BR.134"}
    for members in (
        {"messages": [text()], "contacts": [contact]},
        {"messages": [text(from_user_id="BR.134")]},
        {"message_echoes": [text(**{"from": "5511944440000", "to": "5511988887777", "to_user_id": "BR.134"})]},
    ):
        [message] = parse(value_with(**members))
        assert (message.remote_jid, message.remote_jid_alt) == (ANA, "BR.134@lid")
    alone = parse(value_with(messages=[text()])) + parse(value_with(messages=[text(group_id="1")], contacts=[contact]))
    assert [message.remote_jid_alt for message in alone] == [None, None]


def test_a_message_needs_no_contacts_and_no_sender():
    no_contact, nobody = parse(value_with(messages=[text()])) + parse(value_with(messages=[text(**{"from": None})]))
    assert (no_contact.remote_jid, no_contact.push_name) == (ANA, None)
    assert (nobody.remote_jid, nobody.push_name) == ("unknown@lid", None)


def test_an_edit_and_a_revocation_are_messages_and_announce_the_change_of_another():
    changes = parse(payload("edit_and_revoke"))
    messages = [change for change in changes if isinstance(change, InboundMessage)]
    notices = {change.event_type: change.data for change in changes[:4] if isinstance(change, Notice)}

    assert [message.id for message in messages] == ["wamid.EDIT", "wamid.REVOKE", "wamid.GROUP_REVOKE"]
    key = {"remoteJid": ANA, "fromMe": False, "id": "wamid.TEXT"}
    assert notices["messages.delete"] == key
    assert notices["messages.edited"]["key"] == key
    assert notices["messages.edited"]["editedMessage"]["conversation"] == "Olá! Às 11h é melhor"
    assert changes[-1].data == {
        "remoteJid": "120363040000000000@g.us",
        "fromMe": False,
        "id": "wamid.GROUP_TEXT",
        "participant": ANA,
    }


def test_messages_sent_from_the_owners_phone_are_from_me():
    echo, revoke, deletion = parse(payload("echoes"))
    assert (echo.remote_jid, echo.from_me, echo.content) == (ANA, True, {"conversation": "Do próprio celular"})
    assert (revoke.id, revoke.from_me) == ("wamid.ECHO_REVOKE", True)
    assert deletion.data == {"remoteJid": ANA, "fromMe": True, "id": "wamid.ECHO"}


def test_a_history_is_one_messages_set():
    [notice] = parse(payload("history"))

    assert notice.event_type == "messages.set"
    mine, placeholder, theirs, refusal = notice.data
    assert mine["key"] == {"remoteJid": ANA, "fromMe": True, "id": "wamid.H1"}
    assert (mine["message"], mine["status"]) == ({"conversation": "Já está pronto"}, "READ")
    assert (placeholder["messageType"], placeholder["key"]["fromMe"]) == ("unknown", False)
    assert theirs["key"]["remoteJid"] == "5521977776666@s.whatsapp.net"
    assert refusal["errors"][0]["code"] == 2593109


def test_each_step_of_a_call_is_announced():
    notices = parse(payload("calls"))

    assert {notice.event_type for notice in notices} == {"call"}
    assert [(notice.data["id"], notice.data["status"]) for notice in notices] == [
        *(("wacid.IN", "connect"), ("wacid.IN", "COMPLETED"), ("wacid.OUT", "RINGING"), ("wacid.OUT", "ACCEPTED")),
    ]
    assert notices[0].data["chatId"] == ANA
    assert notices[0].data["session"] == {"sdp_type": "offer", "sdp": "v=0"}
    assert notices[1].data["errors"] == [{"code": 138012, "message": "Limit reached"}]
    assert len({notice.dedupe_key for notice in notices}) == 4


def test_a_business_update_carries_the_data_of_metas():
    restriction, quality = parse(payload("account"))

    assert (restriction.event_type, restriction.number, restriction.business_id) == ("business.update", None, BUSINESS)
    assert restriction.data["field"] == "account_update"
    assert restriction.data["value"]["restriction_info"][0]["expiration"] == "1761662427"
    assert quality.data["value"]["message_template_name"] == "promoção"


def test_an_equal_business_update_at_another_time_is_no_repeat():
    first = json.loads(payload("account"))
    again = json.loads(payload("account"))
    again["entry"][0]["time"] += 86400

    keys = [change.dedupe_key for change in parse(first) + parse(first) + parse(again)]

    assert keys[0:2] == keys[2:4]
    assert not set(keys[0:2]) & set(keys[4:6])


def test_errors_of_all_three_levels_are_announced():
    of_the_number, message, status = parse(payload("errors"))
    assert of_the_number.data["value"]["errors"][0]["code"] == 130429
    assert [error["code"] for error in message.extra["errors"]] == [131060, 131051]
    assert [error["code"] for error in status.as_event()["errors"]] == [131000, 131026]


def test_a_repeat_of_a_message_without_an_id_is_recognized_by_its_content():
    first, again, other = (
        parse(value_with(messages=[text(id=id, text={"body": body})]))[0]
        for id, body in ((None, "a"), (None, "a"), (None, "b"))
    )
    assert first.id == again.id != other.id


def test_payloads_of_other_products_are_ignored():
    assert parse({"object": "instagram", "entry": [{"id": "1"}]}) == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"[]", "JSON object"),
    ],
)
def test_the_error_of_an_invalid_body_names_the_member(body, named):
    with pytest.raises(InvalidPayload) as refusal:
        parse(body)
    assert named in str(refusal.value)


#: Values whose members are partly unreadable: the ids that are read, those members, and their paths in the value.
PARTLY_READABLE = {
    "a null": ({"messages": [text("1"), None, text("2")]}, ["1", "2"], {"messages": [None]}, ["messages[1]"]),
    "all types": (
        {"messages": [5, "x", [], True, text("1"), 1.5]},
        ["1"],
        {"messages": [5, "x", [], True, 1.5]},
        ["messages[0]", "messages[1]", "messages[2]", "…"],
    ),
    "no list": ({"messages": {}, "statuses": [{"id": "1"}]}, ["1"], {"messages": [{}]}, ["messages"]),
    "statuses": (
        {"statuses": [None, {"id": "1"}, "x"]},
        ["1"],
        {"statuses": [None, "x"]},
        ["statuses[0]", "statuses[2]"],
    ),
    "no statuses": ({"statuses": 5, "messages": [text("1")]}, ["1"], {"statuses": [5]}, ["statuses"]),
    "contacts": ({"contacts": [None, {}], "messages": [text("1")]}, ["1"], {"contacts": [None]}, ["contacts[0]"]),
    "no contacts": ({"contacts": "x", "messages": [text("1")]}, ["1"], {"contacts": ["x"]}, ["contacts"]),
    "echoes": ({"message_echoes": [text("1"), 5]}, ["1"], {"message_echoes": [5]}, ["message_echoes[1]"]),
}


@pytest.mark.parametrize(("value", "ids", "members", "paths"), PARTLY_READABLE.values(), ids=PARTLY_READABLE)
def test_a_member_that_is_unreadable_keeps_no_other_from_being_announced(caplog, value, ids, members, paths):
    *read, unread = parse(value_with(**value))
    count = sum(map(len, members.values()))

    assert [change.id for change in read] == ids
    assert (unread.event_type, unread.number) == ("business.update", NUMBER)
    assert unread.data == {"field": "messages", "value": members, "businessId": BUSINESS, "unreadable": count}
    [line] = caplog.messages
    named = ", ".join(path if path == "…" else f"entry[0].changes[0].value.{path}" for path in paths)
    assert line == f"Members of Meta's payload could not be read: {count} ({named})"


def test_a_history_that_is_partly_unreadable_is_announced():
    threads = [None, {"id": "5511988887777", "messages": [text("1"), None]}, {"messages": 5}]
    history, unread = parse(value_with(history=[5, {"threads": threads}]))
    assert [message["key"]["id"] for message in history.data] == ["1"]
    assert unread.data["value"] == {"history": [5], "threads": [None], "messages": [None, 5]}
    assert unread.data["unreadable"] == 4


def test_a_value_without_anything_readable_is_announced_as_it_is():
    [update] = parse(value_with(messages=[None], errors=[{"code": 1}]))
    assert (update.data["value"]["messages"], update.data["value"]["errors"]) == ([None], [{"code": 1}])
    assert update.data["unreadable"] == 1


def test_entries_and_changes_that_are_unreadable_keep_no_other_from_being_announced(caplog):
    good = value_with(messages=[text("1")])["entry"][0]
    broken = {"id": BUSINESS, "changes": [None, {"field": "account_update", "value": None}, *good["changes"], {}]}
    entries = [None, 5, broken, {"id": OTHER_BUSINESS}, {"id": "7", "changes": {}}, good]

    message, of_first, of_second, of_third, again = parse({"object": "whatsapp_business_account", "entry": entries})

    assert (message.id, again.id) == ("1", "1")
    assert (of_first.business_id, of_first.data) == (
        BUSINESS,
        {
            "field": None,
            "value": {"changes": [None, {"field": "account_update", "value": None}, {}]},
            "businessId": BUSINESS,
            "unreadable": 3,
        },
    )
    assert (of_second.business_id, of_second.data["value"]) == (OTHER_BUSINESS, {"changes": [None]})
    assert (of_third.business_id, of_third.data["value"]) == ("7", {"changes": [{}]})
    [line] = caplog.messages
    assert line.endswith(": 7 (entry[0], entry[1], entry[2].changes[0], …)")


@pytest.mark.parametrize("entry", [None, {}, 5, "x"])
def test_a_body_without_entries_is_logged(caplog, entry):
    assert parse({"object": "whatsapp_business_account", "entry": entry}) == []
    assert caplog.messages == ["Members of Meta's payload could not be read: 1 (entry)"]


# From changes to rows and events


@pytest.fixture
def instance(db) -> Instance:
    return Instance.objects.create(
        name="loja",
        integration="WHATSAPP-BUSINESS",
        number=NUMBER,
        business_id=BUSINESS,
        provider_token=Secret("graph-token"),
    )


def send(body: Any) -> Any:
    """Post a payload, signed as Meta signs, to the Django view; returns the response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = hmac.new(APP_SECRET.encode(), content, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={signature}"}
    return Client().post("/webhook/meta", content, content_type="application/json", headers=headers)


def post(body: Any) -> None:
    """Post a payload that is accepted."""
    response = send(body)
    assert (response.status_code, response.json()) == (200, {"status": "success"})


def logged(instance: Instance) -> list[dict[str, Any]]:
    """Return the envelopes of an instance's events since its creation."""
    rows = Event.objects.filter(instance_id=instance.pk).order_by("seq")
    return [orjson.loads(bytes(row.envelope)) for row in rows][1:]


def test_a_message_is_stored_with_its_contact_and_chat(instance):
    post(payload("text"))

    stored = Message.objects.get(instance=instance)
    assert (stored.wa_id, stored.remote_jid, stored.from_me) == ("wamid.TEXT", ANA, False)
    assert stored.content == {"conversation": "Olá! Amanhã às 10h? 😀 https://loja.example/a"}
    assert stored.timestamp == 1761057627
    assert Contact.objects.get(instance=instance).push_name == "Ana Conceição 🌻"
    assert Chat.objects.get(instance=instance).remote_jid == ANA
    assert [event["event"] for event in logged(instance)] == ["messages.upsert", "contacts.upsert"]


def test_every_type_is_stored_and_announced_completely(instance):
    post(payload("every_type"))

    given = json.loads(payload("every_type"))["entry"][0]["changes"][0]["value"]["messages"]
    announced = {event["data"]["key"]["id"]: event["data"] for event in logged(instance) if "key" in event["data"]}
    assert Message.objects.filter(instance=instance).count() == len(given) == len(announced)
    for raw in given:
        text_of_it = json.dumps(announced[raw["id"]], ensure_ascii=False)
        lost = [word for word in _words(raw.get(raw["type"])) if word not in text_of_it]
        assert not lost, (raw["type"], lost)


def _words(value: Any) -> list[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, dict):
        return [word for inner in value.values() for word in _words(inner)]
    if isinstance(value, list):
        return [word for inner in value for word in _words(inner)]
    return [json.dumps(value, ensure_ascii=False).strip('"')] if isinstance(value, str) else []


def test_a_known_contact_is_updated_not_announced_anew(instance):
    post(payload("text"))
    post(value_with(messages=[text("wamid.2")], contacts=[{"profile": {"name": "Ana Lima"}, "wa_id": "5511988887777"}]))

    assert [event["event"] for event in logged(instance)][2:] == ["messages.upsert", "contacts.update"]
    assert Contact.objects.get(instance=instance).push_name == "Ana Lima"


def test_the_furthest_tick_is_kept(instance):
    Message.objects.create(
        instance=instance, wa_id="wamid.OUT", remote_jid=ANA, type="conversation", content={}, timestamp=1, from_me=True
    )
    late = json.loads(payload("statuses"))
    late["entry"][0]["changes"][0]["value"]["statuses"].reverse()
    post(late)

    assert Message.objects.get(wa_id="wamid.OUT").status == "READ"
    announced = [event["data"] for event in logged(instance)]
    assert {data["instanceId"] for data in announced} == {str(instance.pk)}
    assert len(announced) == 6, "statuses of unknown messages are announced, too"


def test_a_second_delivery_changes_nothing(instance):
    names = sorted(path.stem for path in PAYLOADS.glob("*.json"))
    for name in names:
        post(payload(name))
    before = logged(instance), list(Message.objects.values_list("wa_id", "status"))
    for name in names:
        post(payload(name))
    assert (logged(instance), list(Message.objects.values_list("wa_id", "status"))) == before


def test_a_batch_that_fails_half_way_stores_nothing(instance):
    def fail(data: Any, **kwargs: Any) -> None:
        if data.get("key", {}).get("id") == "wamid.B3":
            raise RuntimeError("a receiver of the signal has failed")

    event_occurred.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            post(payload("batch"))
    finally:
        event_occurred.disconnect(fail)

    assert logged(instance) == []
    assert not Message.objects.exists()
    post(payload("batch"))  # Meta delivers it again
    assert Message.objects.count() == 4


def test_the_instances_own_phone_is_stored(instance):
    post(payload("text"))
    instance.refresh_from_db()
    assert instance.owner_jid == "5511944440000@s.whatsapp.net"


def test_a_business_update_is_announced_for_all_numbers_of_the_business_and_no_other(instance):
    second = Instance.objects.create(
        name="filial", integration="WHATSAPP-BUSINESS", number=OTHER_NUMBER, business_id=BUSINESS
    )
    others = [
        Instance.objects.create(name="alheia", integration="WHATSAPP-BUSINESS", number="1", business_id="2"),
        Instance.objects.create(name="sem", integration="WHATSAPP-BUSINESS", number="2"),
        Instance.objects.create(name="evolution", integration="EVOLUTION", number="3", business_id=BUSINESS),
    ]

    post(payload("account"))

    for number in (instance, second):
        assert [event["event"] for event in logged(number)] == ["business.update"] * 2
    assert not any(logged(number) for number in others)


def test_a_change_without_a_number_and_a_business_is_dropped(db):
    lone = Instance.objects.create(name="sem", integration="WHATSAPP-BUSINESS", number=NUMBER)
    body = value_with(messages=[text()])
    body["entry"].append({"changes": [{"field": "account_update", "value": {"event": "DISABLED_UPDATE"}}]})
    post(body)
    assert [event["event"] for event in logged(lone)] == ["messages.upsert", "contacts.upsert"]


def test_members_of_metas_own_do_not_replace_evolutions(instance):
    post(value_with(messages=[text(key="theirs", instanceId="theirs", messageType="theirs", mood="good")]))
    data = logged(instance)[0]["data"]
    assert data["key"] == {"remoteJid": ANA, "fromMe": False, "id": "wamid.1"}
    assert (data["instanceId"], data["messageType"], data["mood"]) == (str(instance.pk), "conversation", "good")


LONG = "9" * 5000
NUL = "a\x00b"
DEEP = json.loads("[" * 60 + "]" * 60)


@pytest.mark.made_up_events
@pytest.mark.parametrize(
    "value",
    [
        {"messages": [text(id=5)]},
        {"messages": [text(id={"deep": DEEP})]},
        {"messages": [text(id=LONG)]},
        {"messages": [text(id=NUL)]},
        {"messages": [text(id="")]},
        {"messages": [text(**{"from": 5511988887777})]},
        {"messages": [text(**{"from": LONG})]},
        {"messages": [text(**{"from": f"{LONG}@s.whatsapp.net"})]},
        {"messages": [text(**{"from": f"{NUL}@s.whatsapp.net"})]},
        {"messages": [text(**{"from": True})]},
        {"messages": [text(group_id=LONG)]},
        {"messages": [text(group_id=NUL)]},
        {"messages": [text(timestamp="soon")]},
        {"messages": [text(timestamp=1761057627)]},
        {"messages": [text(timestamp="-5")]},
        {"messages": [text(timestamp=LONG)]},
        {"messages": [text(timestamp="9" * 30)]},
        {"messages": [text(timestamp=[])]},
        {"messages": [text(type=None)]},
        {"messages": [text(type=["text"])]},
        {"messages": [text(type=LONG)]},
        {"messages": [text(type="id")]},
        {"messages": [text(text="oi")]},
        {"messages": [text(text={"body": None})]},
        {"messages": [text(text={"body": NUL})]},
        {"messages": [text(text={"body": DEEP})]},
        {"messages": [text(type="contacts", contacts={"name": "x"})]},
        {"messages": [text(type="contacts", contacts=[5, {"name": 5, "phones": [5, {}], "org": 5}])]},
        {"messages": [text(type="interactive", interactive={"type": {}})]},
        {"messages": [text(context="x")]},
        {"messages": [text(context={"id": DEEP})]},
        {"messages": [text(errors={"code": 1})], "errors": [{"code": 2}]},
        {"messages": [text()], "errors": "x"},
        {"messages": [text(type="edit", edit={"original_message_id": DEEP, "message": "x"})]},
        {"messages": [text(type="revoke", revoke={"original_message_id": LONG})]},
        {"messages": [text()], "contacts": 5},
        {"messages": [text()], "contacts": "x"},
        {"messages": [text()], "contacts": {"wa_id": "5511988887777"}},
        {"messages": [text()], "contacts": [5, {"wa_id": [], "profile": 5}, {"wa_id": 5511988887777, "user_id": {}}]},
        {"messages": [text()], "contacts": [{"wa_id": "5511988887777", "profile": {"name": NUL * 300}}]},
        {"messages": [text()], "contacts": [{"wa_id": "5511988887777", "profile": {"name": 5}}]},
        {"messages": [text()], "metadata": {"phone_number_id": NUMBER, "display_phone_number": LONG}},
        {"messages": [text()], "metadata": {"phone_number_id": int(NUMBER), "display_phone_number": [5]}},
        {"messages": [text()], "metadata": {"phone_number_id": NUL}},
        {"messages": [text()], "metadata": {"phone_number_id": LONG}},
        {"messages": [text()], "metadata": "x"},
        {"messages": []},
        {"statuses": [{}]},
        {"statuses": [{"id": NUL, "status": NUL, "recipient_id": NUL}]},
        {"statuses": [{"id": LONG, "status": LONG, "recipient_id": LONG, "recipient_participant_id": LONG}]},
        {"statuses": [{"id": 5, "status": {"a": DEEP}, "recipient_id": {}, "timestamp": {}}]},
        {"statuses": [{"id": "x", "status": "ß" * 40, "recipient_type": "group", "recipient_id": LONG}]},
        {"statuses": [{"type": "call", "id": DEEP, "recipient_id": LONG}]},
        {"calls": [{}]},
        {"calls": [{"id": LONG, "event": NUL, "timestamp": DEEP, "from": LONG}]},
        {"message_echoes": [text(to=LONG), text(to={}, type="revoke", revoke={"original_message_id": 5})]},
        {"history": []},
        {"history": [{}]},
        {"history": [{"threads": 5}]},
        {"history": [{"threads": ["x", {}, {"id": LONG, "messages": 5}, {"id": [], "messages": [5, {}]}]}]},
        {"history": [{"threads": [{"messages": [text(history_context="x", timestamp=None, **{"from": {}})]}]}]},
        {},
    ],
)
def test_odd_values_are_accepted(instance, value):
    body = value_with(**value)

    post(body)
    before = logged(instance)
    post(body)

    assert logged(instance) == before, "a repeat is recognized"
    for message in Message.objects.filter(instance=instance):
        message.as_event()


def test_half_an_emoji_is_accepted(instance):
    post(payload("text").replace(rb"\ud83d\ude00", rb"\ud83d"))
    assert "10h? ? https" in Message.objects.get().content["conversation"]


names = st.sampled_from(
    [
        *("messages", "statuses", "contacts", "calls", "history", "errors", "message_echoes", "id", "from", "to"),
        *("type", "text", "body", "timestamp", "group_id", "context", "edit", "revoke", "message"),
        *("original_message_id", "threads", "history_context", "status", "recipient_id", "recipient_type"),
        *("recipient_participant_id", "wa_id", "user_id", "from_user_id", "profile", "name", "image"),
        *("interactive", "button", "reaction", "location", "title", "event", "pricing", "referral", "org"),
        *("phones", "emails"),
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
words = st.sampled_from(["text", "edit", "revoke", "contacts", "interactive", "call", "group", NUMBER, "5511988887777"])
values = st.recursive(
    scalars | words | st.text(max_size=20) | st.just(LONG),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
    max_leaves=25,
)
items = st.lists(st.dictionaries(names, values, max_size=8), max_size=3)
members = st.dictionaries(names, items | values, max_size=6)


@pytest.mark.slow
@pytest.mark.made_up_events
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(value=members)
def test_any_signed_payload_is_accepted_or_refused_with_400(instance, value):
    body = orjson.dumps(value_with() | {"entry": [{"id": BUSINESS, "changes": [{"value": {"metadata": {}} | value}]}]})
    aimed = orjson.dumps(value_with(**value))
    for payload in (body, aimed):
        response = send(payload)
        assert response.status_code in (200, 400), response.content


# Through the running server


@pytest.fixture
def number(server) -> Number:
    number = str(secrets.randbelow(10**14) + 10**14)
    return server.create(integration="WHATSAPP-BUSINESS", number=number, businessId=business_of(number))


@pytest.fixture
def client(server, node, number) -> NodeSocket:
    return node.connect(f"{server.url}/{number.name}", auth={"apikey": number.token}).connected()


def received(server: Server, client: NodeSocket, number: Number) -> list[dict[str, Any]]:
    """Return the events that the client has received so far, in order, up to an event that is posted as a marker."""
    marker = secrets.token_hex(8)
    assert server.post_meta(value_with(number.number, field="marker", marker=marker)).status == 200
    events = []
    while True:
        event = client.wait_for("event")["args"][0]
        if event["event"] == "business.update" and event["data"]["value"].get("marker") == marker:
            return events
        events.append(event)


def test_a_text_in_metas_own_escapes_is_emitted_and_stored(server, number, client):
    response = server.post_meta(payload("text", number.number))

    assert (response.status, response.json) == (200, {"status": "success"})
    upsert, contact = received(server, client, number)
    assert upsert["event"] == "messages.upsert"
    assert upsert["instance"] == number.name
    assert upsert["data"] == {
        "key": {"remoteJid": ANA, "fromMe": False, "id": "wamid.TEXT"},
        "pushName": "Ana Conceição 🌻",
        "message": {"conversation": "Olá! Amanhã às 10h? 😀 https://loja.example/a"},
        "messageType": "conversation",
        "messageTimestamp": 1761057627,
        "instanceId": number.id,
        "source": "unknown",
    }
    assert upsert["apikey"] is None
    assert contact["event"] == "contacts.upsert"
    assert contact["data"] == {"remoteJid": ANA, "pushName": "Ana Conceição 🌻", "instanceId": number.id}
    assert server.counts(number) == {"Message": 1, "Contact": 1, "Chat": 1}


def test_a_replayed_webhook_makes_no_further_event(server, number, client):
    for _ in range(3):
        assert server.post_meta(payload("every_type", number.number)).json == {"status": "success"}

    upserts = [event["data"]["key"]["id"] for event in received(server, client, number) if "message" in event["data"]]
    assert len(upserts) == len(set(upserts)) == 22
    assert server.counts(number)["Message"] == 22


def test_a_webhook_that_arrives_many_times_at_once_makes_one_event(server, number, client):
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: server.post_meta(payload("text", number.number)), range(8)))

    assert [response.json for response in responses] == [{"status": "success"}] * 8
    assert [event["event"] for event in received(server, client, number)] == ["messages.upsert", "contacts.upsert"]


def test_each_event_of_a_batch_is_emitted_to_its_own_instance(server, node, number, client):
    other = server.create(integration="WHATSAPP-BUSINESS")
    other_client = node.connect(f"{server.url}/{other.name}", auth={"apikey": other.token}).connected()

    assert server.post_meta(payload("batch", number.number, other.number)).json == {"status": "success"}

    ids = [
        event["data"]["key"]["id"] for event in received(server, client, number) if event["event"] == "messages.upsert"
    ]
    assert ids == ["wamid.B1", "wamid.B2", "wamid.B3", "wamid.B5"]
    ids = [event["data"]["key"]["id"] for event in received(server, other_client, other) if "key" in event["data"]]
    assert ids == ["wamid.B4"]


def test_statuses_are_emitted_one_by_one(server, number, client):
    server.post_meta(payload("statuses", number.number))

    events = received(server, client, number)
    assert {event["event"] for event in events} == {"messages.update"}
    assert [event["data"]["status"] for event in events] == ["SENT", "DELIVERED", "READ", "FAILED", "READ", "READ"]
    assert events[3]["data"]["errors"][0]["code"] == 131047


def test_a_payload_for_an_unknown_number_is_accepted(server):
    response = server.post_meta(payload("text", "999999999999999"))
    assert (response.status, response.json) == (200, {"status": "success"})


def test_an_evolution_channel_with_that_number_gets_no_message_of_metas(server):
    channel = server.create(integration="EVOLUTION")
    server.post_meta(payload("text", channel.number))
    assert server.counts(channel) == {"Message": 0, "Contact": 0, "Chat": 0}


def test_of_a_batch_that_is_partly_unreadable_the_rest_is_stored_and_emitted(server, number, client):
    """Meta would repeat all of it for days; without a signature of Meta's, nothing of it is taken."""
    other = server.create(integration="WHATSAPP-BUSINESS")
    body = value_with(number.number, messages=[text("1"), None, text("2", text={"body": "private"})])
    body["entry"] += [None, {"id": business_of(number.number), "changes": [None]}]
    body["entry"] += value_with("999999999999999", messages=[text("3"), None])["entry"]
    body["entry"] += value_with(other.number, messages=[text("4")], statuses=5)["entry"]

    for _ in range(2):
        response = server.post_meta(body)
        assert (response.status, response.json) == (200, {"status": "success"})

    events = received(server, client, number)
    assert [event["data"]["key"]["id"] for event in events if event["event"] == "messages.upsert"] == ["1", "2"]
    updates = [event["data"] for event in events if event["event"] == "business.update"]
    assert [(update["value"], update["unreadable"]) for update in updates] == [
        ({"messages": [None]}, 1),
        ({"changes": [None]}, 1),
    ]
    assert server.counts(number)["Message"] == 2
    assert server.counts(other)["Message"] == 1
    lines = [line for line in server.log.read_text().splitlines() if "could not be read: 5 (entry[0]." in line]
    assert len(lines) == 2  # one for each post
    assert "private" not in "".join(lines)
    assert server.request("POST", "/webhook/meta", json.dumps(body).encode(), key=None).status == 401


def test_the_name_of_a_new_type_is_emitted(server, number, client):
    server.post_meta(value_with(number.number, messages=[text("1", type="request_welcome", text=None)]))
    upsert = received(server, client, number)[0]["data"]
    assert (upsert["messageType"], upsert["type"], upsert["message"]) == ("unknown", "request_welcome", {})


FIXTURES = sorted((ROOT.parent / "shared" / "meta_fixtures").glob("*.json"))


@pytest.mark.skipif(not FIXTURES, reason="the published samples are not part of this repository")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_published_sample_is_accepted_emitted_and_recognized_as_a_repeat(server, number, client, path):
    sample = json.loads(path.read_bytes())
    expected: dict[str, set[str]] = {}
    for entry in sample["entry"]:
        entry["id"] = business_of(number.number)
        for value in (change["value"] for change in entry["changes"]):
            if "metadata" in value:
                value["metadata"]["phone_number_id"] = number.number
            for name in ("messages", "message_echoes"):
                expected.setdefault("messages.upsert", set()).update(item["id"] for item in value.get(name, ()))
            ticks = [item for item in value.get("statuses", ()) if item.get("type") != "call"]
            expected.setdefault("messages.update", set()).update(f"{item['id']}" for item in ticks)
    body = json.dumps(sample).encode()

    assert server.post_meta(body).json == {"status": "success"}

    events = received(server, client, number)
    upserts = [event["data"]["key"]["id"] for event in events if event["event"] == "messages.upsert"]
    updates = [event["data"]["keyId"] for event in events if event["event"] == "messages.update"]
    assert sorted(upserts) == sorted(expected["messages.upsert"])
    assert sorted(updates) == sorted(expected["messages.update"])
    assert events, "every sample makes an event"
    assert server.post_meta(body).json == {"status": "success"}
    assert received(server, client, number) == []
