"""POST /message/sendText: a text is announced once WhatsApp has accepted it, and never before."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from instances.crypto import Secret
from instances.models import Instance
from instances.outbound_message import MessageKind, OutboundMessage
from instances.providers.base import NotSent, OutcomeUnknown
from instances.providers.cloud_api import CloudApi
from tests.clients.node import NodeSocket
from tests.environment import GLOBAL_KEY
from tests.instances.providers.graph_api import Graph, break_off, error, hang_up, in_drops, taken
from tests.server import Number, Response, Server

ANA = "5511988887777@s.whatsapp.net"
HELLO = OutboundMessage(
    kind=MessageKind.TEXT, remote_jid=ANA, members={"text": "hello", "linkPreview": False}, content={}
)


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    """A server that is configured with the URL of our Graph API."""
    server = Server(environment | {"WA_BUSINESS_URL": running_graph.url + "/", "WA_BUSINESS_VERSION": "v21.0"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cloud(server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS")


@pytest.fixture
def client(server, node, cloud) -> NodeSocket:
    return node.connect(f"{server.url}/{cloud.name}", auth={"apikey": cloud.token}).connected()


def send(server: Server, instance: Number, text: str = "Olá, Ana 😀", **members: Any) -> Response:
    body = {"number": "5511988887777", "text": text} | members
    return server.post(server.path("/message/sendText", instance), body, key=instance.token)


def received(server: Server, client: NodeSocket, instance: Number) -> list[dict[str, Any]]:
    """Return the events that the client has received so far: those before a marker event that is posted now."""
    marker = post_marker(server, instance)
    events = []
    while True:
        event = client.wait_for("event")["args"][0]
        if event["event"] == "business.update" and event["data"]["value"].get("marker") == marker:
            return events
        events.append(event)


def post_marker(server: Server, instance: Number) -> str:
    marker = secrets.token_hex(8)
    value = {"metadata": {"phone_number_id": instance.number}, "marker": marker}
    entry = {"id": "1", "changes": [{"field": "marker", "value": value}]}
    assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200
    return marker


# Requests to Graph, responses, and events


def test_a_text_is_sent_as_graph_documents(server, graph, cloud):
    assert send(server, cloud).status == 201

    [request] = graph.requests
    assert request.path == f"/v21.0/{cloud.number}/messages"
    assert request.token == cloud.token
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511988887777",
        "type": "text",
        "text": {"body": "Olá, Ana 😀", "preview_url": False},
    }


def test_the_response_and_the_event_hold_evolutions_message_object(server, graph, cloud, client):
    graph.next(taken("wamid.SENT"))

    response = send(server, cloud)

    message = response.json
    assert response.status == 201
    assert isinstance(message.pop("messageTimestamp"), int)
    assert message == {
        "key": {"remoteJid": ANA, "fromMe": True, "id": "wamid.SENT"},
        "status": "PENDING",
        "message": {"conversation": "Olá, Ana 😀"},
        "messageType": "conversation",
        "instanceId": cloud.id,
        "source": "unknown",
    }
    [event] = received(server, client, cloud)
    assert event["event"] == "send.message"
    assert event["data"] == response.json
    assert server.counts(cloud)["Message"] == 1


def test_a_quoted_message_and_a_preview_reach_graph(server, graph, cloud):
    quoted = {"key": {"id": "wamid.ASKED", "remoteJid": ANA}, "message": {"conversation": "?"}}

    response = send(server, cloud, linkPreview=True, quoted=quoted, delay=1200)

    [request] = graph.requests
    assert request.body["context"] == {"message_id": "wamid.ASKED"}
    assert request.body["text"]["preview_url"] is True
    assert response.json["message"] == {"conversation": "Olá, Ana 😀", "contextInfo": {"stanzaId": "wamid.ASKED"}}


@pytest.mark.parametrize(
    ("number", "address", "sent"),
    [
        ("+55 (11) 98888-7777", ANA, {"to": "5511988887777", "recipient_type": "individual"}),
        ("5511988887777:3@s.whatsapp.net", ANA, {"to": "5511988887777"}),
        ("+55.11.98888.7777", ANA, {"to": "5511988887777"}),
        ("BR.134912@lid", "BR.134912@lid", {"recipient": "BR.134912"}),
        ("US.13491208655302741918", "US.13491208655302741918@lid", {"recipient": "US.13491208655302741918"}),
        ("US.ENT.118157992", "US.ENT.118157992@lid", {"recipient": "US.ENT.118157992"}),
        ("US.134912@s.whatsapp.net", "US.134912@lid", {"recipient": "US.134912"}),
        ("120363041234567890@g.us", "120363041234567890@g.us", {"to": "120363041234567890", "recipient_type": "group"}),
    ],
)
def test_a_number_is_accepted_as_people_and_clients_write_it(server, graph, cloud, number, address, sent):
    response = send(server, cloud, number=number)

    assert (response.status, response.json["key"]["remoteJid"]) == (201, address)
    assert graph.requests[0].body.items() >= sent.items()
    assert len({"to", "recipient"} & set(graph.requests[0].body)) == 1


@pytest.mark.parametrize("number", ["+", "@s.whatsapp.net", "()", " "])
def test_an_invalid_number_is_refused_without_a_request_to_graph(server, graph, cloud, number):
    response = send(server, cloud, number=number)
    assert (response.status, response.json["error"]) == (400, "Bad Request")
    assert not graph.requests


@pytest.mark.parametrize("number", ["1" * 240, "1-" * 120, "a" * 240, "1" * 241, "1" * 5000])
def test_a_long_number_is_stored_or_refused(server, graph, cloud, number):
    response = send(server, cloud, number=number)
    assert response.status == (201 if len(number) <= 240 else 400), response.body


def test_a_response_in_small_chunks_is_read_completely(server, graph, cloud):
    graph.next(in_drops(b'{"messages": [{"id": "wamid.SLOW"}], "padding": "' + b" " * 2000 + b'"}'))
    assert send(server, cloud).json["key"]["id"] == "wamid.SLOW"


def test_a_token_that_occurs_in_the_response_is_not_replaced_in_ids(server, graph):
    cloud = server.create(integration="WHATSAPP-BUSINESS", token="a")
    graph.next(taken("wamid.abracadabra"))
    assert send(server, cloud).json["key"]["id"] == "wamid.abracadabra"


def test_a_status_updates_the_message_that_was_sent(server, graph, cloud, client):
    id = send(server, cloud).json["key"]["id"]
    status = {"id": id, "status": "delivered", "timestamp": "1761057700", "recipient_id": "5511988887777"}
    value = {"metadata": {"phone_number_id": cloud.number}, "statuses": [status]}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    server.post_meta({"object": "whatsapp_business_account", "entry": [entry]})

    sent, update = received(server, client, cloud)
    assert (update["event"], update["data"]["keyId"], update["data"]["status"]) == ("messages.update", id, "DELIVERED")
    assert update["data"]["messageId"]
    assert sent["data"]["key"]["id"] == id


def test_a_text_is_announced_only_after_graph_has_accepted_it(server, graph, cloud, client):
    release = graph.held()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server, cloud)
        assert graph.arrived.acquire(timeout=10)
        assert received(server, client, cloud) == [], "other events are delivered meanwhile"
        assert server.counts(cloud)["Message"] == 0
        release()
        assert sending.result(10).status == 201
    assert [event["event"] for event in received(server, client, cloud)] == ["send.message"]


# Errors of Graph


def test_an_error_of_graph_is_returned_in_graphs_words(server, graph, cloud):
    details = "Message failed to send because more than 24 hours have passed since the customer last replied."
    graph.next(error(400, 131047, "(#131047) Re-engagement message", error_data={"details": details}))

    response = send(server, cloud)

    assert response.status == 400
    assert response.json == {
        "status": 400,
        "error": "Bad Request",
        "response": {"message": [f"(#131047) Re-engagement message (code 131047): {details}"]},
    }


async def leak(request: web.Request) -> web.StreamResponse:
    """Repeat the token, as Graph does when it cannot parse it."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    return error(
        401, 190, f"Malformed access token {token}", error_data={"details": f"Bearer {token} {' ' * 920}{token}"}
    )


ERRORS = {
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


@pytest.mark.parametrize(("reply", "status", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_of_graph_is_returned_and_no_message_stored(server, graph, cloud, client, reply, status, message):
    graph.next(reply)

    response = send(server, cloud, id="order-7")

    assert (response.status, response.json["status"]) == (status, status)
    assert response.json["response"]["message"] == [message]
    assert received(server, client, cloud) == []
    assert server.counts(cloud)["Message"] == 0
    assert cloud.token not in response.body.decode()
    assert cloud.token not in server.log.read_text()


MALFORMED = {
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
    "a redirect": web.Response(status=307, headers={"Location": "/other"}),
    "two megabytes": web.json_response({"messages": [{"id": "x"}], "padding": "x" * 2_000_000}),
    "half a response": break_off,
    "a closed connection": hang_up,
}


@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_response_of_graph_is_a_bad_gateway(server, graph, cloud, client, reply):
    graph.next(reply)

    response = send(server, cloud)

    assert (response.status, response.json["error"]) == (502, "Bad Gateway")
    [message] = response.json["response"]["message"]
    assert message.startswith("The Graph API ")
    assert len(graph.requests) == 1, "no request is retried or redirected"
    assert received(server, client, cloud) == []
    assert server.counts(cloud)["Message"] == 0


def test_the_id_of_another_message_is_a_bad_gateway(server, graph, cloud, client):
    graph.next(taken("wamid.SAME"), taken("wamid.SAME"))
    first, second = send(server, cloud, "one"), send(server, cloud, "two")

    assert (first.status, second.status) == (201, 502)
    assert [event["data"]["message"] for event in received(server, client, cloud)] == [{"conversation": "one"}]


def test_an_unreachable_graph_is_a_bad_gateway(start_server):
    server = start_server(WA_BUSINESS_URL="http://127.0.0.1:9")
    response = send(server, server.create(integration="WHATSAPP-BUSINESS"))
    assert (response.status, response.json["error"]) == (502, "Bad Gateway")
    assert response.json["response"]["message"] == ["The Graph API did not answer (ClientConnectorError)"]


async def test_a_request_to_graph_is_aborted_at_the_deadline(graph, monkeypatch, settings):
    monkeypatch.setattr("instances.outbound.client.DEADLINE", 0.2)
    settings.WA_BUSINESS_URL = graph.url
    release = graph.held()
    instance = Instance(integration="WHATSAPP-BUSINESS", number="123", provider_token=Secret("graph-token"))

    with pytest.raises(OutcomeUnknown) as raised:
        await CloudApi().send(instance, HELLO)

    assert (raised.value.status, "TimeoutError" in raised.value.message) == (504, True)
    release()
    await asyncio.to_thread(graph.arrived.acquire, timeout=10)


@pytest.mark.parametrize("token", [None, "", "two\nlines"])
async def test_a_token_that_no_header_can_hold_is_not_sent(graph, settings, token):
    settings.WA_BUSINESS_URL = graph.url
    secret = None if token is None else Secret(token)
    instance = Instance(integration="WHATSAPP-BUSINESS", number="123", provider_token=secret)

    with pytest.raises(NotSent):
        await CloudApi().send(instance, HELLO)
    assert not graph.requests


# A repeat of a request


def test_a_repeat_of_a_request_returns_the_first_result(server, graph, cloud, client):
    first, repeat = send(server, cloud, id="order-7"), send(server, cloud, id="order-7")

    assert (first.status, repeat.status) == (201, 201)
    assert first.json == repeat.json
    assert len(graph.requests) == 1
    assert [event["event"] for event in received(server, client, cloud)] == ["send.message"]


def test_the_same_id_at_another_instance_is_another_request(server, graph, cloud):
    other = server.create(integration="WHATSAPP-BUSINESS")
    ids = {send(server, instance, id="order-7").json["key"]["id"] for instance in (cloud, other)}
    assert len(ids) == len(graph.requests) == 2


def test_a_repeat_after_an_error_is_a_new_attempt(server, graph, cloud):
    graph.next(error(500, 131000, "Something went wrong"))
    assert send(server, cloud, id="order-7").status == 502
    assert send(server, cloud, id="order-7").status == 201
    assert len(graph.requests) == 2
    assert server.counts(cloud)["Message"] == 1


def test_a_repeat_during_the_first_request_is_a_conflict(server, graph, cloud):
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
def test_an_instance_that_is_deleted_meanwhile_is_not_found(server, graph, cloud, id):
    release = graph.held()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server, cloud, id=id)
        assert graph.arrived.acquire(timeout=10)
        assert server.request("DELETE", server.path("/instance/delete", cloud)).status == 200
        release()
        response = sending.result(10)

    assert response.status == 404
    assert response.json["response"]["message"] == [f'The "{cloud.name}" instance does not exist']


# The other integrations


def test_the_evolution_channel_sends_no_request_and_announces_the_number_as_given(server, graph, node):
    instance = server.create(integration="EVOLUTION")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    quoted = {"key": {"id": "ABC"}}

    response = send(server, instance, number="+55 11 98888-7777", quoted=quoted)

    message = response.json
    assert response.status == 201
    assert client.event("send.message")["data"] == message
    assert message["key"]["remoteJid"] == "+55 11 98888-7777"
    assert message["key"]["fromMe"] is True
    assert message["message"] == {"conversation": "Olá, Ana 😀", "quoted": quoted}
    assert not {"status", "pushName"} & set(message)
    assert not graph.requests
    assert server.counts(instance)["Message"] == 1


def test_whatsapp_web_is_not_connected(server, graph):
    instance = server.create(integration="WHATSAPP-BAILEYS")
    response = send(server, instance)
    assert (response.status, response.json["error"]) == (400, "Bad Request")
    assert response.json["response"]["message"] == [f'The "{instance.name}" instance is not connected']
    assert server.counts(instance)["Message"] == 0


@pytest.mark.parametrize(
    ("integration", "status", "words"),
    [
        ("EVOLUTION", 201, "An engine of your own sends"),
        ("WHATSAPP-BAILEYS", 400, "no engine for WhatsApp Web"),
        ("WHATSAPP-BUSINESS", 201, None),
    ],
)
def test_the_answers_say_who_has_to_send(server, graph, integration, status, words):
    body = {"instanceName": f"note-{integration}-{secrets.token_hex(4)}", "integration": integration}
    body |= {"number": str(secrets.randbelow(10**12) + 10**12), "token": f"graph-{secrets.token_hex(12)}"}
    created = server.post("/instance/create", body)
    number = Number(body["instanceName"], created.json["hash"], created.json["instance"]["instanceId"], body["number"])
    sent = send(server, number)

    assert (created.status, sent.status) == (201, status)
    for response in (created, sent):
        assert (words or "") in (response.headers["X-Evoapi-Note"] or "")
        assert (response.headers["X-Evoapi-Note"] is None) == (words is None)


def test_an_engine_may_publish_the_statuses_of_what_it_has_sent(server, graph):
    instance = server.create(integration="EVOLUTION")
    ids = [send(server, instance).json["key"]["id"] for _ in range(2)]

    def publish(*statuses: Any, id: Any = ids[0]) -> None:
        events = [{"event": "messages.update", "data": {"keyId": id, "status": status}} for status in statuses]
        assert server.post(server.path("/event/publish", instance), events, key=instance.token).status == 201

    publish("SERVER_ACK", "ERROR", "SERVER_ACK")
    assert statuses_of(server, instance) == {ids[0]: "ERROR", ids[1]: None}
    publish("READ", "DELIVERY_ACK", "SENDING", "nonsense", 5, None, {"a": 1})
    publish("READ", id="nobody's")
    publish("READ", id="NUL\x00")
    publish("READ", id=5)
    assert statuses_of(server, instance) == {ids[0]: "READ", ids[1]: None}
    both = {"event": "messages.update", "data": [{"keyId": id, "status": "PLAYED"} for id in ids] + [5]}
    assert server.post(server.path("/event/publish", instance), both, key=instance.token).status == 201
    assert statuses_of(server, instance) == {ids[0]: "PLAYED", ids[1]: "PLAYED"}


def statuses_of(server: Server, instance: Number) -> dict[str, str | None]:
    rows = f"Message.objects.filter(instance_id={instance.id!r}).values_list('wa_id', 'status')"
    return json.loads(
        server.shell(f"import json; from instances.models import Message; print(json.dumps(dict({rows})))")
    )


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
def test_an_invalid_body_is_refused_in_evolutions_words(server, graph, cloud, body, message):
    response = server.post(server.path("/message/sendText", cloud), body, key=GLOBAL_KEY)
    assert (response.status, response.json["error"]) == (400, "Bad Request")
    assert response.json["response"]["message"] == [message]
    assert not graph.requests


def test_additional_members_are_ignored(server, graph, cloud):
    extra = {"mentionsEveryOne": False, "mentioned": ["5511"], "quoted": None, "options": {"delay": 5}, "encoding": 1}
    assert send(server, cloud, **extra).status == 201


def test_a_form_is_accepted_as_a_body(server, graph, cloud):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"number=5511988887777&text=Ol%C3%A1+Ana&delay=5"
    response = server.post(server.path("/message/sendText", cloud), body, key=cloud.token, headers=headers)
    assert (response.status, response.json["message"]) == (201, {"conversation": "Olá Ana"})


def test_many_hanging_requests_to_graph_do_not_block_other_routes(server, graph, cloud):
    """More requests than the other routes have threads."""
    releases = [graph.held() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        sending = [pool.submit(send, server, cloud) for _ in range(20)]
        for _ in range(20):
            assert graph.arrived.acquire(timeout=10)
        assert server.get(server.path("/instance/connectionState", cloud)).status == 200
        for release in releases:
            release()
        assert {future.result(10).status for future in sending} == {201}
