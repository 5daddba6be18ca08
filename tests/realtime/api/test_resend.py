"""Resent deliveries and test events over REST."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from django.utils import timezone

from instances.events import EventType
from instances.models import Subscription
from realtime.delivery import wakeup
from realtime.delivery.backlog import ONE_OFF
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import Delivery, FormerEndpoint, State
from realtime.log.models import Event
from tests.environment import GLOBAL_KEY
from tests.in_process import until
from tests.realtime.api.rows import (
    OTHER,
    ROW,
    SECRET,
    URL,
    a_delivery,
    an_endpoint,
    explanation,
    ids,
    key_with,
    message,
    record,
)
from tests.realtime.delivery.deliveries import payload
from tests.receiver import Receiver

pytest_plugins = ("tests.rest",)


#: The response to a request to resend that found nothing.
COUNTS = {"count": 0, "dueAtOnce": 0, "beingSent": 0, "hasMore": False}


# Resending


def test_a_delivery_is_resent_under_its_id_and_with_its_bytes(call, endpoint):
    old = a_delivery(endpoint, state=State.DEAD, attempts=9, finished_at=timezone.now(), body=b'{"a":  1}')

    status, row = call("POST", f"/webhook/deliveries/loja/{old.pk}/resend", {})

    assert status == 201
    assert list(row) == ROW
    new = Delivery.objects.get(pk=row["id"])
    assert new.pk != old.pk
    assert (new.event_id, payload(new), new.seq, new.type) == (old.event_id, b'{"a":  1}', 7, "call")
    assert (new.state, new.attempts, new.lease, new.finished_at) == (State.PENDING, 0, None, None)
    assert (new.endpoint_id, new.destination, new.name) == (endpoint.pk, URL, "loja")
    assert new.resent_from == old.pk
    assert new.due_at <= timezone.now()
    old.refresh_from_db()
    assert (old.state, old.attempts) == (State.DEAD, 9)
    # in any state, but a pending one is not copied
    Delivery.objects.filter(pk=new.pk).update(state=State.DELIVERED)
    assert call("POST", f"/webhook/deliveries/loja/{old.pk}/resend", {})[0] == 201
    assert call("POST", f"/webhook/deliveries/loja/{row['id']}/resend")[0] == 201


def test_a_pending_delivery_is_sent_now_and_not_copied(call, endpoint):
    due_at = timezone.now() + timedelta(hours=3)
    pending = a_delivery(endpoint, attempts=4, due_at=due_at)
    in_flight = a_delivery(endpoint, lease="of another", due_at=timezone.now() + timedelta(seconds=15))

    status, row = call("POST", f"/webhook/deliveries/loja/{pending.pk}/resend", {})

    assert (status, list(row), row["id"], row["attempts"]) == (200, ROW, str(pending.pk), 4)
    pending.refresh_from_db()
    assert (pending.state, pending.due_at <= timezone.now()) == (State.PENDING, True)
    assert call("POST", f"/webhook/deliveries/loja/{pending.pk}/resend", {})[0] == 200
    status, content = call("POST", f"/webhook/deliveries/loja/{in_flight.pk}/resend", {})
    assert (status, message(content)) == (409, ["It is being sent at this moment"])
    Delivery.objects.filter(pk=pending.pk).update(due_at=due_at)
    for body in ({"state": ["pending", "dead"]}, {"ids": [pending.pk, in_flight.pk]}):
        counts = {"count": 0, "dueAtOnce": 1, "beingSent": 1, "hasMore": False}
        assert call("POST", "/webhook/deliveries/loja/resend", body) == (201, counts)
    assert Delivery.objects.count() == 2

    # another target gets a copy, because the pending one is for its own
    body = {"url": OTHER, "secret": SECRET}
    assert call("POST", f"/webhook/deliveries/loja/{pending.pk}/resend", body)[0] == 201
    assert call("POST", "/webhook/deliveries/loja/resend", {"state": "pending"})[1]["dueAtOnce"] == 1
    assert Delivery.objects.count() == 3


@pytest.mark.bound("LIMIT_RESENT")
def test_many_pending_deliveries_take_several_calls(call, endpoint, monkeypatch):
    monkeypatch.setattr("realtime.api.deliveries.RESENT", 2)
    for _ in range(3):
        a_delivery(endpoint, due_at=timezone.now() + timedelta(hours=1))
    contents = [call("POST", "/webhook/deliveries/loja/resend", {"state": "pending"})[1] for _ in range(2)]
    assert [(content["dueAtOnce"], content["hasMore"]) for content in contents] == [(2, True), (3, False)]


def test_resending_wakes_the_dispatchers_after_the_commit(client, loja, endpoint, django_capture_on_commit_callbacks):
    delivery, _ = a_delivery(endpoint), a_delivery(endpoint, state=State.DEAD)
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
        assert call("POST", "/webhook/deliveries/loja/resend", {})[1] == COUNTS
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
        ({"ids": []}, []),
    ]:
        last = Delivery.objects.order_by("pk").last().pk
        status, content = call("POST", path, body)
        new = list(Delivery.objects.filter(pk__gt=last).order_by("pk"))
        assert (status, content) == (201, COUNTS | {"count": len(expected)}), body
        assert [delivery.seq for delivery in new] == expected
        assert [delivery.resent_from for delivery in new] == [made[n].pk for n in expected]
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in new]).update(state=State.PENDING)
    assert Delivery.objects.filter(instance_id=other.pk).count() == 1


@pytest.mark.bound("LIMIT_RESENT")
def test_a_long_range_takes_several_calls_and_nothing_is_resent_twice(call, endpoint, monkeypatch):
    monkeypatch.setattr("realtime.api.deliveries.RESENT", 2)
    made = [a_delivery(endpoint, state=State.DEAD) for _ in range(5)]
    contents = [call("POST", "/webhook/deliveries/loja/resend", {})[1] for _ in range(4)]
    assert contents == [
        COUNTS | {"count": 2, "hasMore": True},
        COUNTS | {"count": 2, "hasMore": True},
        COUNTS | {"count": 1},
        COUNTS,
    ]
    again = Delivery.objects.exclude(resent_from=None).order_by("pk")
    assert list(again.values_list("resent_from", flat=True)) == [delivery.pk for delivery in made]
    # a resent delivery that died can be resent in turn
    again.filter(resent_from=made[0].pk).update(state=State.DEAD)
    assert call("POST", "/webhook/deliveries/loja/resend", {})[1] == COUNTS | {"count": 1}


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


def test_a_copy_to_another_url_is_no_resending_to_the_endpoint(call, endpoint):
    dead = a_delivery(endpoint, state=State.DEAD)
    elsewhere = {"url": OTHER, "secret": SECRET}
    path = "/webhook/deliveries/loja/resend"
    assert [call("POST", path, elsewhere)[1]["count"] for _ in range(2)] == [1, 0]
    assert call("POST", path, elsewhere | {"url": f"{OTHER}/more"})[1]["count"] == 1
    assert [call("POST", path, {})[1]["count"] for _ in range(2)] == [1, 0]
    assert Delivery.objects.latest("pk").resent_from == dead.pk
    # it was sent again to its endpoint, and not to this URL
    assert call("POST", path, elsewhere | {"url": f"{OTHER}/third"})[1]["count"] == 1


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
    Delivery.objects.update(event_id="test.7")
    endpoints = explanation(call, "test.7")["endpoints"]
    destinations = {endpoint["endpoint"]: endpoint["destination"] for endpoint in endpoints}
    assert destinations[operators["endpoint"]] is None
    assert destinations[tenants["endpoint"]] == OTHER


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
        body = orjson.loads(payload(delivery))
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


# Through the real server, to a real receiver


def test_what_is_pending_is_sent_at_once_and_only_once(fresh_server):
    server = fresh_server(WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="3600", WEBHOOK_RETRY_MAX_DELAY_SECONDS="3600")
    statuses = defaultdict(lambda: iter([500]))
    with Receiver(lambda request: next(statuses[request.id], 200)) as receiver:
        instance = server.create(webhook={"url": receiver.url, "events": ["CALL"]})
        path = server.path("/webhook/deliveries", instance)
        server.post(server.path("/event/publish", instance), [{"event": "call", "data": {}}] * 5)
        until(lambda: all(row["attempts"] for row in server.get(path).json["deliveries"]) and len(statuses) == 5)

        response = server.post(f"{path}/resend", {"state": "pending"})

        assert (response.status, response.json) == (201, COUNTS | {"dueAtOnce": 5})
        until(lambda: {row["state"] for row in server.get(path).json["deliveries"]} == {"delivered"})
        assert (len(server.get(path).json["deliveries"]), len(receiver.requests)) == (5, 10)
