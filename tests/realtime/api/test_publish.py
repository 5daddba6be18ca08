"""POST /event/publish: an engine of the user's own publishes events, all of a request or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils import timezone

from instances.events import EventType
from instances.models import ApiKey, Instance, Subscription
from realtime.log.models import Event
from tests.environment import GLOBAL_KEY
from tests.server import Number, Response, Server


@pytest.fixture
def instance(server) -> Number:
    return server.create()


def publish(server: Server, instance: Number, body: Any, **options: Any) -> Response:
    return server.post(server.path("/event/publish", instance), body, **({"key": instance.token} | options))


def log(server: Server, instance: Number) -> list[dict[str, Any]]:
    """Return the envelopes that the instance's sockets received after its creation."""
    return server.get(server.path("/event/find", instance) + "?after=1", key=instance.token).json["events"]


def an_event(event: str = "call", data: Any = None, **fields: Any) -> dict[str, Any]:
    return {"event": event, "data": data} | fields


def test_a_published_event_is_emitted_at_once_and_the_response_has_its_seq(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    response = publish(server, instance, an_event("labels.edit", {"id": "1", "name": "VIP"}))

    received = client.wait_for("event")["args"][0]
    assert response.status == 201
    [row] = response.json["events"]
    assert row == {"id": received["id"], "seq": 2, "event": "labels.edit", "isRepeat": False, "isHeld": False}
    assert (received["event"], received["data"], received["seq"]) == ("labels.edit", {"id": "1", "name": "VIP"}, 2)


def test_events_are_emitted_in_the_order_of_the_array(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    response = publish(server, instance, [an_event(data=n) for n in range(500)])

    assert [row["seq"] for row in response.json["events"]] == list(range(2, 502))
    received = [client.wait_for("event")["args"][0] for _ in range(500)]
    assert [event["data"] for event in received] == list(range(500))
    assert [event["prev"] for event in received] == list(range(1, 501))


@pytest.mark.parametrize("spelling", ["groups.update", "GROUPS_UPDATE", "GROUP_UPDATE"])
def test_a_type_is_known_by_each_of_its_names(server, instance, spelling):
    assert publish(server, instance, an_event(spelling)).json["events"][0]["event"] == "groups.update"


@pytest.mark.parametrize("data", [None, [], {}, "text", 0, False, [{"a": [None]}], {"ключ": "\x00 \U0001f600"}])
def test_data_is_any_json(server, instance, data):
    assert publish(server, instance, an_event(data=data)).status == 201
    assert [event["data"] for event in log(server, instance)] == [data]


def test_keys_and_tokens_in_data_are_left_out(server, instance):
    publish(server, instance, an_event("presence.update", {"apikey": "x", "deep": [{"token": "y", "id": 1}]}))
    assert [event["data"] for event in log(server, instance)] == [{"deep": [{"id": 1}]}]


def test_events_of_the_servers_own_are_not_publishable(server, instance):
    own = [event_type for event_type in EventType if not event_type.is_publishable]
    assert sorted(event_type.value for event_type in own) == [
        *("application.startup", "creds.update", "deliveries.dropped", "endpoint.disabled"),
        *("instance.create", "instance.delete"),
        "remove.instance",
    ]
    for event_type in own:
        for name in (event_type.value, event_type.name):
            [[message]] = publish(server, instance, an_event(name)).json["response"]["message"]
            assert message.startswith("event is not one of enum values: qrcode.updated,connection.update,")
    assert log(server, instance) == []


LONGEST = "k" * 255


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({}, ['instance requires property "event"', 'instance requires property "data"']),
        (b"", ['instance requires property "event"', 'instance requires property "data"']),
        ({"event": "call"}, ['instance requires property "data"']),
        (an_event(dedupeKey=""), ['The "dedupeKey" cannot be empty']),
        (an_event(dedupeKey=5), ["dedupeKey is not of a type(s) string"]),
        (an_event(dedupeKey=LONGEST + "k"), ["dedupeKey does not meet maximum length of 255"]),
        (an_event(dedupeKey="a\x00b"), ["dedupeKey must not contain NUL characters"]),
        ([], ["events does not meet minimum length of 1"]),
        ([an_event()] * 501, ["events does not meet maximum length of 500"]),
        ([an_event(), 5], ["events[1] is not of a type(s) object"]),
        ([an_event(), None], ["events[1] is not of a type(s) object"]),
        ([an_event(), [an_event()]], ["events[1] is not of a type(s) object"]),
        ([an_event(), {"data": 1}], ['events[1] requires property "event"']),
        ([an_event(), an_event(), {"event": "call"}], ['events[2] requires property "data"']),
        (
            [an_event(dedupeKey=[]), an_event(dedupeKey={})],
            [f"events[{n}].dedupeKey is not of a type(s) string" for n in (0, 1)],
        ),
    ],
)
def test_an_error_names_the_path_of_the_member_and_nothing_is_recorded(server, instance, body, messages):
    response = publish(server, instance, body)

    assert response.status == 400
    assert response.json == {"status": 400, "error": "Bad Request", "response": {"message": [messages]}}
    assert log(server, instance) == []


@pytest.mark.parametrize("event", ["nope", "", None, 5, [], {}, True, "Call", "messages.upsert "])
def test_the_error_of_an_unknown_event_lists_the_known_events(server, instance, event):
    response = publish(server, instance, [an_event(), an_event(), an_event(), an_event(event)])
    [[message, *nearest]] = response.json["response"]["message"]
    assert message.startswith("events[3].event is not one of enum values: qrcode.updated,")
    assert bool(nearest) is (event in ("Call", "messages.upsert "))
    assert log(server, instance) == []


@pytest.mark.parametrize("body", [b"[", b"[1,]", b"5", b'"call"', b"null", b"[" * 200 + b"]" * 200, b"\xff"])
def test_a_body_that_is_no_event_and_no_array_is_refused(server, instance, body):
    assert publish(server, instance, body).status == 400
    assert log(server, instance) == []


def test_forms_are_refused(server, instance):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert publish(server, instance, b"event=call&data=1", headers=form).status == 415


# Repeats


def test_the_response_to_a_repeat_has_the_first_seq_and_it_is_not_emitted_again(server, instance):
    [first] = publish(server, instance, an_event(data=1, dedupeKey=LONGEST)).json["events"]
    publish(server, instance, an_event(data=2))

    response = publish(server, instance, an_event(data=3, dedupeKey=LONGEST))

    assert response.status == 201
    assert response.json["events"] == [first | {"isRepeat": True}]
    assert [event["data"] for event in log(server, instance)] == [1, 2]


def test_repeats_within_one_request_count_once(server, instance):
    keys = ["a", "b", "a", None, None, "b"]
    events = publish(server, instance, [an_event(data=n, dedupeKey=key) for n, key in enumerate(keys)]).json["events"]

    assert [(event["seq"], event["isRepeat"]) for event in events] == [
        *((2, False), (3, False), (2, True), (4, False), (5, False), (3, True)),
    ]
    assert [event["data"] for event in log(server, instance)] == [0, 1, 3, 4]


def test_one_key_published_by_many_at_once_is_recorded_once(server, instance):
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda n: publish(server, instance, an_event(data=n, dedupeKey="same")), range(6)))

    rows = [response.json["events"][0] for response in responses]
    assert {row["seq"] for row in rows} == {2}
    assert [row["isRepeat"] for row in rows].count(False) == 1
    assert len(log(server, instance)) == 1


def test_keys_of_two_instances_and_of_providers_are_separate(server, instance):
    other = server.create()
    server.receive(instance, id="ABC")
    before = len(log(server, instance))

    for key in ("message:ABC", "ABC"):
        for number in (instance, other):
            assert not publish(server, number, an_event(dedupeKey=key)).json["events"][0]["isRepeat"]
    assert len(log(server, instance)) == before + 2


# The state of the connection


def state(server: Server, instance: Number) -> str:
    return server.get(server.path("/instance/connectionState", instance)).json["instance"]["state"]


@pytest.mark.parametrize("new", ["open", "connecting", "close"])
def test_a_published_connection_state_is_stored_and_emitted_once(server, instance, new):
    publish(server, instance, an_event("connection.update", {"state": new, "statusReason": 200}))

    assert state(server, instance) == new
    assert [event["data"] for event in log(server, instance)] == [{"state": new, "statusReason": 200}]


@pytest.mark.parametrize("data", [None, [], "open", {}, {"state": "refused"}, {"state": None}, {"state": ["open"]}])
def test_a_connection_update_without_a_state_leaves_it(server, instance, data):
    before = state(server, instance)
    assert publish(server, instance, an_event("connection.update", data)).status == 201
    assert state(server, instance) == before


def test_the_last_of_several_states_is_stored_and_a_repeat_changes_nothing(server, instance):
    states = ["open", "close", "connecting"]
    publish(server, instance, [an_event("connection.update", {"state": each}, dedupeKey=each) for each in states])
    assert state(server, instance) == "connecting"

    publish(server, instance, an_event("connection.update", {"state": "open"}, dedupeKey="open"))
    assert state(server, instance) == "connecting"


# Authorization


def test_an_instance_that_is_gone_or_foreign_is_refused(server, instance):
    other = server.create()
    assert publish(server, other, an_event(), key=instance.token).status == 401
    assert publish(server, other, an_event(), key=None).status == 401
    server.request("DELETE", server.path("/instance/delete", other))
    assert publish(server, other, an_event(), key=GLOBAL_KEY).status == 404
    assert publish(server, other, an_event(), key=other.token).status == 401


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scopes", "publishes", "finds"), [(["publish"], 201, 403), (["read"], 403, 200), (["listen", "send"], 403, 403)]
)
def test_a_key_may_do_what_its_scopes_say(client, scopes, publishes, finds):
    instance = Instance.objects.create(name="loja")
    key, secret = ApiKey.objects.issue("a test's", scopes)
    key.instances.add(instance)

    options: Any = {"content_type": "application/json", "headers": {"apikey": secret}}
    assert client.post("/event/publish/loja", an_event(), **options).status_code == publishes
    assert client.get("/event/find/loja", headers={"apikey": secret}).status_code == finds


@pytest.mark.django_db
def test_each_event_of_a_request_has_its_own_audience(client):
    instance = Instance.objects.create(name="loja")
    Subscription.set_websocket(instance, True, ["CALL", "GROUP_UPDATE"])
    types = ["call", "chats.set", "groups.update", "chats.set", "call"]
    options: Any = {"content_type": "application/json", "headers": {"apikey": GLOBAL_KEY}}

    client.post("/event/publish/loja", [an_event(event_type) for event_type in types], **options)

    events = Event.objects.filter(instance_id=instance.pk, seq__gt=1).order_by("seq")
    assert [event.is_heard for event in events] == [True, False, True, False, True]


@pytest.mark.django_db
def test_a_full_request_is_a_handful_of_statements(client, django_assert_max_num_queries):
    Instance.objects.create(name="loja")
    options: Any = {"content_type": "application/json", "headers": {"apikey": GLOBAL_KEY}}
    body = [an_event(data=n, dedupeKey=str(n)) for n in range(500)]

    with django_assert_max_num_queries(30):
        began = timezone.now()
        assert client.post("/event/publish/loja", body, **options).status_code == 201
    assert (timezone.now() - began).total_seconds() < 5
