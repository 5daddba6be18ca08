"""Bodies: stored once for an event and transport, spliced for each endpoint, and kept while a delivery is."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from instances.events import EventType
from realtime.delivery import inline_bodies
from realtime.delivery.bodies import Body
from realtime.delivery.models import Delivery, State, load_bodies
from realtime.delivery.resend import resend, send_test
from realtime.log.models import Event
from realtime.log.retention import prune
from tests.in_process import InProcessServer, until
from tests.realtime.delivery.deliveries import endpoint, finished, payload, pending, record
from tests.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("short_retries")]

MONTH = timedelta(days=30)


@pytest.mark.slow
def test_an_events_bytes_are_stored_once_for_all_endpoints_attempts_and_resends(inside, loja):
    with Receiver(lambda request: 500) as one, Receiver() as other:
        endpoint(loja, one)
        endpoint(loja, other)
        record(loja, 1)
        finished(2)
        with transaction.atomic():
            assert resend(Delivery.objects.all(), 10, "a test") == 2
        finished(4)

        for receiver, count in ((one, 10), (other, 2)):
            assert len(receiver.requests) == count
            [(bytes_sent, _)] = {(request.body, request.id) for request in receiver.requests}
            assert json.loads(bytes_sent)["destination"] == receiver.url
        first, second = (json.loads(receiver.requests[0].body) for receiver in (one, other))
        assert list(first) == list(second)
        assert first | {"destination": None} == second | {"destination": None}
    assert Body.objects.count() == 1
    assert {bytes(delivery.body) for delivery in Delivery.objects.all()} == {b""}


def test_the_deliveries_of_a_batch_share_one_read_of_their_body(loja, django_assert_num_queries):
    with Receiver() as receiver:
        endpoints = [endpoint(loja, receiver) for _ in range(5)]
    record(loja, 1)
    claimed = [delivery for each in endpoints for delivery in Delivery.objects.claim(each.pk, 9, "a")]

    with django_assert_num_queries(1):
        load_bodies(claimed)

    assert len(claimed) == 5
    assert len({id(delivery.shared_body) for delivery in claimed}) == 1


def test_a_body_is_kept_until_its_last_delivery_is_pruned_also_without_its_event(loja):
    with Receiver() as receiver:
        first, second = endpoint(loja, receiver), endpoint(loja, receiver)
        [event] = record(loja, 1)
        Event.objects.update(created_at=timezone.now() - MONTH)
        ended = {"state": State.DEAD, "finished_at": timezone.now() - MONTH}
        Delivery.objects.filter(endpoint_id=first.pk).update(**ended)
        prune()
        assert not Event.objects.exists()
        assert list(Delivery.objects.values_list("endpoint_id", flat=True)) == [second.pk]

        with InProcessServer():
            finished()

        assert [request.id for request in receiver.requests] == [f"{event.epoch}.{event.seq}"]
        assert Body.objects.count() == 1
        Delivery.objects.update(finished_at=timezone.now() - MONTH)
        prune()
        assert not Body.objects.exists()


def test_bodies_of_test_events_are_shared_and_pruned_too(loja):
    with Receiver() as receiver:
        endpoints = [endpoint(loja, receiver) for _ in range(3)]
    for _ in range(2):
        with transaction.atomic():
            send_test(loja, EventType.CALL, endpoints, "a test")
    old, new = Body.objects.order_by("pk")
    ended = {"state": State.DEAD, "finished_at": timezone.now() - MONTH}
    Delivery.objects.filter(event_id=old.event_id).update(**ended)

    prune()

    assert Body.objects.get() == new
    assert Delivery.objects.count() == 3


# Rows of earlier versions, with a body each

DATA = (
    b'{"event":"call","instance":"loja","data":%b,"destination":"%b","date_time":"now","apikey":null,"id":"e.7",'
    b'"seq":7}'
)
NESTED = rb'{"destination":"x","date_time":"\",\"destination\":\"y\",\"date_time\":\"","apikey":1}'


def inline(instance, number, body, **fields):
    values = {"event_id": "e" * 16 + ".7", "body": body, "size": len(body), "due_in": 3600}
    return pending(number, instance, 7, **values | fields)


def test_bodies_of_earlier_versions_are_moved_and_their_bytes_stay(loja, monkeypatch):
    made = Delivery.objects.bulk_create(
        [
            *(inline(loja, number, DATA % (NESTED, b'https://%d.example/\\"in' % number)) for number in range(3)),
            inline(loja, 4, b'{"event":"call"}', transport="rabbitmq"),
            inline(loja, 5, b"not JSON \xff", event_id="other"),
            inline(loja, 6, b'{"event":"call","of":"another version"}', transport="rabbitmq"),
        ]
    )
    before = {delivery.pk: bytes(delivery.body) for delivery in made}
    monkeypatch.setattr(inline_bodies, "WINDOW", 2)
    monkeypatch.setattr(inline_bodies.Moving, "seen", 0)  # as in a new process
    first_step = inline_bodies.Moving()
    first_step.step()  # and then the process ends
    assert Delivery.objects.filter(shared_size=None).count() == 4
    assert {delivery.pk: payload(delivery) for delivery in Delivery.objects.all()} == before

    prune()

    assert {delivery.pk: payload(delivery) for delivery in Delivery.objects.all()} == before
    # the three of one event share their bytes; one that another version rendered otherwise keeps its own
    assert Body.objects.count() == 3
    assert Delivery.objects.get(shared_size=None).endpoint_id == 6
    assert bytes(Body.objects.get(event_id=made[0].event_id, transport="webhook").data) == DATA.replace(
        b',"destination":"%b"', b""
    ) % (NESTED,)


def test_bodies_of_earlier_versions_are_sent_and_resent_without_copies(inside, loja):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
        body = DATA % (b"1", b"https://old.example")
        inline(loja, subscription.pk, body, due_in=0).save()
        finished()
        with transaction.atomic():
            resend(Delivery.objects.all(), 10, "a test")
        until(lambda: len(receiver.requests) == 2)
        assert {request.body for request in receiver.requests} == {body}
    assert Body.objects.count() == 1
    assert {bytes(delivery.body) for delivery in Delivery.objects.all()} == {b""}
