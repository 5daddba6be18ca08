"""The result of a send and WhatsApp's reports on it come in any order, or not at all, and are announced as they are."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from instances.models.message_states import REPORTED, STEPS, MessageState, is_step
from tests.instances.providers.graph_api import Answering, Graph, error, hang_up, taken
from tests.server import Number, Response, Server

ANA, BIA = "5511988887777", "5521977776666"


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    server = Server(environment | {"WA_BUSINESS_URL": running_graph.url, "LIMIT_SEND_SECONDS": "1"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cloud(server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS")


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Response]]]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def send(server: Server, instance: Number, text: str = "Olá", number: str = ANA, **members: Any) -> Response:
    body = {"number": number, "text": text} | members
    return server.post(server.path("/message/sendText", instance), body, key=instance.token)


def send_image(server: Server, instance: Number, **members: Any) -> Response:
    body = {"number": ANA, "mediatype": "image", "media": "https://files.example.com/a.png"} | members
    return server.post(server.path("/message/sendMedia", instance), body, key=instance.token)


def report(server: Server, instance: Number, *statuses: str, id: str, to: str = ANA, **members: Any) -> None:
    """Post statuses of a message as Meta does, each in a payload of its own."""
    for status in statuses:
        raw = {"id": id, "status": status, "timestamp": "1761057700", "recipient_id": to} | members
        post_value(server, instance, statuses=[raw])


def post_value(server: Server, instance: Number, **members: Any) -> None:
    value = {"metadata": {"phone_number_id": instance.number}} | members
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200


def events(server: Server, instance: Number) -> list[dict[str, Any]]:
    """Return the events of the instance's messages, in order."""
    found = server.get(server.path("/event/find", instance) + "?limit=1000").json["events"]
    return [event for event in found if event["event"] in ("send.message", "messages.update", "messages.upsert")]


def announced(server: Server, instance: Number) -> list[tuple[str, str, str]]:
    """Return each event's name, its message's id at WhatsApp, and the status it tells."""
    announced = []
    for event in events(server, instance):
        data = event["data"]
        announced.append((event["event"], data.get("keyId") or data["key"]["id"], data.get("status", "")))
    return announced


def stored(server: Server, instance: Number) -> list[list[Any]]:
    """Return the stored messages: id, id at WhatsApp and status."""
    code = f"""
import json
from instances.models import Message
rows = Message.objects.filter(instance_id={instance.id!r}).order_by("pk")
print(json.dumps([[str(row.pk), row.wa_id, row.status] for row in rows]))
"""
    return json.loads(server.shell(code))


def let_pass(server: Server, instance: Number, minutes: int) -> None:
    """Make sends and early statuses look as old as if so many minutes had passed."""
    server.shell(
        f"""
from datetime import timedelta
from django.db.models import F
from instances.models import EarlyStatus, Message
for model in (EarlyStatus, Message):
    rows = model.objects.filter(instance_id={instance.id!r})
    rows.update(created_at=F("created_at") - timedelta(minutes={minutes}))
"""
    )


# The table


ORDER = ["PENDING", "SENT", "FAILED", "DELIVERED", "READ", "PLAYED"]


def test_no_step_of_the_table_goes_back():
    assert set(STEPS) == set(MessageState)
    for before, after in itertools.product(ORDER, repeat=2):
        is_forward = ORDER.index(before) < ORDER.index(after)
        assert is_step(MessageState(before), MessageState(after)) == is_forward, (before, after)


def test_only_a_send_has_the_states_of_a_send():
    sends = {MessageState.SENDING, MessageState.UNKNOWN}
    for before, steps in STEPS.items():
        assert not steps & sends or before in sends
    assert not sends & set(REPORTED.values()), "nobody reports them"
    assert STEPS[MessageState.UNKNOWN] >= {MessageState.SENDING, MessageState.PENDING}


# Every order of a send, its answer, a repeat, and the reports on it


STATUSES = ["sent", "delivered", "read", "failed"]
SEQUENCES = [sequence for length in (1, 2) for sequence in itertools.permutations(STATUSES, length)]


@pytest.mark.parametrize(
    "has_callback_data",
    [pytest.param(False, id="unmarked", marks=pytest.mark.any_database), pytest.param(True, id="marked")],
)
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("sequence", SEQUENCES, ids="-".join)
def test_no_order_ends_behind_the_furthest_that_was_reported(
    server, graph, background, cloud, sequence, is_lost, has_callback_data
):
    for early in range(len(sequence) + 1):
        walk(server, graph, background, cloud, sequence, early, is_lost, has_callback_data)


@pytest.mark.slow
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "lost"])
def test_all_reports_in_any_order_end_with_the_furthest(server, graph, background, cloud, is_lost):
    for number, sequence in enumerate(itertools.permutations(STATUSES)):
        walk(server, graph, background, cloud, sequence, number % 5, is_lost, has_callback_data=False)


def walk(
    server: Server,
    graph: Graph,
    background: Callable[..., Future[Response]],
    instance: Number,
    sequence: tuple[str, ...],
    early: int,
    is_lost: bool,
    has_callback_data: bool,
) -> None:
    """Send a text; so many statuses come before Graph's answer, the others after it, and then the request again."""
    request_id, wa_id = secrets.token_hex(8), f"wamid.{secrets.token_hex(8)}"
    before = len(events(server, instance))
    graph.forget()
    release = graph.held(hang_up if is_lost else taken(wa_id))
    sending = background(send, server, instance, id=request_id)
    assert graph.arrived.acquire(timeout=10)
    data = graph.requests[-1].body["biz_opaque_callback_data"]
    members = {"biz_opaque_callback_data": data} if has_callback_data else {}
    report(server, instance, *sequence[:early], id=wa_id, **members)
    release()
    answer = sending.result(10)
    is_settled = not is_lost or (has_callback_data and early > 0)
    assert answer.status == (201 if is_settled else 502), answer.body
    report(server, instance, *sequence[early:], id=wa_id, **members)
    graph.next(taken(wa_id))
    repeat = send(server, instance, id=request_id, retryUnknown=True)

    assert (repeat.status, repeat.json["key"]["id"]) == (201, wa_id)
    furthest = max(sequence, key=lambda status: ORDER.index(status.upper())).upper()
    pk, _, status = next(row for row in stored(server, instance) if row[1] == wa_id)
    assert status == furthest, events(server, instance)
    sent, *updates = events(server, instance)[before:]
    assert "key" in sent["data"], (announced(server, instance), early, answer.json)
    assert (sent["event"], sent["data"]["key"]["id"], sent["data"]["status"]) == ("send.message", wa_id, "PENDING")
    assert [update["data"]["status"] for update in updates] == [status.upper() for status in sequence]
    assert {update["data"]["messageId"] for update in updates} == {pk}
    assert not any("biz_opaque_callback_data" in update["data"] for update in updates)


def test_a_late_status_does_not_hide_a_failure(server, graph, cloud):
    id = send(server, cloud).json["key"]["id"]
    for status, expected in (
        ("failed", "FAILED"),
        ("sent", "FAILED"),
        ("delivered", "DELIVERED"),
        ("failed", "DELIVERED"),
    ):
        report(server, cloud, status, id=id)
        assert stored(server, cloud)[0][2] == expected


def test_a_status_that_nobody_knows_is_told_and_changes_nothing(server, graph, cloud):
    id = send(server, cloud).json["key"]["id"]
    report(server, cloud, "delivered", "unknown", "sending", "warning", "sent", id=id)

    assert [status for _, _, status in announced(server, cloud)][1:] == [
        "DELIVERED",
        "UNKNOWN",
        "SENDING",
        "WARNING",
        "SENT",
    ]
    assert stored(server, cloud)[0][2] == "DELIVERED"


# A send of unknown outcome


async def late(request: web.Request) -> web.StreamResponse:
    """Accept the message, and answer after the server's patience."""
    await asyncio.sleep(3)
    return taken("wamid.LATE")


LOST: dict[str, tuple[Answering | web.StreamResponse, int]] = {
    "no answer in time": (late, 504),
    "a connection that breaks": (hang_up, 502),
    "the page of a gateway": (web.Response(status=502, text="<html>Bad gateway</html>"), 502),
    "a time-out of a gateway": (web.Response(status=504), 502),
    "an accepted message without its id": (web.json_response({"messages": []}), 502),
    "an error that Graph does not know": (error(500, 1, "An unknown error occurred"), 502),
}


@pytest.mark.bound("LIMIT_SEND_SECONDS")
@pytest.mark.parametrize(("answer", "status"), LOST.values(), ids=LOST)
def test_a_send_whose_answer_is_lost_is_not_repeated_by_itself(server, graph, cloud, answer, status):
    graph.next(answer)
    first, repeat = send(server, cloud, id="order-7"), send(server, cloud, id="order-7")

    assert (first.status, first.json["status"]) == (status, status)
    [message] = first.json["response"]["message"]
    assert "It is not known whether the message was sent" in message
    assert "retryUnknown" in message
    assert first.json["response"]["outcome"] == "unknown"
    assert (repeat.status, repeat.json) == (status, first.json)
    assert len(graph.requests) == 1
    assert announced(server, cloud) == []
    assert server.counts(cloud)["Message"] == 0

    again = send(server, cloud, id="order-7", retryUnknown=True)
    assert again.status == 201
    assert len(graph.requests) == 2
    assert send(server, cloud, id="order-7", retryUnknown=True).json == again.json, "what is known is not sent again"
    assert len(graph.requests) == 2


def test_two_minutes_later_the_same_id_is_sent_again(server, graph, cloud):
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    let_pass(server, cloud, minutes=3)

    assert send(server, cloud, id="order-7").status == 201
    assert len(graph.requests) == 2
    assert server.counts(cloud)["Message"] == 1


def test_a_repeat_with_another_text_is_told_nothing_of_the_first(server, graph, cloud):
    graph.next(hang_up, hang_up)
    send(server, cloud, "one", id="order-7")
    first_data = graph.requests[0].body["biz_opaque_callback_data"]
    send(server, cloud, "two", id="order-7", retryUnknown=True)
    report(server, cloud, "sent", id="wamid.ONE", biz_opaque_callback_data=first_data)

    assert send(server, cloud, "two", id="order-7").json["response"]["outcome"] == "unknown"


def test_both_messages_of_a_request_that_was_sent_twice_are_told(server, graph, background, cloud):
    """The first send's status comes while the second is under way."""
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    data = graph.requests[0].body["biz_opaque_callback_data"]
    release = graph.held(taken("wamid.TWO"))
    sending = background(send, server, cloud, id="order-7", retryUnknown=True)
    assert graph.arrived.acquire(timeout=10)
    assert graph.arrived.acquire(timeout=10)
    report(server, cloud, "delivered", id="wamid.ONE", biz_opaque_callback_data=data)
    release()

    assert sending.result(10).json["key"]["id"] == "wamid.TWO"
    assert [row[1:] for row in stored(server, cloud)] == [["wamid.ONE", "DELIVERED"], ["wamid.TWO", "PENDING"]]
    assert send(server, cloud, id="order-7").json["key"]["id"] == "wamid.ONE"
    assert [event for event in announced(server, cloud) if event[0] == "send.message"] == [
        ("send.message", "wamid.ONE", "PENDING"),
        ("send.message", "wamid.TWO", "PENDING"),
    ]


def test_without_an_id_nothing_is_kept_of_a_send_of_unknown_outcome(server, graph, cloud):
    graph.next(hang_up)
    response = send(server, cloud)

    assert (response.status, response.json["response"]["outcome"]) == (502, "unknown")
    assert "send it twice" in response.json["response"]["message"][0]
    assert stored(server, cloud) == []


@pytest.mark.parametrize("answer", [error(400, 100, "(#100) Invalid parameter"), error(503, 2, "Service unavailable")])
def test_a_refusal_of_graph_is_known(server, graph, cloud, answer):
    graph.next(answer)
    refused = send(server, cloud, id="order-7")

    assert "outcome" not in refused.json["response"]
    assert send(server, cloud, id="order-7").status == 201


@pytest.mark.slow
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_request_that_found_no_server_was_not_sent(start_server, graph, url):
    server = start_server(WA_BUSINESS_URL=url)
    instance = server.create(integration="WHATSAPP-BUSINESS")

    for _ in range(2):
        response = send(server, instance, id="order-7")
        assert response.status == 502
        assert "outcome" not in response.json["response"]
    assert stored(server, instance) == []


def test_a_socket_is_answered_as_rest_is(server, graph, cloud, node):
    client = node.connect(f"{server.url}/{cloud.name}", auth={"apikey": cloud.token}).connected()
    graph.next(hang_up)
    body = {"number": ANA, "text": "Olá", "id": "order-7"}

    lost = client.call("send_message", body)

    assert lost["response"]["outcome"] == "unknown"
    assert client.call("send_message", body) == lost == send(server, cloud, id="order-7").json
    assert client.call("send_message", body | {"retryUnknown": True})["key"]["fromMe"]


def test_an_unknown_outcome_needs_an_id_to_be_retried(server, graph, cloud):
    response = send(server, cloud, retryUnknown=True)
    assert (response.status, response.json["response"]["message"]) == (400, [['retryUnknown requires property "id"']])
    assert not graph.requests


# Statuses before the answer


def test_a_send_without_an_id_gets_its_early_statuses(server, graph, background, cloud):
    release = graph.held(taken("wamid.EARLY"))
    sending = background(send, server, cloud)
    assert graph.arrived.acquire(timeout=10)
    report(server, cloud, "sent", "delivered", "delivered", id="wamid.EARLY")
    assert announced(server, cloud) == []
    release()

    answer = sending.result(10).json
    sent, *updates = events(server, cloud)
    assert sent["data"] == answer
    assert [update["data"]["status"] for update in updates] == ["SENT", "DELIVERED"]
    assert [[update["data"]["messageId"], "wamid.EARLY", "DELIVERED"] for update in updates[1:]] == stored(
        server, cloud
    )


def test_statuses_of_other_programs_wait_no_longer_than_the_send(server, graph, background, cloud):
    release = graph.held()
    sending = background(send, server, cloud)
    assert graph.arrived.acquire(timeout=10)
    report(server, cloud, "sent", id="wamid.FOREIGN1", to=BIA)
    report(server, cloud, "sent", id="wamid.FOREIGN2")
    assert announced(server, cloud) == [("messages.update", "wamid.FOREIGN1", "SENT")]
    release()
    id = sending.result(10).json["key"]["id"]
    report(server, cloud, "sent", id="wamid.FOREIGN3")

    assert announced(server, cloud)[1:] == [
        ("send.message", id, "PENDING"),
        *(("messages.update", f"wamid.FOREIGN{number}", "SENT") for number in (2, 3)),
    ]
    assert not any("messageId" in event["data"] for event in events(server, cloud))


def test_statuses_are_told_when_graph_refuses_the_send(server, graph, background, cloud):
    release = graph.held(error(400, 100, "(#100) Invalid parameter"))
    sending = background(send, server, cloud, id="order-7")
    assert graph.arrived.acquire(timeout=10)
    report(server, cloud, "sent", id="wamid.FOREIGN")
    assert announced(server, cloud) == []
    release()

    assert sending.result(10).status == 400
    assert announced(server, cloud) == [("messages.update", "wamid.FOREIGN", "SENT")]


@pytest.mark.bound("LIMIT_EARLY_STATUSES")
def test_statuses_beyond_the_limit_are_told_at_once(start_server, graph, background):
    server = start_server(WA_BUSINESS_URL=graph.url, LIMIT_EARLY_STATUSES="3")
    instance = server.create(integration="WHATSAPP-BUSINESS")
    release = graph.held(taken("wamid.1"))
    sending = background(send, server, instance)
    assert graph.arrived.acquire(timeout=10)
    for number in range(6):
        report(server, instance, "delivered", "delivered", id=f"wamid.{number}")
    assert announced(server, instance) == [("messages.update", f"wamid.{number}", "DELIVERED") for number in (3, 4, 5)]
    release()

    assert sending.result(10).status == 201
    assert announced(server, instance)[3:] == [
        ("send.message", "wamid.1", "PENDING"),
        *(("messages.update", f"wamid.{number}", "DELIVERED") for number in (1, 0, 2)),
    ]


@pytest.mark.slow
def test_a_send_and_its_statuses_survive_a_crash(fresh_server, graph, background):
    server = fresh_server(WA_BUSINESS_URL=graph.url)
    instance = server.create(integration="WHATSAPP-BUSINESS")
    other = server.create(integration="WHATSAPP-BUSINESS")
    kinds = [(send, instance), (send_image, other)]
    releases = []
    for send_kind, number in kinds:
        releases.append(graph.held())
        background(send_kind, server, number, id="order-7").add_done_callback(lambda done: done.exception())
        assert graph.arrived.acquire(timeout=10)
        report(server, number, "read", id="wamid.CRASH")
    server.kill()
    for release in releases:
        release()
    server.start()

    for send_kind, number in kinds:
        assert send_kind(server, number, id="order-7").status == 409
        let_pass(server, number, minutes=3)
        graph.next(taken("wamid.CRASH"))
        assert send_kind(server, number, id="order-7").status == 201
        assert announced(server, number) == [
            ("send.message", "wamid.CRASH", "PENDING"),
            ("messages.update", "wamid.CRASH", "READ"),
        ]
        assert stored(server, number)[0][1:] == ["wamid.CRASH", "READ"]


PRUNE = "from realtime.log.retention import prune; prune()"


def test_statuses_that_waited_too_long_are_told_and_old_sends_deleted(server, graph, background, cloud):
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    report(server, cloud, "sent", id="wamid.FOREIGN")
    let_pass(server, cloud, minutes=11)
    server.shell(PRUNE)
    assert announced(server, cloud) == []

    let_pass(server, cloud, minutes=2)
    server.shell(PRUNE)
    assert announced(server, cloud) == [("messages.update", "wamid.FOREIGN", "SENT")]
    assert len(stored(server, cloud)) == 1
    let_pass(server, cloud, minutes=60 * 24 * 9)
    server.shell(PRUNE)
    assert stored(server, cloud) == []


def test_a_deleted_instance_leaves_no_early_statuses(server, graph, cloud):
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    report(server, cloud, "sent", id="wamid.FOREIGN")
    assert server.request("DELETE", server.path("/instance/delete", cloud)).status == 200


# Echoes


def echo(server: Server, instance: Number, id: str, text: str, **members: Any) -> None:
    raw = {
        "from": "5511944440000",
        "to": ANA,
        "id": id,
        "timestamp": "1761057627",
        "type": "text",
        "text": {"body": text},
    }
    post_value(server, instance, message_echoes=[raw | members])


def test_an_echo_of_an_image_before_the_answer_is_the_same_message(server, graph, background, cloud):
    """WhatsApp's own form of an image has an id in place of the URL."""
    release = graph.held(taken("wamid.IMAGE"))
    sending = background(send_image, server, cloud, id="order-7")
    assert graph.arrived.acquire(timeout=10)
    echo(server, cloud, "wamid.IMAGE", "", type="image", image={"id": "7", "mime_type": "image/png"})
    release()

    assert sending.result(10).status == 201
    assert len(stored(server, cloud)) == 1
    assert send_image(server, cloud, id="order-7").json["key"]["id"] == "wamid.IMAGE"
    assert len(graph.requests) == 1


def test_an_echo_before_the_answer_is_the_same_message(server, graph, background, cloud):
    release = graph.held(taken("wamid.ECHO"))
    sending = background(send, server, cloud, id="order-7")
    assert graph.arrived.acquire(timeout=10)
    echo(server, cloud, "wamid.ECHO", "Olá")
    report(server, cloud, "delivered", id="wamid.ECHO")
    release()

    assert sending.result(10).status == 201
    assert [row[1:] for row in stored(server, cloud)] == [["wamid.ECHO", "DELIVERED"]]
    assert send(server, cloud, id="order-7").json["key"]["id"] == "wamid.ECHO"
    assert [name for name, _, _ in announced(server, cloud)] == ["messages.upsert", "messages.update", "send.message"]


def test_an_echo_with_our_data_settles_a_send_of_unknown_outcome(server, graph, cloud):
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    data = graph.requests[0].body["biz_opaque_callback_data"]
    echo(server, cloud, "wamid.ECHO", "Olá", biz_opaque_callback_data=data)

    assert send(server, cloud, id="order-7").json["key"]["id"] == "wamid.ECHO"
    assert announced(server, cloud) == [("send.message", "wamid.ECHO", "PENDING")]


@pytest.mark.parametrize("data", ["evoapi:", "evoapi:1", "evoapi:x:1:forged", "pedido 7", 5, None, {"a": 1}])
def test_foreign_callback_data_settles_nothing_and_is_told(server, graph, cloud, data):
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    report(server, cloud, "sent", id="wamid.FOREIGN", to=BIA, biz_opaque_callback_data=data)

    assert send(server, cloud, id="order-7").json["response"]["outcome"] == "unknown"
    [event] = events(server, cloud)
    assert event["data"]["keyId"] == "wamid.FOREIGN"


def test_the_data_of_another_instance_settles_nothing(server, graph, cloud):
    other = server.create(integration="WHATSAPP-BUSINESS")
    graph.next(hang_up)
    send(server, cloud, id="order-7")
    data = graph.requests[0].body["biz_opaque_callback_data"]
    report(server, other, "sent", id="wamid.OTHER", biz_opaque_callback_data=data)

    assert send(server, cloud, id="order-7").json["response"]["outcome"] == "unknown"
    assert announced(server, other) == [("messages.update", "wamid.OTHER", "SENT")]
