"""POST /message/sendText: a text is announced once WhatsApp has taken it, and never before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from instances.changes import OutgoingText
from instances.crypto import Secret
from instances.models import Instance, Integration
from instances.providers.base import NotSent
from instances.providers.cloud_api import CloudApi
from tests.clients.node import NodeSocket
from tests.environment import GLOBAL_KEY
from tests.instances.providers.graph_api import Graph, break_off, error, hang_up, in_drops, taken
from tests.server import Number, Response, Server

ANA = "5511988887777@s.whatsapp.net"


@pytest.fixture(scope="module")
def running_graph() -> Iterator[Graph]:
    graph = Graph()
    yield graph
    graph.stop()


@pytest.fixture
def graph(running_graph: Graph) -> Graph:
    running_graph.forget()
    return running_graph


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    """One that knows where our Graph API is."""
    one = Server(environment | {"WA_BUSINESS_URL": running_graph.url + "/", "WA_BUSINESS_VERSION": "v21.0"})
    one.start()
    yield one
    one.stop()


@pytest.fixture
def cloud(server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS")


@pytest.fixture
def client(server, node, cloud) -> NodeSocket:
    return node.connect(f"{server.url}/{cloud.name}", auth={"apikey": cloud.token}).connected()


def send(server: Server, instance: Number, text: str = "Olá, Ana 😀", **members: Any) -> Response:
    body = {"number": "5511988887777", "text": text} | members
    return server.post(server.path("/message/sendText", instance), body, key=instance.token)


def told(server: Server, client: NodeSocket, instance: Number) -> list[dict[str, Any]]:
    """What the client has heard by now, in order: everything before an event that is made to mark the place."""
    marked = mark(server, instance)
    heard = []
    while True:
        event = client.wait_for("event")["args"][0]
        if event["event"] == "business.update" and event["data"]["value"].get("mark") == marked:
            return heard
        heard.append(event)


def mark(server: Server, instance: Number) -> str:
    mark = secrets.token_hex(8)
    value = {"metadata": {"phone_number_id": instance.number}, "mark": mark}
    entry = {"id": "1", "changes": [{"field": "mark", "value": value}]}
    assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200
    return mark


# What is sent, what is answered, what is heard


def test_a_text_goes_out_as_graph_documents(server, graph, cloud):
    assert send(server, cloud).status == 201

    [asked] = graph.requests
    assert asked.path == f"/v21.0/{cloud.number}/messages"
    assert asked.token == cloud.token
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511988887777",
        "type": "text",
        "text": {"body": "Olá, Ana 😀", "preview_url": False},
    }


def test_the_answer_is_evolutions_message_object_and_what_clients_hear(server, graph, cloud, client):
    graph.next(taken("wamid.SENT"))

    answer = send(server, cloud)

    message = answer.json
    assert answer.status == 201
    assert isinstance(message.pop("messageTimestamp"), int)
    assert message == {
        "key": {"remoteJid": ANA, "fromMe": True, "id": "wamid.SENT"},
        "status": "PENDING",
        "message": {"conversation": "Olá, Ana 😀"},
        "messageType": "conversation",
        "instanceId": cloud.id,
        "source": "unknown",
    }
    [event] = told(server, client, cloud)
    assert event["event"] == "send.message"
    assert event["data"] == answer.json
    assert server.counts(cloud)["Message"] == 1


def test_a_quoted_message_and_a_preview_reach_graph(server, graph, cloud):
    quoted = {"key": {"id": "wamid.ASKED", "remoteJid": ANA}, "message": {"conversation": "?"}}

    answer = send(server, cloud, linkPreview=True, quoted=quoted, delay=1200)

    [asked] = graph.requests
    assert asked.body["context"] == {"message_id": "wamid.ASKED"}
    assert asked.body["text"]["preview_url"] is True
    assert answer.json["message"] == {"conversation": "Olá, Ana 😀", "quoted": quoted}


@pytest.mark.parametrize(
    ("number", "address", "sent"),
    [
        ("+55 (11) 98888-7777", ANA, {"to": "5511988887777", "recipient_type": "individual"}),
        ("5511988887777:3@s.whatsapp.net", ANA, {"to": "5511988887777"}),
        ("BR.134912@lid", "BR.134912@lid", {"recipient": "BR.134912"}),
        ("120363041234567890@g.us", "120363041234567890@g.us", {"to": "120363041234567890", "recipient_type": "group"}),
    ],
)
def test_a_number_is_taken_as_people_and_clients_write_it(server, graph, cloud, number, address, sent):
    answer = send(server, cloud, number=number)

    assert (answer.status, answer.json["key"]["remoteJid"]) == (201, address)
    assert graph.requests[0].body.items() >= sent.items()


@pytest.mark.parametrize("number", ["+", "@s.whatsapp.net", "()", " "])
def test_what_is_no_number_is_refused_before_graph_is_asked(server, graph, cloud, number):
    answer = send(server, cloud, number=number)
    assert (answer.status, answer.json["error"]) == (400, "Bad Request")
    assert not graph.requests


@pytest.mark.parametrize("number", ["1" * 240, "1-" * 120, "a" * 240, "1" * 241, "1" * 5000])
def test_a_long_number_is_stored_or_refused(server, graph, cloud, number):
    answer = send(server, cloud, number=number)
    assert answer.status == (201 if len(number) <= 240 else 400), answer.body


def test_an_answer_that_comes_in_drops_is_read_whole(server, graph, cloud):
    graph.next(in_drops(b'{"messages": [{"id": "wamid.SLOW"}], "padding": "' + b" " * 2000 + b'"}'))
    assert send(server, cloud).json["key"]["id"] == "wamid.SLOW"


def test_a_token_that_is_part_of_the_answer_does_no_harm(server, graph):
    cloud = server.create(integration="WHATSAPP-BUSINESS", token="a")
    graph.next(taken("wamid.abracadabra"))
    assert send(server, cloud).json["key"]["id"] == "wamid.abracadabra"


def test_a_tick_finds_the_message_that_was_sent(server, graph, cloud, client):
    id = send(server, cloud).json["key"]["id"]
    status = {"id": id, "status": "delivered", "timestamp": "1761057700", "recipient_id": "5511988887777"}
    value = {"metadata": {"phone_number_id": cloud.number}, "statuses": [status]}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    server.post_meta({"object": "whatsapp_business_account", "entry": [entry]})

    sent, tick = told(server, client, cloud)
    assert (tick["event"], tick["data"]["keyId"], tick["data"]["status"]) == ("messages.update", id, "DELIVERED")
    assert tick["data"]["messageId"]
    assert sent["data"]["key"]["id"] == id


def test_a_text_is_announced_only_once_graph_has_taken_it(server, graph, cloud, client):
    release = graph.held()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server, cloud)
        assert graph.arrived.acquire(timeout=10)
        assert told(server, client, cloud) == [], "and meanwhile everything else goes on"
        assert server.counts(cloud)["Message"] == 0
        release()
        assert sending.result(10).status == 201
    assert [event["event"] for event in told(server, client, cloud)] == ["send.message"]


# Graph says no, or nothing


def test_what_graph_refuses_is_told_in_graphs_words(server, graph, cloud):
    details = "Message failed to send because more than 24 hours have passed since the customer last replied."
    graph.next(error(400, 131047, "(#131047) Re-engagement message", error_data={"details": details}))

    answer = send(server, cloud)

    assert answer.status == 400
    assert answer.json == {
        "status": 400,
        "error": "Bad Request",
        "response": {"message": [f"(#131047) Re-engagement message (code 131047): {details}"]},
    }


async def leak(request: web.Request) -> web.StreamResponse:
    """Graph repeats a token that it cannot parse."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    return error(
        401, 190, f"Malformed access token {token}", error_data={"details": f"Bearer {token} {' ' * 920}{token}"}
    )


REFUSALS = {
    "an invalid parameter": (error(400, 100, "(#100) Invalid parameter"), 400, "(#100) Invalid parameter (code 100)"),
    "an expired token": (error(401, 190, "Session has expired"), 400, "Session has expired (code 190)"),
    "a malformed token": (
        leak,
        400,
        f"Malformed access token ******** (code 190): Bearer ******** {' ' * 920}********",
    ),
    "no permission": (error(403, 10, "(#10) Permission denied"), 400, "(#10) Permission denied (code 10)"),
    "too many": (error(429, 130429, "(#130429) Rate limit hit"), 400, "(#130429) Rate limit hit (code 130429)"),
    "an error of its own": (error(500, 131000, "Something went wrong"), 502, "Something went wrong (code 131000)"),
    "being away": (error(503, 2, "Service temporarily unavailable"), 502, "Service temporarily unavailable (code 2)"),
    "details as a text": (error(400, 100, "No", error_data="x"), 400, "No (code 100)"),
    "an endless reason": (error(400, 100, "No" * 5000), 400, "No" * 500),
}


@pytest.mark.parametrize(("answer", "status", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_answered_and_nothing_is_stored_or_heard(server, graph, cloud, client, answer, status, message):
    graph.next(answer)

    refused = send(server, cloud, id="order-7")

    assert (refused.status, refused.json["status"]) == (status, status)
    assert refused.json["response"]["message"] == [message]
    assert told(server, client, cloud) == []
    assert server.counts(cloud)["Message"] == 0
    assert cloud.token not in refused.body.decode()
    assert cloud.token not in server.log.read_text()


NONSENSE = {
    "HTML": web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html"),
    "HTML with 200": web.Response(text="<html>Welcome</html>", content_type="text/html"),
    "nothing": web.Response(),
    "a list": web.json_response([1]),
    "null": web.json_response(None),
    "no messages": web.json_response({"messaging_product": "whatsapp"}),
    "an empty list of messages": web.json_response({"messages": []}),
    "messages as an object": web.json_response({"messages": {"id": "x"}}),
    "an id that is null": taken(None),
    "an id that is empty": taken(""),
    "an id that is a number": taken(5),
    "an error as a text": web.json_response({"error": "no"}, status=400),
    "an error without words": web.json_response({}, status=400),
    "a redirect": web.Response(status=307, headers={"Location": "/elsewhere"}),
    "two megabytes": web.json_response({"messages": [{"id": "x"}], "padding": "x" * 2_000_000}),
    "half an answer": break_off,
    "a closed connection": hang_up,
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_is_none_is_a_bad_gateway(server, graph, cloud, client, answer):
    graph.next(answer)

    refused = send(server, cloud)

    assert (refused.status, refused.json["error"]) == (502, "Bad Gateway")
    [message] = refused.json["response"]["message"]
    assert message.startswith("The Graph API ")
    assert len(graph.requests) == 1, "nothing was tried again or followed"
    assert told(server, client, cloud) == []
    assert server.counts(cloud)["Message"] == 0


def test_the_id_of_another_message_is_no_answer(server, graph, cloud, client):
    graph.next(taken("wamid.SAME"), taken("wamid.SAME"))
    first, second = send(server, cloud, "one"), send(server, cloud, "two")

    assert (first.status, second.status) == (201, 502)
    assert [event["data"]["message"] for event in told(server, client, cloud)] == [{"conversation": "one"}]


def test_a_graph_that_is_not_there_is_a_bad_gateway(start_server):
    server = start_server(WA_BUSINESS_URL="http://127.0.0.1:9")
    refused = send(server, server.create(integration="WHATSAPP-BUSINESS"))
    assert (refused.status, refused.json["error"]) == (502, "Bad Gateway")
    assert refused.json["response"]["message"] == ["The Graph API did not answer (ClientConnectorError)"]


async def test_a_graph_that_hangs_is_given_up_at_the_deadline(graph, monkeypatch, settings):
    monkeypatch.setattr("instances.outbound.client.DEADLINE", 0.2)
    settings.WA_BUSINESS_URL = graph.url
    release = graph.held()
    instance = Instance(integration=Integration.CLOUD_API, number="123", provider_token=Secret("graph-token"))

    with pytest.raises(NotSent) as refusal:
        await CloudApi().send_text(instance, OutgoingText(remote_jid=ANA, text="hello"))

    assert (refusal.value.status, "TimeoutError" in refusal.value.message) == (502, True)
    release()
    await asyncio.to_thread(graph.arrived.acquire, timeout=10)


@pytest.mark.parametrize("token", [None, "", "two\nlines"])
async def test_a_token_that_cannot_be_sent_is_no_accident(graph, settings, token):
    settings.WA_BUSINESS_URL = graph.url
    secret = None if token is None else Secret(token)
    instance = Instance(integration=Integration.CLOUD_API, number="123", provider_token=secret)

    with pytest.raises(NotSent):
        await CloudApi().send_text(instance, OutgoingText(remote_jid=ANA, text="hello"))
    assert not graph.requests


# A repeat of a request


def test_a_repeat_of_a_request_is_answered_with_the_first_result(server, graph, cloud, client):
    first, again = send(server, cloud, id="order-7"), send(server, cloud, id="order-7")

    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len(graph.requests) == 1
    assert [event["event"] for event in told(server, client, cloud)] == ["send.message"]


def test_the_same_id_at_another_instance_is_another_request(server, graph, cloud):
    other = server.create(integration="WHATSAPP-BUSINESS")
    ids = {send(server, one, id="order-7").json["key"]["id"] for one in (cloud, other)}
    assert len(ids) == len(graph.requests) == 2


def test_a_repeat_after_a_refusal_is_a_new_attempt(server, graph, cloud):
    graph.next(error(500, 131000, "Something went wrong"))
    assert send(server, cloud, id="order-7").status == 502
    assert send(server, cloud, id="order-7").status == 201
    assert len(graph.requests) == 2
    assert server.counts(cloud)["Message"] == 1


def test_a_repeat_while_the_first_is_under_way_is_a_conflict(server, graph, cloud):
    release = graph.held()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, server, cloud, id="order-7")
        assert graph.arrived.acquire(timeout=10)
        second = send(server, cloud, id="order-7")
        release()
        first = first.result(10)

    assert (second.status, second.json["error"]) == (409, "Conflict")
    assert "order-7" in second.json["response"]["message"][0]
    assert first.status == 201
    assert len(graph.requests) == 1
    assert send(server, cloud, id="order-7").json == first.json


@pytest.mark.parametrize("id", [None, "order-7"])
def test_an_instance_that_is_deleted_meanwhile_is_not_found_any_more(server, graph, cloud, id):
    release = graph.held()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server, cloud, id=id)
        assert graph.arrived.acquire(timeout=10)
        assert server.request("DELETE", server.path("/instance/delete", cloud)).status == 200
        release()
        answer = sending.result(10)

    assert answer.status == 404
    assert answer.json["response"]["message"] == [f'The "{cloud.name}" instance does not exist']


# The other integrations


def test_the_evolution_channel_calls_nobody_and_announces_the_number_as_given(server, graph, node):
    instance = server.create(integration="EVOLUTION")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    quoted = {"key": {"id": "ABC"}}

    answer = send(server, instance, number="+55 11 98888-7777", quoted=quoted)

    message = answer.json
    assert answer.status == 201
    assert client.event("send.message")["data"] == message
    assert message["key"]["remoteJid"] == "+55 11 98888-7777"
    assert message["key"]["fromMe"] is True
    assert message["message"] == {"conversation": "Olá, Ana 😀", "quoted": quoted}
    assert not {"status", "pushName"} & set(message)
    assert not graph.requests
    assert server.counts(instance)["Message"] == 1


def test_whatsapp_web_is_not_connected(server, graph):
    instance = server.create(integration="WHATSAPP-BAILEYS")
    answer = send(server, instance)
    assert (answer.status, answer.json["error"]) == (400, "Bad Request")
    assert answer.json["response"]["message"] == [f'The "{instance.name}" instance is not connected']
    assert server.counts(instance)["Message"] == 0


# Bodies


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, ['instance requires property "number"', 'instance requires property "text"']),
        ({"number": "5511988887777"}, ['instance requires property "text"']),
        ({"number": 5511988887777, "text": "x"}, ["number Invalid format"]),
        ({"number": None, "text": None}, ["number is not of a type(s) string", "text is not of a type(s) string"]),
        ({"number": "", "text": "x"}, ['The "number" cannot be empty']),
        ({"number": "5511", "text": ""}, ["Text is required"]),
        ({"number": "5511", "text": " \n"}, ["Text is required"]),
        ({"number": "5511", "text": ["x"]}, ["text is not of a type(s) string"]),
        ({"number": "5511", "text": "a\x00b"}, ["text must not contain NUL characters"]),
        ({"number": "5511", "text": "x", "linkPreview": "yes"}, ["linkPreview is not of a type(s) boolean"]),
        ({"number": "5511", "text": "x", "delay": "soon"}, ["Enter a value in milliseconds"]),
        ({"number": "5511", "text": "x", "quoted": "x"}, ["quoted is not of a type(s) object"]),
        ({"number": "5511", "text": "x", "quoted": {}}, ['quoted requires property "key"']),
        ({"number": "5511", "text": "x", "quoted": {"key": {}}}, ['quoted.key requires property "id"']),
        ({"number": "5511", "text": "x", "quoted": {"key": {"id": 5}}}, ["quoted.key.id is not of a type(s) string"]),
        ({"number": "5511", "text": "x", "id": 5}, ["id is not of a type(s) string"]),
        ({"number": "5511", "text": "x", "id": ""}, ['The "id" cannot be empty']),
        ({"number": "5511", "text": "x", "id": "x" * 256}, ["id does not meet maximum length of 255"]),
    ],
)
def test_a_body_that_is_no_text_is_refused_in_evolutions_words(server, graph, cloud, body, message):
    answer = server.post(server.path("/message/sendText", cloud), body, key=GLOBAL_KEY)
    assert (answer.status, answer.json["error"]) == (400, "Bad Request")
    assert answer.json["response"]["message"] == [message]
    assert not graph.requests


def test_members_that_clients_send_besides_are_ignored(server, graph, cloud):
    extra = {"mentionsEveryOne": False, "mentioned": ["5511"], "quoted": None, "options": {"delay": 5}, "encoding": 1}
    assert send(server, cloud, **extra).status == 201


def test_a_form_is_a_body_too(server, graph, cloud):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"number=5511988887777&text=Ol%C3%A1+Ana&delay=5"
    answer = server.post(server.path("/message/sendText", cloud), body, key=cloud.token, headers=headers)
    assert (answer.status, answer.json["message"]) == (201, {"conversation": "Olá Ana"})


def test_many_sends_that_hang_stop_nothing_else(server, graph, cloud):
    """More than Django's quick routes have threads."""
    releases = [graph.held() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        sending = [pool.submit(send, server, cloud) for _ in range(20)]
        for _ in range(20):
            assert graph.arrived.acquire(timeout=10)
        assert server.get(server.path("/instance/connectionState", cloud)).status == 200
        for release in releases:
            release()
        assert {one.result(10).status for one in sending} == {201}
