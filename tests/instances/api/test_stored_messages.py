"""POST /chat/findMessages and /chat/findStatusMessage, and the routes of stored media."""

from __future__ import annotations

import pytest

from instances.bounds import COUNTED_MESSAGES, PAGE_ROWS
from tests.server import Number, Response, Server

ANA, BIA, ANAS_LID = "5511988887777@s.whatsapp.net", "5511977776666@s.whatsapp.net", "123456789@lid"

CHANNELS = ("EVOLUTION", "WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS")


@pytest.fixture(scope="module")
def instance(server: Server) -> Number:
    """An instance with five messages, a second apart, and three statuses."""
    number = server.create()
    for id, key, kind in (
        ("1", {"remoteJid": ANA}, "conversation"),
        ("2", {"remoteJid": BIA}, "imageMessage"),
        ("3", {"remoteJid": ANA, "fromMe": True}, "conversation"),
        ("4", {"remoteJid": ANAS_LID, "remoteJidAlt": ANA}, "conversation"),
        ("5", {"remoteJid": "1@g.us", "participant": BIA}, "conversation"),
    ):
        key = {"id": id, "fromMe": False} | key
        assert server.receive(number, f"text {id}", key=key, messageType=kind).status == 200
    rows = f"Message.objects.filter(instance_id={number.id!r}"
    for id in range(1, 6):
        server.shell(
            f"from instances.models import Message; {rows}, wa_id='{id}').update(timestamp={1_700_000_000 + id})"
        )
    for status in ("SERVER_ACK", "DELIVERY_ACK", "READ"):
        data = {"keyId": "3", "remoteJid": ANA, "fromMe": True, "status": status}
        server.post(server.path("/event/publish", number), {"event": "messages.update", "data": data})
    return number


def find(server: Server, instance: Number, route: str = "/chat/findMessages", **body) -> Response:
    return server.post(server.path(route, instance), body, key=instance.token)


def ids(response: Response) -> str:
    """Return the WhatsApp ids of the records."""
    assert response.status == 200, response.body
    return "".join(record["key"]["id"] for record in response.json["messages"]["records"])


def test_a_row_has_evolutions_members(server, instance):
    found = find(server, instance, where={"key": {"id": "3"}}).json["messages"]

    [row] = found.pop("records")
    assert found == {"total": 1, "pages": 1, "currentPage": 1}
    assert row.pop("id").isdecimal()
    assert row == {
        "key": {"remoteJid": ANA, "fromMe": True, "id": "3"},
        "pushName": "Ana",
        "messageType": "conversation",
        "message": {"conversation": "text 3"},
        "messageTimestamp": 1_700_000_003,
        "instanceId": instance.id,
        "source": "unknown",
        "contextInfo": None,
        "MessageUpdate": [{"status": "SERVER_ACK"}, {"status": "DELIVERY_ACK"}, {"status": "READ"}],
    }


def test_both_addresses_of_a_chat_are_in_row_and_event(server, instance):
    [row] = find(server, instance, where={"key": {"id": "4"}}).json["messages"]["records"]
    events = server.get(server.path("/event/find", instance) + "?type=messages.upsert").json["events"]
    keys = {event["data"]["key"]["id"]: event["data"]["key"] for event in events}
    assert row["key"] == keys["4"] == {"remoteJid": ANAS_LID, "remoteJidAlt": ANA, "fromMe": False, "id": "4"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "54321"),
        ({"key": {}}, "54321"),
        ({"key": {"remoteJid": ANA}}, "431"),
        ({"key": {"remoteJid": ANAS_LID}}, "4"),
        ({"key": {"remoteJidAlt": ANA}}, "431"),
        ({"key": {"remoteJid": ANA, "remoteJidAlt": ANAS_LID}}, "431"),
        ({"key": {"remoteJid": BIA, "remoteJidAlt": ANAS_LID}}, "42"),
        ({"key": {"remoteJid": "nobody@s.whatsapp.net"}}, ""),
        ({"key": {"fromMe": False}}, "5421"),
        ({"key": {"fromMe": True}}, "3"),
        ({"key": {"fromMe": False, "remoteJid": ANA}}, "41"),
        ({"key": {"participant": BIA}}, "5"),
        ({"key": {"participants": BIA}}, "5"),
        ({"messageType": "imageMessage"}, "2"),
        ({"source": "unknown"}, "54321"),
        ({"source": "android"}, ""),
        ({"id": "no number"}, ""),
        ({"id": "9" * 30}, ""),
        ({"messageTimestamp": {"gte": "2023-11-14T22:13:22Z", "lte": "2023-11-14T22:13:24.000Z"}}, "432"),
        ({"messageTimestamp": {"gte": "2023-11-14T22:13:22.500Z"}}, "543"),
        ({"messageTimestamp": {"lte": "2023-11-14T22:13:22"}}, "21"),
        ({"messageTimestamp": {"lte": 1_700_000_002}}, "21"),
        ({"messageTimestamp": {"gte": 1_700_000_004_000}}, "54"),
        ({"messageTimestamp": {}}, "54321"),
    ],
)
def test_filters_restrict_and_absent_ones_do_not(server, instance, where, expected):
    response = find(server, instance, where=where)
    assert (ids(response), response.json["messages"]["total"]) == (expected, len(expected))


def test_a_row_is_found_by_its_own_id(server, instance):
    row = find(server, instance, where={"key": {"id": "2"}}).json["messages"]["records"][0]
    assert ids(find(server, instance, where={"id": row["id"]})) == "2"


@pytest.mark.parametrize("where", [{}, {"key": {"remoteJid": ANA}}, {"key": {"fromMe": False}}])
def test_pages_follow_each_other(server, instance, where):
    whole = ids(find(server, instance, where=where))
    parts = []
    for page in range(1, 5):
        response = find(server, instance, where=where, page=page, offset=2)
        parts.append(ids(response))
        found = response.json["messages"]
        assert (found["total"], found["pages"], found["currentPage"]) == (len(whole), -(-len(whole) // 2), page)
    assert "".join(parts) == whole
    assert [len(part) for part in parts if part][:-1] == [2] * (-(-len(whole) // 2) - 1)


def test_the_last_page_there_can_be_is_empty(server, instance):
    assert ids(find(server, instance, page=2**31 - 1, offset=PAGE_ROWS)) == ""


def test_a_send_without_a_result_is_no_message(server):
    instance = server.create()
    server.shell(
        "from instances.models import Message; Message.objects.create("
        f"instance_id={instance.id!r}, remote_jid={ANA!r}, type='', content={{}}, timestamp=1, from_me=True)"
    )
    assert find(server, instance).json["messages"] == {"total": 0, "pages": 0, "currentPage": 1, "records": []}


def test_a_sent_message_is_found(server):
    instance = server.create()
    sent = server.post(server.path("/message/sendText", instance), {"number": ANA, "text": "hi"}).json
    assert find(server, instance).json["messages"]["records"][0]["key"] == sent["key"]


@pytest.fixture(scope="module")
def engine(server: Server) -> Number:
    """An instance that has received two texts, and sent one to the number, as it is often written."""
    number = server.create()
    for id in ("1", "3"):
        assert server.receive(number, id=id).status == 200
    for id, written in (("2", "5511988887777"), ("4", "+55 11 98888-7777")):
        body = {"number": written, "text": id, "messageId": id}
        sent = server.post(server.path("/message/sendText", number), body).json
        assert sent["key"] == {"remoteJid": written, "fromMe": True, "id": id}
    return number


@pytest.mark.parametrize("asked", [ANA, "5511988887777", "+55 11 98888-7777", "55 11 98888 7777"])
def test_what_is_sent_to_a_number_is_found_in_the_chat_of_its_address(server, engine, asked):
    """Clients send to a number, and ask for the chat by the address that events name."""
    found = find(server, engine, where={"key": {"remoteJid": asked}}).json["messages"]
    assert ({record["key"]["id"] for record in found["records"]}, found["total"]) == (set("1234"), 4)
    own = find(server, engine, where={"key": {"remoteJid": asked, "fromMe": True}}).json["messages"]
    assert ({record["key"]["id"] for record in own["records"]}, own["total"]) == (set("24"), 2)
    pages = [ids(find(server, engine, where={"key": {"remoteJid": asked}}, page=page, offset=3)) for page in (1, 2)]
    assert ([len(page) for page in pages], set("".join(pages))) == ([3, 1], set("1234"))


@pytest.mark.any_database
@pytest.mark.bound("LIMIT_PAGE_BYTES")
def test_a_page_holds_as_many_contents_as_fit(start_server):
    server = start_server(LIMIT_PAGE_BYTES="2500")
    instance = server.create()
    for id in "1234":
        server.receive(instance, "x" * (5000 if id == "4" else 1000), id=id)
    records = find(server, instance).json["messages"]["records"]
    texts = [len(record["message"].get("conversation", "")) for record in records]
    assert texts == [5000, 0, 0, 0]
    assert [record.get("isTrimmed", False) for record in records] == [False, True, True, True]
    records = find(server, instance, page=2, offset=2).json["messages"]["records"]
    assert [len(record["message"]["conversation"]) for record in records] == [1000, 1000]


@pytest.mark.any_database
@pytest.mark.bound("LIMIT_COUNTED_MESSAGES")
def test_the_total_of_a_filter_is_counted_up_to_a_bound(start_server):
    assert COUNTED_MESSAGES == 10_000
    server = start_server(LIMIT_COUNTED_MESSAGES="3")
    instance = server.create()
    for id in range(9):
        server.receive(instance, id=str(id))

    def total(**body):
        found = find(server, instance, **body).json["messages"]
        return found["total"], len(found["records"])

    assert total() == (9, 9)
    assert total(where={"key": {"remoteJid": ANA}}, offset=2) == (9, 2)
    assert [total(where={"key": {"fromMe": False}}, page=page, offset=2) for page in (1, 2, 4, 5)] == [
        (3, 2),
        (5, 2),
        (9, 2),
        (9, 1),
    ]


# POST /chat/findStatusMessage


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["SERVER_ACK", "DELIVERY_ACK", "READ"]),
        ({"id": "3"}, ["SERVER_ACK", "DELIVERY_ACK", "READ"]),
        ({"id": "1"}, []),
        ({"remoteJid": ANA, "fromMe": True, "participant": ANA}, ["SERVER_ACK", "DELIVERY_ACK", "READ"]),
        ({"remoteJid": BIA}, []),
        ({"fromMe": False}, []),
        ({"status": "READ"}, ["READ"]),
    ],
)
def test_statuses_come_in_the_order_of_their_reports(server, instance, where, expected):
    response = find(server, instance, "/chat/findStatusMessage", where=where)
    assert (response.status, [row["status"] for row in response.json]) == (200, expected)


def test_a_status_has_evolutions_members(server, instance):
    [row] = find(server, instance, "/chat/findStatusMessage", page=2, offset=1).json
    message = find(server, instance, where={"key": {"id": "3"}}).json["messages"]["records"][0]
    assert row.pop("id").isdecimal()
    assert row == {
        "keyId": "3",
        "remoteJid": ANA,
        "fromMe": True,
        "participant": ANA,
        "pollUpdates": None,
        "status": "DELIVERY_ACK",
        "messageId": message["id"],
        "instanceId": instance.id,
    }


# Media and polls


@pytest.mark.parametrize("channel", CHANNELS)
def test_media_cannot_be_fetched_yet(server, channel):
    instance = server.create(integration=channel)
    refusal = {
        "EVOLUTION": "Method not available on Evolution Channel",
        "WHATSAPP-BAILEYS": f'The "{instance.name}" instance is not connected',
        "WHATSAPP-BUSINESS": "Message not found",
    }[channel]

    def base64(**message) -> tuple[int, list[str]]:
        response = find(server, instance, "/chat/getBase64FromMediaMessage", message=message)
        return response.status, response.json["response"]["message"]

    assert base64(key={"id": "1"}) == (400, [refusal])
    assert base64(key={}) == (400, [['message.key requires property "id"']])
    if channel == "WHATSAPP-BUSINESS":
        assert base64(key={"id": "1"}, messageType="conversation", message={})[1] == [
            "The message is not of the media type"
        ]
        assert base64(key={"id": "1"}, messageType="imageMessage", message={})[1][0].endswith("yet")


@pytest.mark.parametrize("channel", CHANNELS)
def test_polls_and_stored_media_are_refused_in_evolutions_words(server, channel):
    instance = server.create(integration=channel)
    poll = find(server, instance, "/chat/getPollVote", message={"key": {"id": "1"}}, remoteJid=ANA)
    assert poll.status == 400
    assert poll.json["response"]["message"][0].split()[0] in ("Method", "The")
    for route, body in (("/s3/getMedia", {}), ("/s3/getMediaUrl", {"id": "1", "expiry": "60"})):
        response = find(server, instance, route, **body)
        assert (response.status, response.json["response"]["message"]) == (400, ["Media not found"])


# Bad input


@pytest.mark.bound("LIMIT_PAGE_ROWS")
@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("/chat/findMessages", {"where": []}, "where is not of a type(s) object"),
        ("/chat/findMessages", {"where": {"key": {"fromMe": "no"}}}, "where.key.fromMe is not of a type(s) boolean"),
        ("/chat/findMessages", {"where": {"key": {"id": 1}}}, "where.key.id is not of a type(s) string"),
        ("/chat/findMessages", {"where": {"key": {"id": "\0"}}}, "where.key.id must not contain NUL characters"),
        ("/chat/findMessages", {"where": {"key": {"remoteJid": ""}}}, 'The "remoteJid" cannot be empty'),
        ("/chat/findMessages", {"page": 0}, "page must be greater than or equal to 1"),
        ("/chat/findMessages", {"page": "1"}, "page is not of a type(s) integer"),
        ("/chat/findMessages", {"page": 2**40}, "page must be less than or equal to 2147483647"),
        ("/chat/findMessages", {"offset": PAGE_ROWS + 1}, "offset must be less than or equal to 1000"),
        *(
            (
                "/chat/findMessages",
                {"where": {"messageTimestamp": {"gte": value}}},
                "where.messageTimestamp.gte is not a time: send ISO 8601, such as 2026-01-31T12:00:00Z",
            )
            for value in ("yesterday", "", True, None, [], "2026-01-31T12:00:00+99:00", 1e300)
        ),
        ("/chat/findStatusMessage", {"where": {"status": 1}}, "where.status is not of a type(s) string"),
        ("/chat/findStatusMessage", {"offset": 1001}, "offset must be less than or equal to 1000"),
        ("/chat/findContacts", {"where": {"pushName": ""}}, 'The "pushName" cannot be empty'),
        ("/chat/findContacts", {"offset": 0}, "offset must be greater than or equal to 1"),
        ("/chat/findChats", {"take": 1001}, "take must be less than or equal to 1000"),
        ("/chat/findChats", {"skip": -1}, "skip must be greater than or equal to 0"),
        ("/chat/findChannels", {"limit": 1001}, "limit must be less than or equal to 1000"),
        ("/chat/fetchProfilePictureUrl", {}, 'instance requires property "number"'),
        ("/chat/getPollVote", {"remoteJid": ANA}, 'instance requires property "message"'),
        ("/s3/getMedia", {"messageId": 1}, "messageId is not of a type(s) string"),
        ("/s3/getMediaUrl", {}, 'instance requires property "id"'),
        ("/s3/getMediaUrl", {"id": "1", "expiry": "soon"}, 'expiry does not match pattern "^\\\\d+$"'),
    ],
)
def test_bad_bodies_are_refused_in_words(server, instance, route, body, message):
    response = find(server, instance, route, **body)
    assert (response.status, response.json["response"]["message"]) == (400, [[message]])


def test_rows_of_other_instances_are_not_found(server, instance):
    other = server.create()
    server.receive(other, id="1")
    row = find(server, other).json["messages"]["records"][0]
    assert ids(find(server, instance, where={"id": row["id"]})) == ""
    contact = find(server, other, "/chat/findContacts").json[0]
    assert find(server, instance, "/chat/findContacts", where={"id": contact["id"]}).json == []
    assert find(server, other, "/chat/findStatusMessage").json == []
    assert server.post(server.path("/chat/findMessages", instance), {}, key=other.token).status == 401
