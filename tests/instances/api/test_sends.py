"""POST /message/…: each kind of message, by each integration."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from instances.api.file_bodies import MAX_FILE_BYTES
from instances.bounds import MAX_BODY_BYTES, MESSAGE_PARTS
from tests.instances.api.sends import BODIES, CLIENTS, CLOUD, EVOLUTION, INVALID, NUMBER, PIXEL, URL
from tests.instances.providers.graph_api import Graph, error, hang_up, taken
from tests.server import Number, Response, Server

NOT_CLOUD = ["Method not available on WhatsApp Business API"]
NOT_EVOLUTION = ["Method not available on Evolution Channel"]


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    server = Server(environment | {"WA_BUSINESS_URL": running_graph.url, "WA_BUSINESS_VERSION": "v21.0"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cloud(server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS")


@pytest.fixture(scope="module")
def engine(server) -> Number:
    return server.create(integration="EVOLUTION")


@pytest.fixture(scope="module")
def unpaired(server) -> Number:
    return server.create(integration="WHATSAPP-BAILEYS")


def send(server: Server, route: str, instance: Number, **changes: Any) -> Response:
    body = {name: value for name, value in (BODIES[route] | changes).items() if value is not None}
    return server.post(server.path(f"/message/{route}", instance), body, key=instance.token)


def last_event(server: Server, instance: Number) -> dict[str, Any]:
    return server.get(server.path("/event/find", instance) + "?limit=1").json["events"][-1]


def counted(server: Server, *instances: Number) -> list[int]:
    return [server.counts(instance)["Message"] for instance in instances]


# Each kind by each integration


@pytest.mark.parametrize("route", BODIES)
def test_the_cloud_api_sends_what_it_can_and_refuses_the_rest(server, graph, cloud, route):
    graph.next(taken(id := f"wamid.{secrets.token_hex(8)}"))
    before = counted(server, cloud)

    response = send(server, route, cloud)

    if route not in CLOUD:
        assert (response.status, response.json["response"]["message"]) == (400, NOT_CLOUD)
        assert (graph.requests, counted(server, cloud)) == ([], before)
        return
    message_type, message, graph_type, graph_object = CLOUD[route]
    assert response.status == 201
    answer = response.json
    assert isinstance(answer.pop("messageTimestamp"), int)
    assert answer == {
        "key": {"remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": True, "id": id},
        "status": "PENDING",
        "message": message,
        "messageType": message_type,
        "instanceId": cloud.id,
        "source": "unknown",
    }
    [request] = graph.requests
    assert (request.path, request.token) == (f"/v21.0/{cloud.number}/messages", cloud.token)
    assert request.body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": NUMBER,
        "type": graph_type,
        graph_type: graph_object,
    }
    event = last_event(server, cloud)
    assert (event["event"], event["data"]) == ("send.message", response.json)


@pytest.mark.parametrize("route", BODIES)
def test_the_evolution_channel_announces_what_its_engine_sends(server, graph, engine, route):
    response = send(server, route, engine, quoted={"key": {"id": "ABC"}})

    if route not in EVOLUTION:
        assert (response.status, response.json["response"]["message"]) == (400, NOT_EVOLUTION)
        return
    message_type, message = EVOLUTION[route]
    assert response.status == 201
    answer = response.json
    assert (answer["messageType"], answer["message"]) == (message_type, message | {"quoted": {"key": {"id": "ABC"}}})
    assert answer["key"] == {"remoteJid": NUMBER, "fromMe": True, "id": answer["key"]["id"]}
    event = last_event(server, engine)
    assert (event["event"], event["data"]) == ("send.message", answer)
    assert not graph.requests


def test_whatsapp_web_is_not_connected_for_any_kind(server, unpaired):
    for route in BODIES:
        response = send(server, route, unpaired)
        assert response.status == 400, route
        words = f'The "{unpaired.name}" instance is not connected'
        if route == "sendTemplate":
            words = "Method not available in the Baileys service"
        assert response.json["response"]["message"] == [words]
        assert "no engine for WhatsApp Web" in response.headers["X-Evoapi-Note"]


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("route", "changes", "words"),
    [
        ("sendButtons", {"buttons": []}, "At least one button is required"),
        ("sendButtons", {"buttons": [{"type": "reply"}] * 4}, "Maximum of 3 reply buttons allowed"),
        (
            "sendButtons",
            {"buttons": [{"type": "reply"}, {"type": "pix"}]},
            "Reply buttons cannot be mixed with CTA or PIX buttons",
        ),
        ("sendButtons", {"buttons": [{"type": "pix"}] * 2}, "Only one PIX button is allowed"),
        ("sendButtons", {"buttons": [{"type": "url"}] * 3}, "Maximum of 2 CTA buttons allowed"),
        ("sendStatus", {"content": ""}, "Content is required"),
        ("sendStatus", {"allContacts": False}, "StatusJidList is required"),
        ("sendStatus", {"backgroundColor": ""}, "Background color is required"),
        ("sendStatus", {"font": None}, "Font is required"),
    ],
)
def test_whatsapp_webs_own_rules_have_words(server, unpaired, route, changes, words):
    assert send(server, route, unpaired, **changes).json["response"]["message"] == [words]


@pytest.mark.any_database
@pytest.mark.parametrize(("route", "changes", "message"), INVALID)
def test_an_invalid_body_is_refused_before_the_channel_is_asked(
    server, graph, engine, unpaired, route, changes, message
):
    before = counted(server, engine)
    for instance in (engine, unpaired):
        response = send(server, route, instance, **changes)
        assert (response.status, response.json["response"]["message"]) == (400, message)
    assert (counted(server, engine), graph.requests) == (before, [])


# The Cloud API


@pytest.mark.any_database
@pytest.mark.parametrize("route", [route for route in CLOUD if route != "sendReaction"])
def test_a_quoted_message_reaches_graph_with_each_kind(server, graph, cloud, route):
    response = send(server, route, cloud, quoted={"key": {"id": "wamid.ASKED"}}, number="US.134912@lid")

    [request] = graph.requests
    assert (request.body["context"], request.body["recipient"]) == ({"message_id": "wamid.ASKED"}, "US.134912")
    assert response.json["message"]["contextInfo"] == {"stanzaId": "wamid.ASKED"}


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("route", "changes", "message"),
    [
        ("sendMedia", {"media": PIXEL, "fileName": "x.png"}, "not yet"),
        ("sendWhatsAppAudio", {"audio": f"data:audio/ogg;codecs=opus;base64,{PIXEL}"}, "not yet"),
        ("sendSticker", {"sticker": PIXEL}, "not yet"),
        ("sendButtons", {"buttons": None}, "At least one button is required"),
        (
            "sendButtons",
            {"buttons": [{"type": "reply", "displayText": str(n)} for n in range(4)]},
            "Maximum of 3 reply",
        ),
        ("sendButtons", {"buttons": [{"type": "reply", "displayText": "a"}] * 2}, "Button texts cannot be repeated"),
        ("sendList", {"sections": [{"title": "x", "rows": [{"title": r, "rowId": r}]} for r in "ab"]}, "Section tiles"),
    ],
)
def test_what_the_graph_api_cannot_be_given_is_refused_in_words(server, graph, cloud, route, changes, message):
    before = counted(server, cloud)
    response = send(server, route, cloud, id="order-9", **changes)
    assert response.status == 400
    assert message in response.json["response"]["message"][0]
    assert (graph.requests, counted(server, cloud)) == ([], before)


def test_buttons_of_all_types_reply_and_a_picture_is_their_header(server, graph, cloud):
    buttons = [{"type": "url", "displayText": "Shop", "url": "https://a.example"}, {"type": "copy", "copyCode": "X1"}]
    response = send(server, "sendButtons", cloud, buttons=buttons, thumbnailUrl=URL, description=None, footer=None)

    [request] = graph.requests
    assert request.body["interactive"] == {
        "type": "button",
        "header": {"type": "image", "image": {"link": URL}},
        "body": {"text": "Order"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": "button-1", "title": "Shop"}},
                {"type": "reply", "reply": {"id": "button-2", "title": "X1"}},
            ]
        },
    }
    assert response.json["message"] == {"conversation": "Order\n▶️ Shop\n▶️ X1\n"}


def test_several_contacts_are_one_message(server, graph, cloud):
    contacts = [
        {"fullName": "Ana\nTEL:666", "phoneNumber": "5511988887777", "wuid": ""},
        {"fullName": "Bia", "phoneNumber": "+55 21 97777-6666", "wuid": "5521977776666@s.whatsapp.net"},
    ]
    response = send(server, "sendContact", cloud, contact=contacts)

    [request] = graph.requests
    phones = [contact["phones"][0]["wa_id"] for contact in request.body["contacts"]]
    assert phones == ["5511988887777", "5521977776666"]
    array = response.json["message"]["contactsArrayMessage"]
    assert (response.json["messageType"], array["displayName"]) == ("contactsArrayMessage", "2 contacts")
    assert array["contacts"][0]["vcard"].splitlines()[2:4] == ["N:Ana TEL:666", "FN:Ana TEL:666"]


def test_an_error_of_graph_is_answered_for_other_kinds_as_for_texts(server, graph, cloud):
    graph.next(error(400, 131053, "(#131053) Media upload error"))
    response = send(server, "sendMedia", cloud)
    assert (response.status, response.json["response"]["message"]) == (
        400,
        ["(#131053) Media upload error (code 131053)"],
    )


def test_a_file_of_unknown_outcome_is_not_sent_twice(server, graph, cloud):
    id = secrets.token_hex(8)
    graph.next(hang_up)
    first, repeat = (send(server, "sendMedia", cloud, messageId=id) for _ in range(2))
    assert (first.status, repeat.status) == (502, 502)
    assert first.json == repeat.json
    assert first.json["response"]["outcome"] == "unknown"
    assert len(graph.requests) == 1

    again = send(server, "sendMedia", cloud, messageId=id, retryUnknown=True)
    assert (again.status, len(graph.requests)) == (201, 2)
    assert send(server, "sendMedia", cloud, messageId=id).json == again.json
    marks = {request.body["biz_opaque_callback_data"] for request in graph.requests}
    assert len(marks) == 1, "both carry the mark by which a report finds the send"


def test_a_status_settles_a_file_whose_answer_was_lost(server, graph, cloud):
    id = secrets.token_hex(8)
    graph.next(hang_up)
    assert send(server, "sendLocation", cloud, id=id).status == 502
    mark = graph.requests[0].body["biz_opaque_callback_data"]
    raw = {"id": f"wamid.{id}", "status": "delivered", "timestamp": "1761057700", "recipient_id": NUMBER}
    value = {
        "metadata": {"phone_number_id": cloud.number},
        "statuses": [raw | {"biz_opaque_callback_data": mark}],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200

    repeat = send(server, "sendLocation", cloud, id=id)
    assert (repeat.status, repeat.json["key"]["id"], repeat.json["status"]) == (201, f"wamid.{id}", "DELIVERED")
    assert repeat.json["messageType"] == "locationMessage"
    assert len(graph.requests) == 1


@pytest.mark.parametrize("route", CLOUD)
def test_a_repeat_of_any_kind_sends_nothing(server, graph, cloud, route):
    id = secrets.token_hex(8)
    first, repeat = (send(server, route, cloud, messageId=id) for _ in range(2))
    assert (first.status, repeat.status, len(graph.requests)) == (201, 201, 1)
    assert first.json == repeat.json


# The Evolution channel


def test_a_message_id_is_the_key_of_the_message_at_an_engine(server, engine):
    id = f"3EB0{secrets.token_hex(8)}"
    first = send(server, "sendButtons", engine, messageId=id)
    repeat = send(server, "sendText", engine, messageId=id)
    assert (first.json["key"]["id"], repeat.status) == (id, 201)
    assert first.json == repeat.json


def test_a_message_id_that_another_message_has_is_a_conflict(server, engine):
    id = secrets.token_hex(8)
    payload = {"numberId": engine.number, "key": {"remoteJid": NUMBER, "id": id}, "message": {"conversation": "x"}}
    assert server.post("/webhook/evolution", payload, key=engine.token).status == 200
    before = counted(server, engine)

    response = send(server, "sendText", engine, messageId=id)

    assert (response.status, response.json["error"]) == (409, "Conflict")
    assert id in response.json["response"]["message"][0]
    assert counted(server, engine) == before


FILES = [
    ("sendMedia", "media", {"mediatype": "image"}, "imageMessage", {"mimetype": "image/png"}),
    ("sendWhatsAppAudio", "audio", {}, "audioMessage", {"ptt": True, "mimetype": "image/png"}),
]


@pytest.mark.parametrize(("route", "member", "changes", "message_type", "about"), FILES)
def test_base64_of_a_file_reaches_the_engine(server, engine, route, member, changes, message_type, about):
    bare = send(server, route, engine, **changes, caption=None, **{member: PIXEL})
    data_url = send(server, route, engine, **changes, caption=None, **{member: f"data:image/png;base64,{PIXEL}"})

    assert (bare.json["messageType"], bare.json["message"]["base64"]) == (message_type, PIXEL)
    expected = {message_type: about, "mediaUrl": None, "base64": PIXEL}
    assert data_url.json["message"] == expected
    assert last_event(server, engine)["data"]["message"] == expected


# Forms


def form(*fields: tuple[str, str], file: bytes | None = None, name: str = "a.png", type: str = "image/png") -> bytes:
    parts = [f'Content-Disposition: form-data; name="{field}"\r\n\r\n{value}'.encode() for field, value in fields]
    if file is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {type}\r\n\r\n'
        parts.append(head.encode() + file)
    return b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + b"--XX--\r\n"


def post_form(server: Server, route: str, instance: Number, body: bytes, type: str = "; boundary=XX") -> Response:
    headers = {"Content-Type": f"multipart/form-data{type}"}
    return server.post(server.path(f"/message/{route}", instance), body, key=instance.token, headers=headers)


@pytest.mark.parametrize("size", [8, 5_000_000])
def test_a_form_with_a_file_is_sent_and_its_values_are_converted(server, engine, size):
    content = secrets.token_bytes(size)
    fields = [("number", NUMBER), ("mediatype", "document"), ("caption", "1"), ("delay", "1200")]
    fields += [("mentionsEveryOne", "false"), ("quoted", '{"key": {"id": "ABC"}}'), ("mentioned", "5511")]
    fields += [("mentioned[]", "5521"), ("gifPlayback", "true"), ("mimetype", "")]

    response = post_form(
        server, "sendMedia", engine, form(*fields, file=content, name="Preço.pdf", type="application/pdf")
    )

    assert response.status == 201, response.body[:500]
    message = response.json["message"]
    assert base64.b64decode(message.pop("base64")) == content
    assert response.headers["X-Ignored-Members"] == "mentioned"
    assert message == {
        "documentMessage": {"caption": "1", "fileName": "Preço.pdf", "mimetype": "application/pdf"},
        "mediaUrl": None,
        "quoted": {"key": {"id": "ABC"}},
    }


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("name", "type", "named"),
    [
        ("a.png", "image/webp", "image/webp"),
        ("a.png", "application/octet-stream", "image/png"),
        ("file", "application/octet-stream", "application/octet-stream"),
        ("", "", None),
    ],
)
def test_the_type_of_a_file_is_the_one_that_is_known(server, engine, name, type, named):
    body = form(("number", NUMBER), ("mediatype", "image"), file=b"x", name=name, type=type)
    response = post_form(server, "sendMedia", engine, body)
    assert response.json["message"]["imageMessage"].get("mimetype") == named


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("route", "members"),
    [
        ("sendMedia", {"number": NUMBER, "mediatype": "image"}),
        ("sendPtv", {"number": NUMBER}),
        ("sendWhatsAppAudio", {"number": NUMBER, "encoding": "true"}),
        ("sendSticker", {"number": NUMBER, "notConvertSticker": "False"}),
        ("sendStatus", {"type": "image", "allContacts": "true", "font": "0"}),
    ],
)
def test_five_routes_take_files_in_forms(server, graph, cloud, engine, route, members):
    body = form(*members.items(), file=b"x")
    on_cloud, on_engine = (post_form(server, route, instance, body) for instance in (cloud, engine))
    if route in CLOUD:
        assert on_cloud.json["response"]["message"][0].endswith("not yet")
    else:
        assert on_cloud.json["response"]["message"] == NOT_CLOUD
    if route in EVOLUTION:
        assert on_engine.json["message"]["base64"] == "eA=="
    else:
        assert on_engine.json["response"]["message"] == NOT_EVOLUTION
    assert (on_cloud.status, on_engine.status) == (400, 201 if route in EVOLUTION else 400)
    assert not graph.requests


def test_a_large_form_is_taken_at_any_spelling_of_the_path(server, engine):
    body = form(("number", NUMBER), ("mediatype", "image"), file=b"x" * 1_200_000)
    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    response = server.post(f"/Message/SENDMEDIA/{engine.name}/", body, key=engine.token, headers=headers)
    assert response.status == 201


def test_a_form_is_no_body_of_the_other_routes(server, engine):
    assert post_form(server, "sendText", engine, form(("number", NUMBER), ("text", "x"))).status == 415


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("body", "type", "words"),
    [
        (form(("number", NUMBER)), "", "has to name its boundary"),
        (form(("number", NUMBER))[:-8], "; boundary=XX", "is cut off"),
        (b"--XX\r\nno headers\r\n--XX--", "; boundary=XX", "has no headers"),
        (form(*[("a", "b")] * 1001), "; boundary=XX", "more than 1000 fields"),
        (b'--XX\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\r\n--XX--', "; boundary=XX", "is not UTF-8"),
        (form(("number", NUMBER), ("mediatype", "image"), file=b""), "; boundary=XX", "Owned media must be"),
        (form(("number", NUMBER), ("mediatype", "image"), ("delay", "x"), file=b"x"), "; boundary=XX", "milliseconds"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_in_words(server, engine, body, type, words):
    response = post_form(server, "sendMedia", engine, body, type)
    assert response.status == 400
    assert words in json.dumps(response.json["response"]["message"])


# The bodies of version 1 and of clients


@pytest.mark.any_database
@pytest.mark.parametrize(("route", "body", "message_type", "message"), CLIENTS.values(), ids=CLIENTS)
def test_the_bodies_of_clients_are_taken(server, engine, route, body, message_type, message):
    response = server.post(server.path(f"/message/{route}", engine), {"number": NUMBER} | body, key=engine.token)
    assert response.status == 201, response.body
    assert (response.json["messageType"], response.json["message"]) == (message_type, message)


def test_the_wrappers_of_version_1_reach_graph(server, graph, cloud):
    options = {"linkPreview": True, "quoted": {"key": {"id": "Q"}}, "presence": "composing"}
    body = {"number": NUMBER, "textMessage": {"text": "Olá"}, "options": options}
    response = server.post(server.path("/message/sendText", cloud), body, key=cloud.token)

    [request] = graph.requests
    assert request.body["text"] == {"body": "Olá", "preview_url": True}
    assert request.body["context"] == {"message_id": "Q"}
    assert response.headers["X-Ignored-Members"] == "options.presence"


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"textMessage": "x"}, ["textMessage is not of a type(s) object"]),
        ({"text": "x", "options": []}, ["options is not of a type(s) object"]),
        ({"textMessage": {"text": 5}}, ["text is not of a type(s) string"]),
        ({"text": "x", "options": {"delay": "soon"}}, ["Enter a value in milliseconds"]),
    ],
)
def test_an_invalid_wrapper_is_refused(server, engine, body, message):
    response = server.post(server.path("/message/sendText", engine), {"number": NUMBER} | body, key=engine.token)
    assert (response.status, response.json["response"]["message"]) == (400, [message])


# Sizes and texts


def test_a_large_file_passes_without_a_stall(server, engine):
    content = base64.b64encode(secrets.token_bytes(11_000_000)).decode()
    response = send(server, "sendMedia", engine, media=content, fileName="big.bin")
    assert response.status == 201
    assert response.json["message"]["base64"] == content


@pytest.mark.bound("LIMIT_MESSAGE_PARTS")
def test_the_dearest_list_passes_and_a_longer_one_is_refused(server, unpaired):
    def sections(count: int, rows: int) -> list[dict[str, Any]]:
        row = {"title": "x" * 1000, "description": "y" * 4000}
        return [
            {"title": f"{place}", "rows": [row | {"rowId": str(place)} for place in range(rows)]}
            for place in range(count)
        ]

    dearest = send(server, "sendList", unpaired, sections=sections(MESSAGE_PARTS, MESSAGE_PARTS))
    assert "is not connected" in dearest.json["response"]["message"][0]
    for count, rows, member in ((MESSAGE_PARTS + 1, 1, "sections"), (1, MESSAGE_PARTS + 1, "sections[0].rows")):
        longer = send(server, "sendList", unpaired, sections=sections(count, rows))
        assert longer.json["response"]["message"] == [[f"{member} does not meet maximum length of {MESSAGE_PARTS}"]]
    long = send(server, "sendButtons", unpaired, buttons=[{"type": "reply"}] * (MESSAGE_PARTS + 1))
    assert long.json["response"]["message"] == [[f"buttons does not meet maximum length of {MESSAGE_PARTS}"]]


def test_a_form_with_the_largest_file_passes_without_a_stall(server, engine):
    fields = [("number", NUMBER), ("mediatype", "image")]
    assert post_form(server, "sendMedia", engine, form(*fields, file=b"\r\n--X" * (MAX_FILE_BYTES // 5))).status == 201
    larger = post_form(server, "sendMedia", engine, form(*fields, file=b"x" * (MAX_FILE_BYTES + 1)))
    assert (larger.status, str(MAX_FILE_BYTES) in larger.json["response"]["message"][0]) == (413, True)
    assert post_form(server, "sendMedia", engine, form(*fields, file=b"x" * MAX_BODY_BYTES)).status == 413
    assert post_form(server, "sendMedia", engine, form(*fields, *[("mentioned", "5" * 200)] * 900)).status == 400
