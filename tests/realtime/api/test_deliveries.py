"""Deliveries over REST: listing, resending, test events, and explanations of events."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from django.db import transaction
from django.utils import timezone

from instances.api.timestamps import iso
from instances.events import EventType
from instances.models import ApiKey, Instance, Subscription
from realtime.delivery import wakeup
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint, State
from realtime.delivery.resend import ONE_OFF
from realtime.log.models import Event, Stream
from tests.end_to_end.test_bad_input import is_evolutions_shape
from tests.environment import GLOBAL_KEY
from tests.receiver import Receiver
from tests.server import Number, Server

pytest_plugins = ("tests.rest",)

URL = "https://hook.example.com/in"
OTHER = "https://other.example.com/in"
SECRET = "whsec_" + "A" * 32
#: A digit for `str.isdigit()` and `int()`, but not in an id.
ARABIC_ONE = "\u0661"
ROW = [
    *("id", "eventId", "seq", "event", "endpoint", "transport", "destination", "state", "attempts"),
    *("lastAttempt", "dueAt", "createdAt", "finishedAt", "reason", "resentFrom", "askedBy"),
]


@pytest.fixture
def endpoint(loja) -> Subscription:
    return an_endpoint(loja)


def an_endpoint(instance: Instance | None, **fields: Any) -> Subscription:
    defaults = {"transport": "webhook", "options": {"url": URL}, "events": ["CALL"]}
    subscription = Subscription(instance=instance, **defaults | fields)
    subscription.keep_secrets(headers={"authorization": "Bearer abc", "jwt_key": "s3cret"}, signing=[SECRET])
    subscription.save()
    return subscription


def a_delivery(endpoint: Subscription, created: datetime | None = None, **fields: Any) -> Delivery:
    instance = fields.pop("instance", endpoint.instance)
    defaults = {"event_id": f"{uuid4().hex[:16]}.7", "name": instance.name, "seq": 7, "type": "call"}
    defaults |= {"endpoint_id": endpoint.pk, "transport": "webhook", "destination": URL, "body": b'{"event": "call"}'}
    defaults |= {"is_operators": endpoint.instance is None}
    delivery = Delivery.objects.create(instance_id=instance.pk, **defaults | fields)
    if created:
        Delivery.objects.filter(pk=delivery.pk).update(created_at=created)
    return delivery


def an_attempt(delivery: Delivery, number: int = 1, **fields: Any) -> Attempt:
    defaults = {"at": timezone.now(), "duration_ms": 12, "status": 500, "excerpt": "oops", "error": "HTTP 500"}
    return Attempt.objects.create(delivery=delivery, number=number, **defaults | fields)


def key_with(*scopes: str, **fields: Any) -> str:
    key, secret = ApiKey.objects.issue("a key", list(scopes), **fields)
    key.instances.set(Instance.objects.filter(name="loja"))
    return secret


def message(content: Any) -> Any:
    return content["response"]["message"]


def ids(content: Any) -> list[int]:
    return [int(row["id"]) for row in content["deliveries"]]


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
        "?unknown=field": [5, 4, 3, 2, 1, 0],
    }
    for query, expected in cases.items():
        status, content = call("GET", f"/webhook/deliveries/loja{query}")
        assert (status, ids(content)) == (200, [pks[n] for n in expected]), query
    assert call("GET", "/webhook/deliveries/loja?limit=5")[1]["hasMore"]
    assert not call("GET", "/webhook/deliveries/loja?limit=6")[1]["hasMore"]


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


# Resending


def test_a_delivery_is_resent_under_its_id_and_with_its_bytes(call, endpoint):
    old = a_delivery(endpoint, state=State.DEAD, attempts=9, finished_at=timezone.now(), body=b'{"a":  1}')

    status, row = call("POST", f"/webhook/deliveries/loja/{old.pk}/resend", {})

    assert status == 201
    assert list(row) == ROW
    new = Delivery.objects.get(pk=row["id"])
    assert new.pk != old.pk
    assert (new.event_id, bytes(new.body), new.seq, new.type) == (old.event_id, b'{"a":  1}', 7, "call")
    assert (new.state, new.attempts, new.lease, new.finished_at) == (State.PENDING, 0, None, None)
    assert (new.endpoint_id, new.destination, new.name) == (endpoint.pk, URL, "loja")
    assert new.resent_from == old.pk
    assert new.due_at <= timezone.now()
    old.refresh_from_db()
    assert (old.state, old.attempts) == (State.DEAD, 9)
    # in any state
    assert call("POST", f"/webhook/deliveries/loja/{old.pk}/resend", {})[0] == 201
    assert call("POST", f"/webhook/deliveries/loja/{row['id']}/resend")[0] == 201


def test_resending_wakes_the_dispatchers_after_the_commit(client, loja, endpoint, django_capture_on_commit_callbacks):
    delivery = a_delivery(endpoint)
    wakeups: list[bool] = []
    listener = lambda: wakeups.append(True)  # noqa: E731
    wakeup.listeners.add(listener)
    try:
        for path in (f"/webhook/deliveries/loja/{delivery.pk}/resend", "/webhook/deliveries/loja/resend"):
            with django_capture_on_commit_callbacks(execute=True):
                client.post(path, {}, content_type="application/json", headers={"apikey": GLOBAL_KEY})
        with django_capture_on_commit_callbacks(execute=True):
            body = {"event": "call"}
            client.post("/webhook/test/loja", body, content_type="application/json", headers={"apikey": GLOBAL_KEY})
    finally:
        wakeup.listeners.discard(listener)
    assert len(wakeups) == 3


def test_nothing_is_resent_to_a_disabled_or_deleted_endpoint(call, endpoint):
    delivery = a_delivery(endpoint, state=State.DEAD)
    Subscription.objects.update(is_enabled=False)
    for _ in range(2):
        status, content = call("POST", f"/webhook/deliveries/loja/{delivery.pk}/resend", {})
        assert (status, message(content)) == (409, ["Its endpoint is disabled or deleted; give a url to send it to"])
        assert call("POST", "/webhook/deliveries/loja/resend", {})[1] == {"count": 0, "hasMore": False}
        Subscription.objects.all().delete()
    assert Delivery.objects.count() == 1


def test_a_range_is_resent_in_order_and_by_default_the_dead(call, loja, other, endpoint):
    second = an_endpoint(loja)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    states = [State.DEAD, State.DELIVERED, State.DEAD, State.PENDING, State.DEAD, State.DROPPED]
    made = [
        a_delivery((endpoint, second)[n // 4], created=begin + timedelta(hours=n), state=state, seq=n)
        for n, state in enumerate(states)
    ]
    a_delivery(an_endpoint(other), state=State.DEAD)
    path = "/webhook/deliveries/loja/resend"
    for body, expected in [
        ({"since": "2026-01-01T02:00:00Z", "until": "2026-01-01T04:00:00Z"}, [2]),
        ({"since": "2026-01-01T00:00:00Z", "endpoint": endpoint.pk}, [0]),
        ({"endpoint": str(second.pk), "state": "dead"}, [4]),
        ({"state": ["delivered", "dropped"]}, [1, 5]),
        ({"state": "dead"}, []),
        ({"ids": [made[2].pk, str(made[0].pk), 10**17]}, [0, 2]),
        ({"ids": [made[3].pk], "state": "dead"}, [3]),
        ({"ids": []}, []),
    ]:
        last = Delivery.objects.order_by("pk").last().pk
        status, content = call("POST", path, body)
        new = list(Delivery.objects.filter(pk__gt=last).order_by("pk"))
        assert (status, content) == (201, {"count": len(expected), "hasMore": False}), body
        assert [delivery.seq for delivery in new] == expected
        assert [delivery.resent_from for delivery in new] == [made[n].pk for n in expected]
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in new]).update(state=State.PENDING)
    assert Delivery.objects.filter(instance_id=other.pk).count() == 1


def test_a_long_range_takes_several_calls_and_nothing_is_resent_twice(call, endpoint, monkeypatch):
    monkeypatch.setattr("realtime.api.deliveries.MAX_RESENT", 2)
    made = [a_delivery(endpoint, state=State.DEAD) for _ in range(5)]
    contents = [call("POST", "/webhook/deliveries/loja/resend", {})[1] for _ in range(4)]
    assert contents == [
        {"count": 2, "hasMore": True},
        {"count": 2, "hasMore": True},
        {"count": 1, "hasMore": False},
        {"count": 0, "hasMore": False},
    ]
    again = Delivery.objects.exclude(resent_from=None).order_by("pk")
    assert list(again.values_list("resent_from", flat=True)) == [delivery.pk for delivery in made]
    # a resent delivery that died can be resent in turn
    again.filter(resent_from=made[0].pk).update(state=State.DEAD)
    assert call("POST", "/webhook/deliveries/loja/resend", {})[1] == {"count": 1, "hasMore": False}


def test_another_url_is_guarded_gets_no_headers_and_is_signed_with_the_given_secret(call, endpoint, caplog):
    delivery = a_delivery(endpoint, state=State.DEAD, is_ordered=True)
    with caplog.at_level(logging.WARNING):
        body = {"url": OTHER + "?key=hidden", "secret": SECRET}
        status, row = call("POST", f"/webhook/deliveries/loja/{delivery.pk}/resend", body)

    assert status == 201
    new = Delivery.objects.get(pk=row["id"])
    assert (new.event_id, new.destination, new.is_ordered) == (delivery.event_id, OTHER + "?key=hidden", False)
    assert new.endpoint_id >= ONE_OFF
    found = endpoints_of([new.endpoint_id])[new.endpoint_id]
    assert (found.options["url"], found.secrets) == (OTHER + "?key=hidden", {"signing": [SECRET]})
    assert not found.is_trusted
    [line] = [record.getMessage() for record in caplog.records if "other.example.com" in record.getMessage()]
    assert line == "Deliveries of loja are sent to other.example.com, asked for by the instance's own token"
    assert row["askedBy"] == new.asked_by == "the instance's own token"
    assert SECRET not in caplog.text
    assert "hidden" not in caplog.text
    # so are ranges, and named deliveries that died with their deleted endpoint
    endpoint.delete()
    assert call("POST", "/webhook/deliveries/loja/resend", body)[1]["count"] == 0
    assert call("POST", "/webhook/deliveries/loja/resend", body | {"ids": [delivery.pk]})[1]["count"] == 1


def test_a_resent_or_test_delivery_records_whose_request_it_was(call, endpoint):
    delivery = a_delivery(endpoint, state=State.DEAD)
    keys = {
        "the global key": GLOBAL_KEY,
        "the API key a key": key_with("manage", "read"),
        "the instance's own token": None,
    }
    for actor, key in keys.items():
        resent = call("POST", f"/webhook/deliveries/loja/{delivery.pk}/resend", {}, key)[1]
        assert resent["askedBy"] == actor
        content = call("POST", "/webhook/test/loja", {"event": "CALL"}, key)[1]
        assert call("GET", f"/webhook/deliveries/loja/{content['deliveries'][0]['id']}")[1]["askedBy"] == actor


def test_a_url_given_by_the_operator_is_not_shown_to_tenants(call, endpoint):
    delivery = a_delivery(endpoint, state=State.DEAD)
    body = {"url": OTHER, "secret": SECRET}
    path = f"/webhook/deliveries/loja/{delivery.pk}/resend"
    tenants, operators = call("POST", path, body)[1], call("POST", path, body, key=GLOBAL_KEY)[1]
    assert tenants["destination"] == operators["destination"] == OTHER
    assert ids(call("GET", "/webhook/deliveries/loja")[1]) == [int(tenants["id"]), delivery.pk]
    assert int(operators["id"]) in ids(call("GET", "/webhook/deliveries/loja", key=GLOBAL_KEY)[1])
    endpoints = explained(call, delivery)["endpoints"]
    destinations = {endpoint["endpoint"]: endpoint["destination"] for endpoint in endpoints}
    assert destinations[operators["endpoint"]] is None
    assert destinations[tenants["endpoint"]] == OTHER


def explained(call, delivery: Delivery) -> Any:
    Delivery.objects.filter(instance_id=delivery.instance_id).update(event_id="test.7")
    return call("GET", "/webhook/why/loja/test.7")[1]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"url": OTHER}, [["secret is required with a url, to sign what is sent there"]]),
        ({"url": "", "secret": SECRET}, [['The "url" cannot be empty']]),
        ({"url": 5, "secret": SECRET}, [["url is not of a type(s) string"]]),
        ({"url": OTHER, "secret": "x"}, [["A signing secret begins with whsec_"]]),
        ({"url": "http://127.0.0.1/x", "secret": SECRET}, None),
        ({"url": "file:///etc/passwd", "secret": SECRET}, None),
    ],
)
@pytest.mark.parametrize("route", ["/{id}/resend", "/resend"])
def test_another_url_that_is_invalid_is_refused(call, endpoint, settings, route, body, messages):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    delivery = a_delivery(endpoint, state=State.DEAD)
    status, content = call("POST", "/webhook/deliveries/loja" + route.format(id=delivery.pk), body)
    assert status == 400
    assert messages is None or message(content) == messages
    assert (Delivery.objects.count(), FormerEndpoint.objects.count()) == (1, 0)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"since": 5}, "since is not a time such as 2026-01-31T12:00:00Z"),
        ({"until": None}, "until is not a time such as 2026-01-31T12:00:00Z"),
        ({"state": "lost"}, "state is not one of enum values: pending,delivered,dead,dropped"),
        ({"state": {"a": 1}}, "state is not one of enum values: pending,delivered,dead,dropped"),
        ({"endpoint": True}, "endpoint is not an id"),
        ({"endpoint": 1.5}, "endpoint is not an id"),
        ({"endpoint": "9" * 30}, "endpoint is not an id"),
        ({"ids": "5"}, "ids is not of a type(s) array"),
        ({"ids": [5, None]}, "ids[1] is not an id"),
        ({"ids": [{}]}, "ids[0] is not an id"),
        ({"ids": [1] * 1001}, "ids does not meet maximum length of 1000"),
    ],
)
def test_an_invalid_range_is_refused(call, endpoint, body, line):
    a_delivery(endpoint, state=State.DEAD)
    status, content = call("POST", "/webhook/deliveries/loja/resend", body)
    assert (status, message(content)) == (400, [[line]])
    assert Delivery.objects.count() == 1


@pytest.mark.parametrize(
    "path", ["/webhook/deliveries/loja/{id}/resend", "/webhook/deliveries/loja/resend", "/webhook/test/loja"]
)
@pytest.mark.parametrize("body", [{}, {"url": OTHER, "secret": SECRET}, {"event": "call"}])
def test_a_key_without_manage_sends_nothing(call, endpoint, other, path, body):
    delivery = a_delivery(endpoint, state=State.DEAD)
    path = path.format(id=delivery.pk)
    status, content = call("POST", path, body, key_with("read", "listen", "send", "publish"))
    assert (status, message(content)) == (403, ["This key may not manage"])
    assert call("POST", path + "?instanceName=other", body, other.token.reveal())[0] == 401
    assert (Delivery.objects.count(), FormerEndpoint.objects.count()) == (1, 0)


@pytest.mark.parametrize("path", ["/webhook/deliveries/loja", "/webhook/deliveries/loja/{id}", "/webhook/why/loja/1"])
def test_a_key_without_read_gets_nothing(call, endpoint, other, path):
    path = path.format(id=a_delivery(endpoint).pk)
    assert call("GET", path, key=key_with("manage", "listen"))[0] == 403
    assert call("GET", path, key=other.token.reveal())[0] == 401
    assert call("GET", path.replace("loja", "none"), key=GLOBAL_KEY)[0] == 404


# POST /webhook/test


@pytest.mark.parametrize("event_type", [member for member in EventType if member.is_subscribable])
def test_a_sample_of_every_type_can_be_sent(call, endpoint, event_type):
    for name in (event_type.value, event_type.name):
        status, content = call("POST", "/webhook/test/loja", {"event": name})
        assert status == 201
        [sent] = content["deliveries"]
        delivery = Delivery.objects.get(pk=sent["id"])
        body = orjson.loads(bytes(delivery.body))
        assert (body["event"], body["instance"], body["test"]) == (event_type.value, "loja", True)
        assert body["id"] == content["event"] == delivery.event_id
        assert content["event"].startswith("test.")
        assert (body["seq"], delivery.seq, delivery.is_ordered) == (0, 0, False)
        assert "data" in body
        assert (sent["endpoint"], delivery.state) == (str(endpoint.pk), State.PENDING)


def test_a_test_event_is_sent_to_one_endpoint_or_to_all_enabled(call, loja, other):
    first, second, off = (
        an_endpoint(loja),
        an_endpoint(loja, options={"url": OTHER, "byEvents": True}),
        an_endpoint(loja),
    )
    an_endpoint(other), an_endpoint(None)
    Subscription.objects.filter(pk=off.pk).update(is_enabled=False)
    before = Event.objects.count()

    sent_to_all = call("POST", "/webhook/test/loja", {"event": "messages.upsert"})[1]
    sent_to_one = call("POST", "/webhook/test/loja", {"event": "messages.upsert", "endpoint": str(second.pk)})[1]

    assert [sent["endpoint"] for sent in sent_to_all["deliveries"]] == [str(first.pk), str(second.pk)]
    assert [sent["endpoint"] for sent in sent_to_one["deliveries"]] == [str(second.pk)]
    assert Delivery.objects.get(pk=sent_to_one["deliveries"][0]["id"]).destination == OTHER + "/messages-upsert"
    assert Event.objects.count() == before, "the log must not have it"
    status, refused = call("POST", "/webhook/test/loja", {"event": "call", "endpoint": off.pk})
    assert (status, message(refused)) == (409, ["There is no enabled webhook endpoint"])


@pytest.mark.parametrize("body", [{}, {"event": "nope"}, {"event": "creds.update"}, {"event": None}, {"event": [1]}])
def test_an_unknown_event_type_is_refused(call, endpoint, body):
    assert call("POST", "/webhook/test/loja", body)[0] == 400
    assert not Delivery.objects.exists()


def test_a_test_event_needs_an_endpoint_of_the_instance(call, other):
    assert call("POST", "/webhook/test/loja", {"event": "call"})[0] == 409
    foreign = an_endpoint(other)
    assert call("POST", "/webhook/test/loja", {"event": "call", "endpoint": foreign.pk})[0] == 404
    assert call("POST", "/webhook/test/loja", {"event": "call", "endpoint": "x"})[0] == 400


def test_a_test_event_does_not_delay_ordered_deliveries(call, loja):
    endpoint = an_endpoint(loja, options={"url": URL, "ordered": True})
    record(loja)
    call("POST", "/webhook/test/loja", {"event": "call"})
    Delivery.objects.filter(seq=0).update(due_at=timezone.now() + timedelta(hours=1), attempts=3)
    [claimed] = Delivery.objects.claim_first(endpoint.pk, 10, "a lease")
    assert (claimed.seq, claimed.is_ordered) == (2, True)


# GET /webhook/why


def record(instance: Instance, event_type: EventType = EventType.CALL) -> Event:
    with transaction.atomic():
        event = Event.objects.record(instance, event_type, {"a": 1})
    return Event.objects.get(instance_id=instance.pk, seq=event.seq)


def why(call: Any, reference: Any, key: str | None = None) -> Any:
    status, content = call("GET", f"/webhook/why/loja/{reference}", key=key)
    assert status == 200, content
    return content


def test_an_explanation_covers_each_endpoint(call, loja):
    wanting, unsubscribed = an_endpoint(loja), an_endpoint(loja, events=["CHATS_SET"])
    off = an_endpoint(loja, is_enabled=False, disabled_reason="It answered 410 Gone")
    later_changed = an_endpoint(loja, events=["CHATS_SET"])
    event = record(loja)
    Subscription.objects.filter(pk=later_changed.pk).update(events=["CALL"])
    late = an_endpoint(loja)

    content = why(call, event.seq)

    epoch = Stream.objects.get(pk=loja.pk).epoch
    assert content["event"] == {
        "id": f"{epoch}.{event.seq}",
        "seq": event.seq,
        "event": "call",
        "at": iso(event.created_at),
    }
    found = {int(endpoint["endpoint"]): endpoint for endpoint in content["endpoints"]}
    assert list(found) == [wanting.pk, unsubscribed.pk, off.pk, later_changed.pk, late.pk]
    assert {pk: (endpoint["wanted"], endpoint["state"]) for pk, endpoint in found.items()} == {
        wanting.pk: (True, "pending"),
        unsubscribed.pk: (False, "not owed"),
        off.pk: (False, "not owed"),
        later_changed.pk: (False, "not owed"),
        late.pk: (False, "not owed"),
    }
    assert found[unsubscribed.pk]["text"] == f"The webhook endpoint {unsubscribed.pk} is not subscribed to CALL."
    assert found[off.pk]["text"] == f"The webhook endpoint {off.pk} is switched off: It answered 410 Gone."
    assert "wants such events now, but did not when this one happened" in found[later_changed.pk]["text"]
    assert "was created after it" in found[late.pk]["text"]
    assert "is about to be sent it" in found[wanting.pk]["text"]
    assert content["summary"] == [*(endpoint["text"] for endpoint in content["endpoints"]), content["sockets"]["text"]]
    assert content == why(call, content["event"]["id"])


def test_an_ordered_delivery_is_explained_by_the_event_that_it_waits_for(call, loja):
    an_endpoint(loja, options={"url": URL, "ordered": True})
    first, second, third = record(loja), record(loja), record(loja)
    Delivery.objects.filter(seq=first.seq).update(state=State.DELIVERED)
    Delivery.objects.filter(seq=second.seq).update(attempts=1, due_at=timezone.now() + timedelta(hours=1))
    assert "has not accepted it yet: 1 attempt," in why(call, second.seq)["endpoints"][0]["text"]
    assert (
        f"waits for event {second.seq}, because its events are delivered in order."
        in why(call, third.seq)["endpoints"][0]["text"]
    )


@pytest.mark.parametrize(
    ("fields", "attempt", "words"),
    [
        (
            {"state": State.DELIVERED, "attempts": 1},
            {"status": 200, "error": ""},
            "accepted it at {at}, after 1 attempt.",
        ),
        (
            {"state": State.DEAD, "attempts": 3},
            {"status": 422, "error": ""},
            "did not accept it: given up at {at}, after 3 attempts. The last time: HTTP 422.",
        ),
        (
            {"state": State.PENDING, "attempts": 2, "finished_at": None},
            {"status": None, "error": "The host of the URL was not found"},
            "has not accepted it yet: 2 attempts, the next one is due at {due}. The last time: The host of the URL was",
        ),
        (
            {"state": State.DEAD, "reason": "Its endpoint was switched off: It answered 410"},
            None,
            "did not accept it: given up at {at}, after 0 attempts. Its endpoint was switched off: It answered 410.",
        ),
        (
            {"state": State.DROPPED, "reason": "Its endpoint was deleted"},
            None,
            "was not sent it any more at {at}. Its endpoint was deleted.",
        ),
        ({"state": State.DROPPED}, None, "was not sent it any more at {at}, as it was deleted or disabled."),
    ],
)
def test_the_state_of_a_delivery_is_explained(call, loja, endpoint, fields, attempt, words):
    event = record(loja)
    at = due = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    Delivery.objects.update(**{"finished_at": at, "due_at": due} | fields)
    if attempt:
        an_attempt(Delivery.objects.get(), **attempt)
    [row] = why(call, event.seq)["endpoints"]
    expected = words.format(at=iso(at), due=iso(due))
    assert row["text"].startswith(f"The webhook endpoint {endpoint.pk} {expected}")
    assert row["state"] == fields["state"]


def test_resent_deliveries_are_explained(call, loja, endpoint):
    event = record(loja)
    Delivery.objects.update(state=State.DEAD, attempts=1, finished_at=timezone.now())
    first = Delivery.objects.get()
    second = call("POST", f"/webhook/deliveries/loja/{first.pk}/resend", {})[1]["id"]
    redirected = call("POST", f"/webhook/deliveries/loja/{first.pk}/resend", {"url": OTHER, "secret": SECRET})[1]
    own, other = why(call, event.seq)["endpoints"]
    assert own["deliveries"] == [str(first.pk), second]
    assert "; then it is about to be sent it" in own["text"]
    assert own["state"] == "pending"
    assert (other["deliveries"], other["destination"]) == ([redirected["id"]], OTHER)


def test_tenants_do_not_see_destinations_of_global_endpoints(call, loja):
    hidden = an_endpoint(None, options={"url": "https://operator.example/secret-path"})
    event = record(loja)
    [row] = why(call, event.seq)["endpoints"]
    assert (row["endpoint"], row["destination"], row["wanted"]) == (str(hidden.pk), None, True)
    assert why(call, event.seq, GLOBAL_KEY)["endpoints"][0]["destination"] == "https://operator.example/secret-path"
    Subscription.objects.all().delete()


@pytest.mark.parametrize(
    ("events", "is_heard", "words"),
    [
        (None, True, "Sockets were to receive it; 0 that receive such events are connected to this process now."),
        (["CALL"], True, "Sockets were to receive it; 0 that"),
        (["CHATS_SET"], False, "Sockets were not to receive it: the instance's websocket settings left out CALL."),
    ],
)
def test_an_explanation_says_if_sockets_were_to_receive_the_event(call, loja, events, is_heard, words):
    if events:
        Subscription.set_websocket(loja, True, events)
    content = why(call, record(loja).seq)
    assert content["endpoints"] == []
    assert content["sockets"]["isHeard"] is is_heard
    assert content["sockets"]["text"].startswith(words)


def test_an_unknown_or_pruned_event_is_not_found_with_the_reason(call, loja, other, endpoint):
    event = record(loja)
    epoch = Stream.objects.get(pk=loja.pk).epoch
    for reference, words in [
        (event.seq + 1, f'Event {event.seq + 1} of "loja" has not happened: the last one is {event.seq}'),
        (f"{'0' * 16}.{event.seq}", f'The "loja" instance knows no event {"0" * 16}.{event.seq}'),
        ("x", 'The "loja" instance knows no event x'),
        ("0", 'The "loja" instance knows no event 0'),
        ("-1", 'The "loja" instance knows no event -1'),
        ("9" * 40, f'The "loja" instance knows no event {"9" * 40}'),
        ("test.abc", 'The "loja" instance knows no event test.abc'),
        (ARABIC_ONE, f'The "loja" instance knows no event {ARABIC_ONE}'),
    ]:
        status, content = call("GET", f"/webhook/why/loja/{reference}")
        assert (status, message(content)) == (404, [words])

    Event.objects.filter(seq=event.seq).delete()
    content = why(call, f"{epoch}.{event.seq}")  # its delivery is still there
    assert content["endpoints"][0]["state"] == "pending"
    assert content["sockets"]["isHeard"] is None
    Delivery.objects.all().delete()
    status, content = call("GET", f"/webhook/why/loja/{event.seq}")
    assert (status, message(content)) == (
        404,
        [f'Event {event.seq} of "loja" is not kept any more: events are kept for 168 hours'],
    )


def test_a_test_event_is_explained(call, endpoint):
    event_id = call("POST", "/webhook/test/loja", {"event": "call"})[1]["event"]
    assert why(call, event_id)["endpoints"][0]["state"] == "pending"


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
