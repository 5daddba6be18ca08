"""The bounds of the backlog: a client is refused before anything is written, a provider's report is recorded."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.utils import timezone

from instances.models import Subscription
from realtime.api.explain import explain
from realtime.delivery.models import Delivery
from realtime.log.retention import prune
from realtime.log.stream import Stream
from tests.in_process import until
from tests.realtime.delivery.deliveries import pending
from tests.receiver import Receiver

#: A URL that refuses connections; its deliveries stay pending.
AWAY = "http://127.0.0.1:9/in"


def with_webhooks(server, count, **fields):
    instance = server.create(**fields)
    for _ in range(count):
        body = {"url": AWAY, "events": ["CALL", "MESSAGES_UPSERT"]}
        assert server.post(server.path("/webhook/endpoints", instance), body).status == 201
    return instance


def publish(server, instance, data=1, count=1):
    events = [{"event": "call", "data": data}] * count
    return server.post(server.path("/event/publish", instance), events, key=instance.token)


def deliveries(server, instance, state=""):
    path = server.path("/webhook/deliveries", instance) + (f"?state={state}" if state else "")
    return server.get(path, key=instance.token).json["deliveries"]


def log(server, instance):
    return server.get(server.path("/event/find", instance), key=instance.token).json["events"]


def refused(response):
    assert response.status == 429, response.body
    [sentence] = response.json["response"]["message"]
    return sentence


@pytest.mark.bound("LIMIT_OWED_DELIVERIES")
def test_what_is_over_the_backlog_is_refused_to_clients_and_dropped_of_providers(start_server):
    server = start_server(LIMIT_OWED_DELIVERIES="6", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")
    instance, other = with_webhooks(server, 2), with_webhooks(server, 2)
    assert publish(server, instance, count=2).status == 201
    before = log(server, instance)
    assert "4 deliveries of this instance are pending, of 6 at most" in refused(publish(server, instance, count=2))
    assert "these 4 deliveries" in refused(publish(server, instance, count=2))
    assert (log(server, instance), len(deliveries(server, instance))) == (before, 4)
    assert publish(server, instance).status == 201

    # full: whatever a client asks for is refused, and nothing of it written
    before = log(server, instance)
    assert "6 deliveries" in refused(publish(server, instance))
    assert "6 deliveries" in refused(server.post(server.path("/webhook/test", instance), {"event": "call"}))
    one = deliveries(server, instance)[0]["id"]
    elsewhere = {"url": AWAY, "secret": "whsec_" + "A" * 32}  # to its own endpoint a pending one is sent, not copied
    assert refused(
        server.post(server.path("/webhook/deliveries", instance) + f"/{one}/resend", elsewhere, key=instance.token)
    )
    assert refused(
        server.post(
            server.path("/webhook/deliveries", instance) + "/resend", elsewhere | {"ids": [one]}, key=instance.token
        )
    )
    assert (log(server, instance), len(deliveries(server, instance))) == (before, 6)
    assert publish(server, other).status == 201

    # what a provider reports is recorded all the same
    for number in range(3):
        assert server.receive(instance, id=f"message-{number}").status in (200, 201)
    events = log(server, instance)[len(before) :]
    assert [event["event"] for event in events].count("messages.upsert") == 3
    [announced] = [event for event in events if event["event"] == "deliveries.dropped"]
    assert announced["data"] == {"reason": "6 deliveries of this instance are pending, of 6 at most"}
    dropped = deliveries(server, instance, "dropped")
    assert [delivery["event"] for delivery in dropped] == ["messages.upsert"] * 6
    assert {delivery["reason"] for delivery in dropped} == {announced["data"]["reason"]}
    assert not [delivery for delivery in deliveries(server, instance) if delivery["event"] == "deliveries.dropped"]
    why = server.get(server.path("/webhook/why", instance) + f"/{dropped[0]['seq']}", key=instance.token).json
    assert "6 deliveries of this instance are pending" in why["summary"][0]
    assert server.log.read_text().count(f"Deliveries of {instance.name} are dropped") == 1

    # once there is room, the dropped ones can be resent
    for endpoint in server.get(server.path("/webhook/endpoints", instance)).json:
        server.request("DELETE", server.path("/webhook/endpoints", instance) + f"/{endpoint['id']}")
    target = {"url": AWAY, "secret": "whsec_" + "A" * 32, "ids": [delivery["id"] for delivery in dropped]}
    resend = server.path("/webhook/deliveries", instance) + "/resend"
    assert until(lambda: server.post(resend, target, key=instance.token).status == 201, 5)
    assert len(deliveries(server, instance, "pending")) == 6
    assert server.stalls() == []


@pytest.mark.bound("LIMIT_OWED_BYTES")
def test_bytes_count_once_for_all_endpoints_of_an_event(start_server):
    server = start_server(LIMIT_OWED_BYTES="100000", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")
    instance = with_webhooks(server, 5)
    assert publish(server, instance, "x" * 60_000).status == 201
    assert "0.1 MiB of this instance are pending" in refused(publish(server, instance, "x" * 60_000))
    assert publish(server, instance, "x" * 30_000).status == 201
    assert len(deliveries(server, instance, "pending")) == 10


@pytest.mark.slow
def test_what_processes_enqueue_at_once_is_bounded_and_others_count_a_second_later(start_server):
    servers = [start_server(LIMIT_OWED_DELIVERIES="6", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600") for _ in range(2)]
    instance = with_webhooks(servers[0], 1)
    assert [publish(server, instance).status for server in servers] == [201, 201]
    assert publish(servers[0], instance, count=4).status == 201
    time.sleep(1.1)
    assert refused(publish(servers[1], instance))

    crowded = with_webhooks(servers[0], 2)
    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(lambda _: publish(servers[0], crowded).status, range(20)))
    assert sorted(responses) == [201] * 3 + [429] * 17
    assert len(deliveries(servers[0], crowded, "pending")) == 6


# The operator's endpoints

GLOBAL = {"WEBHOOK_GLOBAL_ENABLED": "true", "WEBHOOK_GLOBAL_URL": AWAY, "WEBHOOK_EVENTS_CALL": "true"}


@pytest.mark.slow
@pytest.mark.bound("LIMIT_OPERATORS_OWED_DELIVERIES")
def test_what_the_operators_endpoints_owe_is_nobodys_backlog(fresh_server):
    limits = {"LIMIT_OWED_DELIVERIES": "4", "LIMIT_OPERATORS_OWED_DELIVERIES": "12"}
    server = fresh_server(**limits, **GLOBAL, WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")
    with Receiver() as receiver:
        mine, other = server.create(), server.create()
        body = {"url": receiver.url, "events": ["CALL"]}
        assert server.post(server.path("/webhook/endpoints", mine), body).status == 201
        for number in range(1, 11):
            # of the tenant's own, those that were delivered are counted for a second more
            until(lambda data=number: publish(server, mine, data).status == 201, 5)
            until(lambda count=number: len(receiver.requests) == count)

        # an instance has at most as many as it leaves to the others
        to_operator = [each for each in operators(server, mine) if each["endpoint"] == "0"]
        assert [each["state"] for each in to_operator] == ["dropped"] * 4 + ["pending"] * 6
        reason = "6 deliveries of this instance to the operator's endpoints are pending"
        reason += ": it has at most as many as it leaves of 12"
        assert {each["reason"] for each in to_operator[:4]} == {reason}
        [announced] = [event for event in log(server, mine) if event["event"] == "deliveries.dropped"]
        assert announced["data"] == {"reason": reason}
        assert server.log.read_text().count(f"Deliveries of {mine.name} are dropped: {reason}") == 1

        # what is the tenant's own is not refused, and neither is another instance
        own = [each["id"] for each in deliveries(server, mine)]
        assert len(own) == 10
        resend = server.path("/webhook/deliveries", mine) + "/resend"
        assert until(lambda: server.post(resend, {"ids": own[:4]}, key=mine.token).status == 201, 5)
        assert [publish(server, other).status for _ in range(5)] == [201] * 5
        assert [each["state"] for each in operators(server, other)] == ["dropped"] * 2 + ["pending"] * 3

        # but what the operator resends there is
        assert "6 deliveries of this instance to the operator's endpoints" in refused(
            server.post(resend, {"ids": [to_operator[0]["id"]]})
        )


def operators(server, instance):
    return server.get(server.path("/webhook/deliveries", instance)).json["deliveries"]


@pytest.mark.bound("LIMIT_OPERATORS_OWED_BYTES")
def test_the_bytes_that_the_operators_endpoints_owe_are_counted_apart(start_server):
    server = start_server(LIMIT_OPERATORS_OWED_BYTES="200000", LIMIT_OWED_BYTES="100000", **GLOBAL)
    instance = server.create()
    for size in (60_000, 60_000, 30_000):
        assert publish(server, instance, "x" * size).status == 201
    assert [each["state"] for each in operators(server, instance)] == ["pending", "dropped", "pending"]
    assert "0.1 MiB of this instance for the operator's endpoints" in operators(server, instance)[1]["reason"]


def test_each_of_the_two_backlogs_is_announced(start_server):
    limits = {"LIMIT_OWED_DELIVERIES": "1", "LIMIT_OPERATORS_OWED_DELIVERIES": "2"}
    events = {"WEBHOOK_EVENTS_MESSAGES_UPSERT": "true"}
    server = start_server(**limits, **GLOBAL, **events, WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")
    instance = with_webhooks(server, 1)
    for number in range(3):
        assert server.receive(instance, id=f"message-{number}").status in (200, 201)
    announced = [event for event in log(server, instance) if event["event"] == "deliveries.dropped"]
    assert sorted("the operator's" in event["data"]["reason"] for event in announced) == [False, True]


# Transports that are off


def test_events_for_a_transport_that_is_off_are_dropped_and_said_to_be(server):
    instance = server.create()
    server.shell(f"""
from instances.models import Instance, Subscription
instance = Instance.objects.get(pk="{instance.id}")
Subscription.objects.create(instance=instance, transport="rabbitmq", events=["CALL"], options={{"exchange": "x"}})
""")
    assert publish(server, instance, count=3).status == 201

    found = deliveries(server, instance)
    reason = "RabbitMQ is off: RABBITMQ_ENABLED is not true"
    assert {(delivery["state"], delivery["reason"]) for delivery in found} == {("dropped", reason)}
    why = server.get(server.path("/webhook/why", instance) + f"/{found[0]['seq']}", key=instance.token).json
    assert reason in why["summary"][0]
    [announced] = [event for event in log(server, instance) if event["event"] == "deliveries.dropped"]
    assert announced["data"] == {"reason": reason}
    assert f"Deliveries of {instance.name} are dropped: {reason}" in server.log.read_text()
    resend = server.post(server.path("/webhook/deliveries", instance) + f"/{found[0]['id']}/resend", {})
    assert resend.status == 409
    assert resend.json["response"]["message"] == [f"{reason}; give a url to send it to"]


@pytest.mark.bound("LIMIT_OFF_HOURS")
@pytest.mark.django_db
def test_what_was_pending_when_its_transport_was_switched_off_is_given_up_in_the_end(loja, caplog):
    options = {"exchange": "loja"}
    row = Subscription.objects.create(instance=loja, transport="rabbitmq", events=["CALL"], options=options)
    old, young, claimed = Delivery.objects.bulk_create(
        pending(row.pk, loja, seq, transport="rabbitmq", body=b"{}") for seq in (1, 2, 3)
    )
    webhook = pending(row.pk + 1, loja, 1)
    webhook.save()
    age = timezone.now() - timedelta(hours=73)
    Delivery.objects.filter(pk__in=[old.pk, claimed.pk, webhook.pk]).update(created_at=age)
    # by a process that died, before the switch
    Delivery.objects.filter(pk=claimed.pk).update(lease="dead", due_at=age)

    prune()

    found = {delivery.pk: delivery for delivery in Delivery.objects.all()}
    assert [found[each.pk].state for each in (old, young, claimed, webhook)] == ["dead", "pending", "dead", "pending"]
    reason = "RabbitMQ is off: RABBITMQ_ENABLED is not true"
    assert found[old.pk].reason == f"It waited for 72 hours. {reason}"
    assert f"Deliveries to endpoint {row.pk} wait, until they are too old: {reason}" in caplog.text
    Stream.objects.filter(pk=loja.pk).update(epoch="e" * 16, last_seq=3)
    assert f"is not sent it for now: {reason}. It is given up at" in explain(loja, "2", is_for_all=False)["summary"][0]
