"""Routes that read stored chats, contacts and channels."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.instances.api.rows import ISO
from tests.server import Number, Response, Server

ANA, BIA, GROUP = "5511988887777@s.whatsapp.net", "5511977776666@s.whatsapp.net", "120363000000000001@g.us"
CHANNEL = "120363000000000002@newsletter"


def post(server: Server, instance: Number, route: str, **body) -> Response:
    response = server.post(server.path(route, instance), body, key=instance.token)
    assert response.status == 200, response.body
    return response


def receive(server: Server, instance: Number, jid: str, id: str, **fields) -> None:
    key = {"remoteJid": jid, "id": id, "fromMe": False} | fields.pop("key", {})
    assert server.receive(instance, fields.pop("text", f"text {id}"), key=key, **fields).status == 200


@pytest.fixture(scope="module")
def instance(server: Server) -> Number:
    """An instance with three chats: of Bia, of a group, and of Ana, whose messages are the newest."""
    number = server.create()
    picture = {"profilePicUrl": "https://pps.whatsapp.net/ana.jpg"}
    receive(server, number, BIA, "1", pushName=None)
    receive(server, number, GROUP, "2", key={"participant": BIA}, pushName=None)
    receive(server, number, ANA, "3", **picture)
    media = {"imageMessage": {"caption": "Look", "mediaKey": "secret", "jpegThumbnail": "x" * 100}, "base64": "QUJD"}
    receive(server, number, ANA, "4", message=media, messageType="imageMessage")
    for id, jid in (("1", BIA), ("2", GROUP), ("3", ANA), ("4", ANA)):
        at = 1_700_000_000 + int(id)
        server.shell(
            "from instances.models import Chat, Message; "
            f"Message.objects.filter(instance_id={number.id!r}, wa_id={id!r}).update(timestamp={at}); "
            f"Chat.objects.filter(instance_id={number.id!r}, remote_jid={jid!r})"
            f".update(last_message_at={at}, last_inbound_at={at})"
        )
    return number


def jids(response: Response) -> list[str]:
    return [row["remoteJid"] for row in response.json]


# /chat/findChats


def test_chats_come_newest_first_with_their_last_message(server, instance):
    chats = post(server, instance, "/chat/findChats", where={}).json
    contacts = {row["remoteJid"]: row for row in post(server, instance, "/chat/findContacts").json}

    assert [chat["remoteJid"] for chat in chats] == [ANA, GROUP, BIA]
    last = chats[0].pop("lastMessage")
    assert chats[0] == {
        "id": contacts[ANA]["id"],
        "remoteJid": ANA,
        "pushName": "Ana",
        "profilePicUrl": "https://pps.whatsapp.net/ana.jpg",
        "updatedAt": "2023-11-14T22:13:24.000Z",
        "windowStart": "2023-11-14T22:13:24.000Z",
        "windowExpires": "2023-11-15T22:13:24.000Z",
        "windowActive": False,
        "unreadCount": 2,
        "isSaved": True,
    }
    assert last.pop("id").isdecimal()
    assert last == {
        "key": {"remoteJid": ANA, "id": "4", "fromMe": False},
        "pushName": "Ana",
        "participant": None,
        "messageType": "imageMessage",
        "message": {"imageMessage": {"caption": "Look"}},
        "contextInfo": None,
        "source": "unknown",
        "messageTimestamp": 1_700_000_004,
        "instanceId": instance.id,
        "sessionId": None,
        "status": None,
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [ANA, GROUP, BIA]),
        ({"take": 2}, [ANA, GROUP]),
        ({"take": 2, "skip": 2}, [BIA]),
        ({"skip": 3}, []),
        ({"page": 2, "offset": 1}, [GROUP]),
        ({"where": {"remoteJid": BIA}}, [BIA]),
        ({"where": {"remoteJid": "5511977776666"}}, [BIA]),
        ({"where": {"remoteJid": "nobody"}}, []),
        ({"where": {"messageTimestamp": {"gte": "2023-11-14T22:13:22Z"}}}, [ANA, GROUP]),
        ({"where": {"messageTimestamp": {"lte": "2023-11-14T22:13:22Z"}}}, [GROUP, BIA]),
        ({"where": {"remoteJid": ANA, "messageTimestamp": {"gte": 1, "lte": 2}}}, []),
    ],
)
def test_chats_are_filtered_and_paged(server, instance, body, expected):
    assert jids(post(server, instance, "/chat/findChats", **body)) == expected


def test_the_last_message_is_one_of_the_time_that_is_asked_for(server, instance):
    [chat] = post(
        server, instance, "/chat/findChats", where={"remoteJid": ANA, "messageTimestamp": {"lte": 1_700_000_003}}
    ).json
    assert chat["lastMessage"]["key"]["id"] == "3"


def test_version_1_asks_for_chats_by_get(server, instance):
    assert jids(server.get(server.path("/chat/findChats", instance), key=instance.token)) == [ANA, GROUP, BIA]


def test_a_window_is_open_for_a_day_and_nothing_is_unread_after_an_answer(server):
    instance = server.create()
    receive(server, instance, ANA, "1")
    server.post(server.path("/message/sendText", instance), {"number": ANA, "text": "hi"})
    server.post(server.path("/message/sendText", instance), {"number": BIA, "text": "hi"})

    chats = {chat["remoteJid"]: chat for chat in post(server, instance, "/chat/findChats").json}

    opened, expires = (datetime.fromisoformat(chats[ANA][name]) for name in ("windowStart", "windowExpires"))
    assert expires - opened == timedelta(days=1)
    assert expires > datetime.now(UTC)
    assert (chats[ANA]["windowActive"], chats[ANA]["unreadCount"]) == (True, 0)
    assert (chats[BIA]["windowStart"], chats[BIA]["windowActive"], chats[BIA]["unreadCount"]) == (None, False, 0)
    assert (chats[BIA]["id"], chats[BIA]["isSaved"]) == (None, False)
    assert chats[BIA]["lastMessage"]["message"] == {"conversation": "hi"}


@pytest.mark.any_database
@pytest.mark.bound("LIMIT_LAST_MESSAGE_BYTES")
def test_a_large_last_message_is_left_out_of_a_list(start_server):
    server = start_server(LIMIT_LAST_MESSAGE_BYTES="1000")
    instance = server.create()
    receive(server, instance, ANA, "1", text="x" * 900)
    receive(server, instance, BIA, "2", text="x" * 1000)
    chats = post(server, instance, "/chat/findChats").json
    lengths = {chat["remoteJid"]: len(chat["lastMessage"]["message"].get("conversation", "")) for chat in chats}
    assert lengths == {ANA: 900, BIA: 0}


@pytest.mark.any_database
def test_large_answers_are_made_in_pieces(server):
    """Chats and messages with megabytes each: the test fails where a thread keeps the GIL."""
    instance = server.create()
    for number in range(4):
        receive(server, instance, f"{number}@s.whatsapp.net", str(number), text="x" * 4_000_000)
    response = post(server, instance, "/chat/findMessages")
    assert [bool(record["message"]) for record in response.json["messages"]["records"]] == [True] * 4
    assert len(post(server, instance, "/chat/findChats").body) < 10_000


# /chat/findChatByRemoteJid


def test_a_chat_is_found_by_its_address(server, instance):
    path = server.path("/chat/findChatByRemoteJid", instance)
    row = server.get(f"{path}?remoteJid={quote(ANA)}", key=instance.token).json

    assert row.pop("id").isdecimal()
    assert all(re.fullmatch(ISO, row.pop(name)) for name in ("createdAt", "updatedAt"))
    assert row == {"remoteJid": ANA, "name": "Ana", "labels": None, "instanceId": instance.id, "unreadMessages": 2}
    for unknown in ("nobody", "%00"):
        response = server.get(f"{path}?remoteJid={unknown}", key=instance.token)
        assert (response.status, response.body) == (200, b"null")


def test_an_address_is_required_outside_of_the_usual_shape(server, instance):
    response = server.get(server.path("/chat/findChatByRemoteJid", instance), key=instance.token)
    assert (response.status, response.json) == (400, {"error": "remoteJid is a required query parameter"})


# /chat/findContacts


def test_contacts_have_evolutions_members(server, instance):
    rows = {row["remoteJid"]: row for row in post(server, instance, "/chat/findContacts", where={}).json}
    row = rows[ANA]
    assert row.pop("id").isdecimal()
    assert all(re.fullmatch(ISO, row.pop(name)) for name in ("createdAt", "updatedAt"))
    assert row == {
        "remoteJid": ANA,
        "pushName": "Ana",
        "profilePicUrl": "https://pps.whatsapp.net/ana.jpg",
        "instanceId": instance.id,
        "isGroup": False,
        "isSaved": True,
        "type": "contact",
    }
    assert {jid: (row["isGroup"], row["isSaved"], row["type"]) for jid, row in rows.items() if jid != ANA} == {
        GROUP: (True, False, "group"),
        BIA: (False, False, "group_member"),
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [ANA, GROUP, BIA]),
        ({"where": {"pushName": "Ana"}}, [ANA]),
        ({"where": {"remoteJid": BIA}}, [BIA]),
        ({"where": {"remoteJid": "+55 11 97777-6666"}}, [BIA]),
        ({"where": {"remoteJid": BIA, "pushName": "Ana"}}, []),
        ({"where": {"id": "x"}}, []),
        ({"where": {"id": BIA}}, [BIA]),
        ({"page": 1}, [ANA, GROUP, BIA]),
        ({"page": 2, "offset": 2}, [BIA]),
        ({"offset": 1}, [ANA]),
    ],
)
def test_contacts_are_filtered_by_all_that_is_given(server, instance, body, expected):
    assert jids(post(server, instance, "/chat/findContacts", **body)) == expected


def test_a_contact_is_found_by_its_id(server, instance):
    [row] = post(server, instance, "/chat/findContacts", where={"remoteJid": BIA}).json
    assert jids(post(server, instance, "/chat/findContacts", where={"id": row["id"]})) == [BIA]


# /chat/findChannels and /chat/fetchProfilePictureUrl


@pytest.mark.parametrize("channel", ["EVOLUTION", "WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS"])
def test_channels_are_those_that_one_wrote_to(server, channel):
    instance = server.create(integration=channel)
    empty = {"total": 0, "pages": 0, "currentPage": 1, "limit": 50, "records": []}
    assert post(server, instance, "/chat/findChannels", where={}).json == empty
    if channel != "EVOLUTION":
        return
    receive(server, instance, CHANNEL, "1", key={"fromMe": True})
    receive(server, instance, "9@newsletter", "2")
    receive(server, instance, ANA, "3", key={"fromMe": True})
    for body in ({"limit": 10}, {"rows": 10}):
        found = post(server, instance, "/chat/findChannels", **body).json
        [row] = found.pop("records")
        assert found == {"total": 1, "pages": 1, "currentPage": 1, "limit": 10}
        assert row["remoteJid"] == CHANNEL
        assert isinstance(row["lastMessageTimestamp"], int)


def test_a_picture_is_the_one_that_a_message_has_named(server, instance):
    def picture(number: str) -> dict:
        return post(server, instance, "/chat/fetchProfilePictureUrl", number=number).json

    known = {"wuid": ANA, "profilePictureUrl": "https://pps.whatsapp.net/ana.jpg"}
    assert picture("5511988887777") == picture("+55 11 98888-7777") == picture(ANA) == known
    assert picture("5511977776666") == {"wuid": BIA, "profilePictureUrl": None}
