"""Deliveries over REST: lists, details, malformed requests, and the entire way to a receiver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from django.utils import timezone

from instances.timestamps import iso
from realtime.delivery.models import Delivery, State
from tests.end_to_end.test_bad_input import is_evolutions_shape
from tests.environment import GLOBAL_KEY
from tests.realtime.api.rows import (
    ARABIC_ONE,
    ROW,
    SECRET,
    URL,
    a_delivery,
    an_attempt,
    an_endpoint,
    ids,
    key_with,
    message,
)
from tests.receiver import Receiver
from tests.server import Number, Server

pytest_plugins = ("tests.rest",)


# GET /webhook/deliveries


def test_deliveries_are_listed_without_their_bodies(call, endpoint):
    delivery = a_delivery(endpoint, attempts=2)
    an_attempt(delivery, 1)
    last = an_attempt(delivery, 2, status=None, error="There was no response within 30 seconds")

    status, content = call("GET", "/webhook/deliveries/loja")

    assert status == 200
    assert content["hasMore"] is False
    [row] = content["deliveries"]
    assert list(row) == ROW
    assert row == {
        "id": str(delivery.pk),
        "eventId": delivery.event_id,
        "seq": 7,
        "event": "call",
        "endpoint": str(endpoint.pk),
        "transport": "webhook",
        "destination": URL,
        "state": "pending",
        "attempts": 2,
        "lastAttempt": {
            "number": 2,
            "at": iso(last.at),
            "durationMs": 12,
            "status": None,
            "error": "There was no response within 30 seconds",
        },
        "dueAt": iso(delivery.due_at),
        "createdAt": iso(delivery.created_at),
        "finishedAt": None,
        "reason": None,
        "resentFrom": None,
        "askedBy": None,
    }


def test_a_list_is_filtered_and_paged_the_newest_first(call, loja, endpoint):
    second = an_endpoint(loja)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        a_delivery(
            (endpoint, second)[n % 2],
            created=begin + timedelta(hours=n),
            state=(State.DEAD, State.DELIVERED, State.PENDING)[n % 3],
            type=("call", "messages.upsert")[n % 2],
        )
        for n in range(6)
    ]
    pks = [delivery.pk for delivery in made]
    cases = {
        "": [5, 4, 3, 2, 1, 0],
        "?state=dead": [3, 0],
        "?state=dead,pending": [5, 3, 2, 0],
        f"?endpoint={second.pk}": [5, 3, 1],
        "?type=call": [4, 2, 0],
        "?type=CALL&type=MESSAGES_UPSERT": [5, 4, 3, 2, 1, 0],
        f"?event={made[3].event_id}": [3],
        "?event=nothing": [],
        "?since=2026-01-01T02:00:00Z": [5, 4, 3, 2],
        "?since=2026-01-01T02:00:00%2B02:00&until=2026-01-01T02:00:00": [1, 0],
        "?limit=2": [5, 4],
        f"?limit=2&before={pks[4]}": [3, 2],
    }
    for query, expected in cases.items():
        status, content = call("GET", f"/webhook/deliveries/loja{query}")
        assert (status, ids(content)) == (200, [pks[n] for n in expected]), query
    assert call("GET", "/webhook/deliveries/loja?limit=5")[1]["hasMore"]
    assert not call("GET", "/webhook/deliveries/loja?limit=6")[1]["hasMore"]


@pytest.mark.bound("LIMIT_DELIVERY_PAGE")
@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("state=lost", "state is not one of enum values: pending,delivered,dead,dropped"),
        ("state=", "state is not one of enum values: pending,delivered,dead,dropped"),
        ("endpoint=x", "endpoint is not an id"),
        ("endpoint=", "endpoint is not an id"),
        ("endpoint=" + "9" * 30, "endpoint is not an id"),
        ("since=yesterday", "since is not a time such as 2026-01-31T12:00:00Z"),
        ("since=0001-01-01T00:00:00%2B14:00", "since is not a time such as 2026-01-31T12:00:00Z"),
        ("before=x", "before is not of a type(s) integer"),
        ("before=" + "9" * 19, f"before must be less than or equal to {2**63 - 1}"),
        ("limit=0", "limit must be greater than or equal to 1"),
        ("limit=1001", "limit must be less than or equal to 1000"),
        ("event=%00", "event must not contain NUL characters"),
        ("event=" + "x" * 65, "event does not meet maximum length of 64"),
    ],
)
def test_an_invalid_query_is_refused_with_the_reason(call, query, line):
    assert call("GET", f"/webhook/deliveries/loja?{query}") == (
        400,
        {"status": 400, "error": "Bad Request", "response": {"message": [[line]]}},
    )


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_the_first_and_last_years_are_accepted(call, year):
    assert call("GET", f"/webhook/deliveries/loja?since={year}-01-01T00:00:00Z")[0] == 200


def test_one_delivery_shows_its_request_and_every_attempt(call, endpoint):
    delivery = a_delivery(endpoint, state=State.DEAD, attempts=2, finished_at=timezone.now(), body='{"é": 1}'.encode())
    an_attempt(delivery, 1)
    an_attempt(delivery, 2, status=422, error="HTTP 422", excerpt="no such field")

    status, content = call("GET", f"/webhook/deliveries/loja/{delivery.pk}")

    assert status == 200
    assert list(content) == [*ROW, "request", "tries"]
    request = content["request"]
    assert (request["method"], request["url"], request["body"]) == ("POST", URL, '{"é": 1}')
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["webhook-id"] == delivery.event_id
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "********"
    assert "jwt_key" not in headers
    assert "Bearer abc" not in str(content)
    assert "s3cret" not in str(content)
    assert SECRET not in str(content)
    assert [(attempt["number"], attempt["status"], attempt["excerpt"]) for attempt in content["tries"]] == [
        (1, 500, "oops"),
        (2, 422, "no such field"),
    ]
    endpoint.delete()
    assert call("GET", f"/webhook/deliveries/loja/{delivery.pk}")[1]["request"]["body"] == '{"é": 1}'


def test_foreign_deliveries_and_invalid_ids_are_not_found_alike(call, other, endpoint):
    foreign = a_delivery(an_endpoint(other))
    for pk in (foreign.pk, 0, -1, 10**17, "9" * 30, "x", "1.0", ARABIC_ONE):
        for method, path in (("GET", ""), ("POST", "/resend")):
            status, content = call(method, f"/webhook/deliveries/loja/{pk}{path}", None if method == "GET" else {})
            assert (status, message(content)) == (404, [f'The "loja" instance has no delivery {str(pk)[:20]}'])
    assert call("GET", "/webhook/deliveries/loja")[1]["deliveries"] == []
    assert Delivery.objects.count() == 1


def test_only_keys_for_all_instances_see_deliveries_to_the_operators_endpoints(call, loja, endpoint):
    own = a_delivery(endpoint)
    operators = an_endpoint(None)
    of_all = a_delivery(operators, instance=loja)
    of_environment = a_delivery(endpoint, endpoint_id=0, is_operators=True)
    everything = [of_environment.pk, of_all.pk, own.pk]
    assert ids(call("GET", "/webhook/deliveries/loja", key=GLOBAL_KEY)[1]) == everything
    assert ids(call("GET", "/webhook/deliveries/loja", key=key_with("read", all_instances=True))[1]) == everything
    assert ids(call("GET", "/webhook/deliveries/loja")[1]) == [own.pk]
    assert ids(call("GET", "/webhook/deliveries/loja", key=key_with("read"))[1]) == [own.pk]
    assert call("GET", f"/webhook/deliveries/loja/{of_all.pk}")[0] == 404
    operators.delete()  # the deliveries still belong to the operator
    assert ids(call("GET", "/webhook/deliveries/loja")[1]) == [own.pk]
    assert call("POST", f"/webhook/deliveries/loja/{of_environment.pk}/resend", {})[0] == 404


# Malformed bodies and queries


ROUTES = [
    ("GET", "/webhook/deliveries/loja"),
    ("GET", "/webhook/deliveries/loja/{id}"),
    ("POST", "/webhook/deliveries/loja/{id}/resend"),
    ("POST", "/webhook/deliveries/loja/resend"),
    ("POST", "/webhook/test/loja"),
    ("GET", "/webhook/why/loja/1"),
    ("POST", "/webhook/set/loja"),
    ("GET", "/webhook/find/loja"),
    ("GET", "/webhook/endpoints/loja"),
    ("POST", "/webhook/endpoints/loja"),
    ("GET", "/webhook/endpoints/loja/{endpoint}"),
    ("PATCH", "/webhook/endpoints/loja/{endpoint}"),
]
#: Values, as JSON: most are invalid for every member, some are valid for a few.
VALUES = [
    *("null", "true", "5", "-1", "1.5", "1e400", "9" * 40, '""', '"x"', r'"\u0000"', r'"\ud800"', f'"{"x" * 100_000}"'),
    *("[]", "[null]", "[[]]", "[{}]", "{}", '{"a": {"b": 1}}', r'{"a\u0000": "\n"}', r'["\ud800", 5]'),
]
MEMBERS = [
    *("url", "headers", "events", "enabled", "byEvents", "base64", "ordered", "secret", "rotateSecret"),
    *("since", "until", "state", "endpoint", "ids", "event", "webhook", "instanceName"),
]


@pytest.mark.any_database
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] != "GET"])
def test_any_value_of_a_member_is_accepted_or_refused(client, loja, endpoint, method, path):
    path = path.format(id=a_delivery(endpoint).pk, endpoint=endpoint.pk)
    for member in MEMBERS:
        for value in VALUES:
            sent = f'{{"url": "{URL}", "event": "call", "{member}": {value}}}'
            if path == "/webhook/set/loja":
                sent = f'{{"webhook": {{"enabled": true, {sent[1:]}}}'
            response = client.generic(
                method, path, sent, content_type="application/json", headers={"apikey": GLOBAL_KEY}
            )
            content = orjson.loads(response.content)
            assert response.status_code < 500, (sent[:200], content)
            assert response.status_code < 400 or is_evolutions_shape(response.status_code, content)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] == "GET"])
def test_any_value_in_a_query_is_accepted_or_refused(client, loja, endpoint, method, path):
    path = path.format(id=a_delivery(endpoint).pk, endpoint=endpoint.pk)
    for name in ("state", "endpoint", "type", "since", "until", "event", "before", "limit", "instanceName", "name"):
        for value in ("", "%00", "x", "-1", "9" * 40, "1.5", "%ff", "%ED%A0%80", "null", "[]", "x" * 5000):
            response = client.get(f"{path}?{name}={value}", headers={"apikey": GLOBAL_KEY})
            assert response.status_code < 500, (name, value)
            assert response.status_code < 400 or is_evolutions_shape(
                response.status_code, orjson.loads(response.content)
            )


# Through the real server, to a real receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def eventually(condition: Any) -> Any:
    """Return the condition's result once it is truthy, within 15 seconds."""
    deadline = time.monotonic() + 15
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.05)
    return found


def listed(server: Server, instance: Number, query: str = "") -> Any:
    response = server.get(server.path("/webhook/deliveries", instance) + query, key=instance.token)
    assert response.status == 200, response.body
    return response.json["deliveries"]


def test_a_webhook_is_set_delivered_explained_and_resent(server, receiver):
    instance = server.create()
    set_to = {
        "webhook": {"enabled": True, "url": receiver.url, "headers": {"x-key": "k"}, "events": ["MESSAGES_UPSERT"]}
    }
    assert server.post(server.path("/webhook/set", instance), set_to, key=instance.token).status == 201

    server.receive(instance, "olá")
    [row] = eventually(lambda: listed(server, instance, "?state=delivered"))
    path = f"{server.path('/webhook/deliveries', instance)}/{row['id']}"
    detail = server.get(path, key=instance.token).json
    assert detail["request"]["body"].encode() == receiver.requests[0].body
    assert receiver.requests[0].headers["x-key"] == "k"
    assert [(attempt["number"], attempt["status"]) for attempt in detail["tries"]] == [(1, 200)]

    assert server.post(path + "/resend", {}, key=instance.token).status == 201
    eventually(lambda: len(receiver.requests) == 2)
    assert receiver.requests[0].body == receiver.requests[1].body
    assert receiver.requests[0].id == receiver.requests[1].id == row["eventId"]

    eventually(lambda: len(listed(server, instance, "?state=delivered")) == 2)
    explanation = server.get(f"{server.path('/webhook/why', instance)}/{row['eventId']}", key=instance.token).json
    assert [endpoint["state"] for endpoint in explanation["endpoints"]] == ["delivered"]


def test_a_test_event_arrives(server, receiver):
    instance = server.create(webhook={"url": receiver.url, "events": ["CALL"]})
    response = server.post(server.path("/webhook/test", instance), {"event": "MESSAGES_UPSERT"}, key=instance.token)
    assert response.status == 201
    [request] = eventually(lambda: list(receiver.requests))
    assert (request.json["event"], request.json["test"], request.id) == (
        "messages.upsert",
        True,
        response.json["event"],
    )


def test_nothing_of_the_endpoint_is_sent_to_another_url(server, receiver):
    with Receiver() as another:
        webhook = {"url": receiver.url, "headers": {"x-key": "k"}, "events": ["INSTANCE_CREATE"]}
        instance = server.create(webhook=webhook)
        [row] = eventually(lambda: listed(server, instance, "?state=delivered"))
        path = f"{server.path('/webhook/deliveries', instance)}/{row['id']}/resend"
        assert server.post(path, {"url": another.url, "secret": SECRET}, key=instance.token).status == 201
        [request] = eventually(lambda: list(another.requests))
    assert request.body == receiver.requests[0].body
    assert "x-key" not in request.headers
    assert request.headers["webhook-signature"].startswith("v1,")
    assert request.headers["webhook-signature"] != receiver.requests[0].headers["webhook-signature"]


def test_an_explanation_lists_the_connected_audiences(server, node):
    instance = server.create()
    node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    path = f"{server.path('/webhook/why', instance)}/1"
    [audience] = server.get(path, key=instance.token).json["sockets"]["audiences"]
    assert (audience["namespace"], audience["sockets"], audience["wants"]) == (f"/{instance.name}", 1, True)
