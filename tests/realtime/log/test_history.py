"""GET /event/find: pages of an instance's log, as its sockets received the events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.log import history
from realtime.log.models import Event, EventDraft
from realtime.log.stream import Stream
from tests.environment import GLOBAL_KEY
from tests.server import Number, Response, Server


def find(server: Server, instance: Number, query: str = "", **options: Any) -> Response:
    return server.get(server.path("/event/find", instance) + query, **({"key": instance.token} | options))


def seqs(response: Response) -> list[int]:
    return [event["seq"] for event in response.json["events"]]


@pytest.fixture(scope="module")
def filled(server) -> Number:
    """instance.create is 1; calls have the even numbers up to 120, chats.set the odd ones."""
    instance = server.create()
    types = ["call", "chats.set"] * 60
    body = [{"event": event, "data": n} for n, event in enumerate(types[:119])]
    assert server.post(server.path("/event/publish", instance), body).status == 201
    return instance


def test_events_are_found_as_sockets_received_them(server, node):
    instance = server.create("loja do João")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    server.receive(instance, "olá \U0001f600")
    received = [client.wait_for("event")["args"][0] for _ in range(3)]

    response = find(server, instance, "?after=1")

    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert list(response.json) == ["events", "first", "last", "epoch", "hasMore"]
    assert response.json["events"] == received
    assert list(response.json["events"][0]) == list(received[0])
    epoch, _, last = received[-1]["id"].partition(".")
    assert (response.json["first"], response.json["last"], response.json["epoch"]) == (1, int(last), epoch)


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("", range(21, 121), True),
        ("?limit=120", range(1, 121), False),
        ("?limit=1000", range(1, 121), False),
        ("?limit=119", range(2, 121), True),
        ("?limit=1", [120], True),
        ("?before=6", range(1, 6), False),
        ("?before=6&limit=2", [4, 5], True),
        ("?before=1", [], False),
        ("?before=0", [], False),
        ("?after=0", range(1, 101), True),
        ("?after=20", range(21, 121), False),
        ("?after=19", range(20, 120), True),
        ("?after=118", [119, 120], False),
        ("?after=120", [], False),
        ("?after=9223372036854775807", [], False),
        ("?before=9223372036854775807&limit=2", [119, 120], True),
        ("?after=10&before=13", [11, 12], False),
        ("?after=10&before=20&limit=3", [11, 12, 13], True),
        ("?after=20&before=10", [], False),
        ("?type=call&limit=3", [116, 118, 120], True),
        ("?type=CALL&after=3&limit=2", [4, 6], True),
        ("?type=instance.create", [1], False),
        ("?type=instance.create,CHATS_SET&before=6", [1, 3, 5], False),
        ("?type=instance.create&type=CHATS_SET&before=6", [1, 3, 5], False),
        ("?type=GROUP_UPDATE", [], False),
    ],
)
def test_a_page_has_the_requested_events_in_order(server, filled, query, expected, has_more):
    response = find(server, filled, query)
    assert (seqs(response), response.json["hasMore"]) == (list(expected), has_more)
    assert (response.json["first"], response.json["last"]) == (1, 120)


def test_pages_cover_the_complete_log_in_both_directions(server, filled):
    forward, after = [], 0
    while (page := find(server, filled, f"?after={after}&limit=50")).json["hasMore"]:
        forward += seqs(page)
        after = forward[-1]
    backward, before = [], 2**40
    while (page_back := find(server, filled, f"?before={before}&limit=50")).json["hasMore"]:
        backward = seqs(page_back) + backward
        before = backward[0]
    assert forward + seqs(page) == seqs(page_back) + backward == list(range(1, 121))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        *(
            (f"?{name}={value}", f"{name} is not of a type(s) integer")
            for name in ("after", "before", "limit")
            for value in (
                *(
                    "x",
                    "",
                    "1.5",
                    "1e3",
                    "1_0",
                    "%D9%A3",
                    "0x1",
                    "null",
                    "%00",
                    "9" * 21,
                    "9" * 5000,
                    "1,2",
                ),
            )
        ),
        ("?after=-1", "after must be greater than or equal to 0"),
        ("?before=-9", "before must be greater than or equal to 0"),
        ("?limit=0", "limit must be greater than or equal to 1"),
        ("?limit=1001", "limit must be less than or equal to 1000"),
        ("?after=9223372036854775808", "after must be less than or equal to 9223372036854775807"),
        ("?before=99999999999999999999", "before must be less than or equal to 9223372036854775807"),
    ],
)
def test_invalid_numbers_are_refused(server, filled, query, message):
    response = find(server, filled, query)
    assert response.status == 400
    assert response.json == {"status": 400, "error": "Bad Request", "response": {"message": [[message]]}}


@pytest.mark.parametrize("query", ["type=,", "type=nope", "type=call&type=%00", "type=Call"])
def test_an_unknown_type_is_refused_with_the_list_of_known_types(server, filled, query):
    response = find(server, filled, f"?{query}")
    [[message]] = response.json["response"]["message"]
    assert response.status == 400
    assert message.startswith("type cannot be read: " if query == "type=," else 'type: There is no event "')
    assert "CALL" in message or "nearest" in message


def test_only_a_key_with_access_finds_events_of_an_instance_that_exists(server, filled):
    other = server.create()
    assert find(server, filled, key=other.token).status == 401
    assert find(server, filled, key=None).status == 401
    assert find(server, filled, key=GLOBAL_KEY).status == 200
    server.request("DELETE", server.path("/instance/delete", other))
    assert find(server, other, key=GLOBAL_KEY).status == 404
    assert server.post(server.path("/event/find", filled), {}).status == 404


# The log itself


@pytest.fixture
def instance(db) -> Instance:
    return Instance.objects.create(name="loja")


def record(instance: Instance, *data: Any) -> None:
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, value) for value in data])


def test_envelopes_are_returned_byte_for_byte(client, instance):
    record(instance, {"b": 1.0, "a": "é/<", "n": 2**53 + 1})
    Event.objects.update(envelope=b'{ "kept": "as it is" }')

    response = client.get("/event/find/loja", headers={"apikey": GLOBAL_KEY})

    assert response.content.startswith(b'{"events":[{ "kept": "as it is" },{ "kept": "as it is" }],"first":1,')
    assert orjson.loads(response.content)["last"] == 2


def test_events_that_are_not_for_sockets_are_left_out(instance):
    Subscription.set_websocket(instance, True, ["CHATS_SET"])
    record(instance, 1, 2)
    Subscription.set_websocket(instance, True, ["CALL"])
    record(instance, 3)

    page = history.page(instance.pk, limit=10)
    assert [orjson.loads(envelope)["seq"] for envelope in page.envelopes] == [1, 4]
    assert (page.stream.last_seq, page.has_more) == (4, False)


@pytest.mark.bound("LIMIT_FIND_BYTES")
def test_a_page_ends_before_it_is_too_large_for_memory(instance, monkeypatch):
    monkeypatch.setattr(history, "FIND_BYTES", 2500)
    record(instance, *["x" * 1000] * 3, "x" * 9000)

    def seqs(**options: Any) -> tuple[list[int], bool]:
        page = history.page(instance.pk, limit=100, **options)
        return [orjson.loads(envelope)["seq"] for envelope in page.envelopes], page.has_more

    assert seqs(after=1) == ([2, 3], True)
    assert seqs(after=4) == ([5], False)
    assert seqs() == ([5], True)
    assert seqs(before=5) == ([3, 4], True)


def test_an_instance_without_events_has_an_epoch_that_stays(db):
    [instance] = Instance.objects.bulk_create([Instance(name="silent")])

    page = history.page(instance.pk, limit=10)
    assert (page.envelopes, page.stream.last_seq, page.has_more) == ([], 0, False)
    record(instance, 1)
    assert history.page(instance.pk, limit=10).stream.epoch == page.stream.epoch
    assert Stream.objects.get(pk=instance.pk).name == "silent"
