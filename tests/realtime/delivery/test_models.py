"""Claims: of each due delivery by one process at a time, in order where the endpoint is ordered."""

from __future__ import annotations

import threading

import pytest
from django.utils import timezone

from instances.models import Instance
from realtime.delivery.models import Delivery, State
from tests.in_process import InProcessServer
from tests.realtime.delivery.deliveries import endpoint, finished, pending, record
from tests.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("short_retries")]


def test_of_ordered_deliveries_only_the_first_of_each_instance_is_due(loja):
    other = Instance(name="other")
    other.save()
    Delivery.objects.bulk_create(
        [
            *(pending(1, loja, seq, 3600 if seq == 1 else 0, is_ordered=True) for seq in (1, 2, 3)),
            *(pending(2, loja, seq, is_ordered=True) for seq in (3, 1, 1, 2)),
            *(pending(2, other, seq, is_ordered=True) for seq in (7, 6)),
            *(pending(3, loja, seq) for seq in (1, 2)),
            pending(4, loja, 1, 3600),
            pending(5, loja, 1, transport="carrier pigeon"),
        ]
    )
    assert {endpoint[:2] for endpoint in Delivery.objects.due(10)} == {(2, True), (3, False)}
    assert [endpoint[:2] for endpoint in Delivery.objects.due(10, excluding=[2, 4])] == [(3, False)]
    assert len(Delivery.objects.due(1)) == 1

    assert not Delivery.objects.claim(2, 10, "a")
    assert not Delivery.objects.claim_first(1, 10, "a")
    assert not Delivery.objects.claim_first(3, 10, "a")
    first = Delivery.objects.claim_first(2, 10, "a")
    assert {(delivery.instance_id, delivery.seq) for delivery in first} == {(loja.pk, 1), (other.pk, 6)}
    assert not Delivery.objects.claim_first(2, 10, "b")
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in first]).update(state=State.DELIVERED)
    again = Delivery.objects.claim_first(2, 10, "b")
    assert {(delivery.instance_id, delivery.seq) for delivery in again} == {(loja.pk, 1), (other.pk, 7)}


def test_large_bodies_are_claimed_while_they_fit_into_memory_and_small_ones_always(loja):
    large = {"body": b"x" * 100_000, "size": 100_000}
    Delivery.objects.bulk_create([pending(1, loja, seq, -seq, **(large if seq % 2 else {})) for seq in range(10)])
    assert {delivery.seq for delivery in Delivery.objects.claim(1, 10, "a", large=0)} == {0, 2, 4, 6, 8}
    assert [delivery.seq for delivery in Delivery.objects.claim(1, 10, "a", large=1)] == [9]
    assert [delivery.seq for delivery in Delivery.objects.claim(1, 10, "a", large=150_000)] == [5, 7]
    assert [delivery.seq for delivery in Delivery.objects.claim(1, 10, "a")] == [1, 3]
    # an ordered delivery that does not fit into memory is not overtaken
    Delivery.objects.bulk_create([pending(2, loja, 1, is_ordered=True, **large), pending(2, loja, 2, is_ordered=True)])
    assert not Delivery.objects.claim_first(2, 10, "a", large=0)
    assert [delivery.seq for delivery in Delivery.objects.claim_first(2, 10, "a")] == [1]


def test_deliveries_of_a_dead_process_are_due_when_their_lease_ends(loja):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1)
        [claimed] = Delivery.objects.claim(subscription.pk, 10, "of the dead")
        assert not Delivery.objects.claim(subscription.pk, 10, "of another")
        Delivery.objects.filter(pk=claimed.pk).update(due_at=timezone.now())
        with InProcessServer():
            finished()

        assert receiver.requests[0].id == claimed.event_id
        Delivery.objects.renew([claimed.pk], "of the dead")
        assert Delivery.objects.get().state == State.DELIVERED


def test_concurrent_claims_get_each_delivery_once(loja):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
    record(loja, *range(200))
    claimed: list[int] = []

    def claim(name):
        from django.db import connection

        while taken := Delivery.objects.claim(subscription.pk, 7, name):
            claimed.extend(delivery.pk for delivery in taken)
        connection.close()

    threads = [threading.Thread(target=claim, args=(f"worker {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed)) == 200
