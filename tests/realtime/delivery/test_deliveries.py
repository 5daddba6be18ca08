"""What endpoints are owed reaches them: at least once, with one id, whatever they answer and whoever dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery import dispatcher as dispatcher_module
from realtime.delivery.concurrency import MAX_PER_ENDPOINT
from realtime.delivery.dispatcher import Dispatcher
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint, State
from realtime.delivery.transports import retry
from realtime.log.models import Event
from realtime.log.retention import prune
from tests.inside import Inside, until
from tests.receiver import Receiver
from tests.server import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def loja(transactional_db):
    instance = Instance(name="loja")
    instance.save()
    return instance


@pytest.fixture
def inside(transactional_db):
    with Inside() as running:
        yield running


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Attempts follow each other at once, five of them."""
    monkeypatch.setattr(retry, "delay", lambda attempt, draw: 0.05 if attempt < 5 else None)


def endpoint(instance, receiver, events=("CALL",), **options):
    subscription = Subscription(
        instance=instance, transport="webhook", events=list(events), options={"url": receiver.url} | options
    )
    subscription.keep_secrets(headers={}, signing=["whsec_" + "A" * 32])
    subscription.save()
    return subscription


def record(instance, *numbers, event_type=EventType.CALL):
    with transaction.atomic():
        return [Event.objects.record(instance, event_type, {"number": number}) for number in numbers]


def finished(count=1):
    return until(lambda: Delivery.objects.exclude(state=State.PENDING).count() >= count, 20)


def test_an_event_is_owed_in_its_own_transaction_to_those_who_want_it(loja):
    with Receiver() as receiver:
        wanting = endpoint(loja, receiver)
        endpoint(loja, receiver, events=["MESSAGES_UPSERT"])
        off = endpoint(loja, receiver)
        Subscription.objects.filter(pk=off.pk).update(is_enabled=False)
        everywhere = endpoint(None, receiver)

        [event] = record(loja, 1)
        with transaction.atomic():
            record(loja, 2)
            transaction.set_rollback(True)

    owed = Delivery.objects.order_by("endpoint_id")
    assert [one.endpoint_id for one in owed] == [wanting.pk, everywhere.pk]
    assert {(one.event_id, one.seq, one.type, one.state) for one in owed} == {
        (f"{event.epoch}.{event.seq}", event.seq, "call", State.PENDING)
    }


def test_it_is_delivered_once_and_the_attempt_is_on_record(inside, loja):
    with Receiver() as receiver:
        endpoint(loja, receiver)
        record(loja, *range(50))
        finished(50)
        time.sleep(0.2)

        assert sorted(receiver.seqs()) == list(range(2, 52))
        assert len({request.id for request in receiver.requests}) == 50
        assert {one.state for one in Delivery.objects.all()} == {State.DELIVERED}
        attempts = list(Attempt.objects.all())
        assert {(one.number, one.status, one.excerpt, one.error) for one in attempts} == {(1, 200, "ok", "")}
        assert len(attempts) == 50


def test_what_fails_is_tried_again_with_the_same_id_and_bytes_until_it_is_dead(inside, loja):
    with Receiver(lambda request: 500) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        finished()

        assert len(receiver.requests) == 5
        assert len({(request.id, request.body) for request in receiver.requests}) == 1
        [dead] = Delivery.objects.all()
        assert (dead.state, dead.attempts) == (State.DEAD, 5)
        assert [(one.number, one.status) for one in dead.tries.all()] == [(n, 500) for n in range(1, 6)]
        assert Subscription.objects.endpoints().get().failing_since


def test_a_dead_endpoint_holds_up_no_other(inside, loja):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(20) and 500) as stuck, Receiver() as healthy:
        try:
            endpoint(loja, stuck)
            endpoint(loja, healthy)
            record(loja, *range(100))
            until(lambda: len(healthy.requests) >= 100, 20)
        finally:
            hanging.set()
        assert len(stuck.requests) <= MAX_PER_ENDPOINT


def waiting(endpoint_id, instance, seq, due_in=0.0, **fields):
    due_at = timezone.now() + timedelta(seconds=due_in)
    told = {"event_id": f"{'e' * 16}.{seq}", "instance_id": instance.pk, "name": instance.name, "type": "call"}
    told |= {"transport": "webhook", "destination": "http://a.example", "body": b"{}", "size": 2}
    return Delivery(endpoint_id=endpoint_id, seq=seq, due_at=due_at, **told | fields)


def test_only_the_first_of_what_is_told_in_order_is_due(loja):
    other = Instance(name="other")
    other.save()
    Delivery.objects.bulk_create(
        [
            *(waiting(1, loja, seq, 3600 if seq == 1 else 0, is_ordered=True) for seq in (1, 2, 3)),
            *(waiting(2, loja, seq, is_ordered=True) for seq in (3, 1, 1, 2)),
            *(waiting(2, other, seq, is_ordered=True) for seq in (7, 6)),
            *(waiting(3, loja, seq) for seq in (1, 2)),
            waiting(4, loja, 1, 3600),
            waiting(5, loja, 1, transport="carrier pigeon"),
        ]
    )
    assert set(Delivery.objects.due(10)) == {(2, True), (3, False)}
    assert Delivery.objects.due(10, without=[2, 4]) == [(3, False)]
    assert len(Delivery.objects.due(1)) == 1

    assert not Delivery.objects.claim(2, 10, "a")
    assert not Delivery.objects.claim_first(1, 10, "a")
    assert not Delivery.objects.claim_first(3, 10, "a")
    told = Delivery.objects.claim_first(2, 10, "a")
    assert {(one.instance_id, one.seq) for one in told} == {(loja.pk, 1), (other.pk, 6)}
    assert not Delivery.objects.claim_first(2, 10, "b")
    Delivery.objects.filter(pk__in=[one.pk for one in told]).update(state=State.DELIVERED)
    again = Delivery.objects.claim_first(2, 10, "b")
    assert {(one.instance_id, one.seq) for one in again} == {(loja.pk, 1), (other.pk, 7)}


def test_large_bodies_are_claimed_as_far_as_there_is_memory_and_small_ones_always(loja):
    large = {"body": b"x" * 100_000, "size": 100_000}
    Delivery.objects.bulk_create([waiting(1, loja, seq, -seq, **(large if seq % 2 else {})) for seq in range(10)])
    assert {one.seq for one in Delivery.objects.claim(1, 10, "a", large=0)} == {0, 2, 4, 6, 8}
    assert [one.seq for one in Delivery.objects.claim(1, 10, "a", large=1)] == [9]
    assert [one.seq for one in Delivery.objects.claim(1, 10, "a", large=150_000)] == [5, 7]
    assert [one.seq for one in Delivery.objects.claim(1, 10, "a")] == [1, 3]
    # in order, what there is no memory for keeps its place
    Delivery.objects.bulk_create([waiting(2, loja, 1, is_ordered=True, **large), waiting(2, loja, 2, is_ordered=True)])
    assert not Delivery.objects.claim_first(2, 10, "a", large=0)
    assert [one.seq for one in Delivery.objects.claim_first(2, 10, "a")] == [1]


def test_a_crowd_that_waits_holds_up_no_other(loja):
    """Endpoints told in order whose first event waits for its next attempt, and some that nothing can be sent to."""
    crowd = [(10_000 + n, 1, 3600, {"is_ordered": True}) for n in range(150)]
    crowd += [(10_000 + n, 2, -60, {"is_ordered": True}) for n in range(150)]
    crowd += [(20_000 + n, 1, -60, {"transport": "carrier pigeon"}) for n in range(150)]
    Delivery.objects.bulk_create(waiting(pk, loja, seq, due_in, **fields) for pk, seq, due_in, fields in crowd)
    with Receiver() as receiver:
        endpoint(loja, receiver)
        with Inside():
            record(loja, 1)
            until(lambda: receiver.requests, 5)


def test_those_who_hang_leave_places_to_others(loja, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 60_000
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(30) and 200) as stuck, Receiver() as healthy:
        try:
            for _ in range(60):
                endpoint(loja, stuck)
            with Inside():
                record(loja, *range(20))
                until(lambda: len(stuck.requests) > 200)
                endpoint(loja, healthy)
                record(loja, *range(20, 40))
                until(lambda: len(healthy.requests) == 20, 5)
                hanging.set()
        finally:
            hanging.set()


async def test_a_cancellation_is_not_lost_around_a_wake_up():
    for turns in range(4):
        resting = Dispatcher()
        task = asyncio.ensure_future(resting._rest())
        for _ in range(3):
            await asyncio.sleep(0)
        resting._woken.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():  # it was not over
            with pytest.raises(asyncio.CancelledError):
                await task


def test_an_ordered_endpoint_gets_one_after_the_other_whatever_fails(inside, loja):
    answers = iter([500, 200, 500, 500, 200] + [200] * 20)
    with Receiver(lambda request: next(answers)) as receiver:
        endpoint(loja, receiver, ordered=True)
        record(loja, *range(10))
        finished(10)

        assert receiver.seqs() == [2, 2, 3, 3, 3, *range(4, 12)]


def test_an_instance_that_is_deleted_is_told_of_to_its_endpoints(inside, loja):
    with Receiver() as receiver:
        endpoint(loja, receiver, events=["INSTANCE_DELETE", "REMOVE_INSTANCE"])
        loja.delete()
        finished(2)

        assert sorted(request.json["event"] for request in receiver.requests) == ["instance.delete", "remove.instance"]
        assert FormerEndpoint.objects.count() == 1


@pytest.mark.parametrize("how", ["off", "deleted"])
def test_what_is_owed_to_an_endpoint_that_is_off_or_gone_is_not_sent(loja, how):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1)
        if how == "deleted":
            subscription.delete()
        else:
            Subscription.objects.filter(pk=subscription.pk).update(is_enabled=False)
        with Inside():
            finished()

        assert not receiver.requests
        assert Delivery.objects.get().state == State.DROPPED


def test_an_endpoint_that_is_gone_is_switched_off_and_an_event_says_so(inside, loja):
    with Receiver(lambda request: 410) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        until(lambda: Event.objects.filter(type="endpoint.disabled").exists())

        subscription = Subscription.objects.endpoints().get()
        assert not subscription.is_enabled
        assert subscription.disabled_reason == "It answered 410 Gone"
        assert Delivery.objects.get(type="call").state == State.DEAD


def test_what_ends_with_its_endpoint_says_so(inside, loja):
    with Receiver(lambda request: 410) as receiver:
        endpoint(loja, receiver, ordered=True)
        record(loja, 1, 2, 3)
        until(lambda: not Delivery.objects.pending().exists())

        first, *others = Delivery.objects.filter(type="call").order_by("seq")
        assert (first.attempts, first.reason) == (1, "")
        assert {(one.state, one.attempts, one.reason) for one in others} == {
            (State.DEAD, 0, "Its endpoint was switched off: It answered 410 Gone")
        }


def test_an_endpoint_that_fails_for_days_is_switched_off(inside, loja):
    with Receiver(lambda request: 503) as receiver:
        subscription = endpoint(loja, receiver)
        Subscription.objects.filter(pk=subscription.pk).update(failing_since=timezone.now() - timedelta(days=6))
        record(loja, 1, 2, 3)
        until(lambda: Event.objects.filter(type="endpoint.disabled").exists())

        assert not Subscription.objects.endpoints().get().is_enabled
        assert Event.objects.filter(type="endpoint.disabled").count() == 1


def test_one_delivery_ends_a_failure(inside, loja):
    answers = iter([500, 200])
    with Receiver(lambda request: next(answers)) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        finished()

        assert Subscription.objects.endpoints().get().failing_since is None


def test_what_a_dead_process_had_claimed_is_due_when_its_lease_is_over(loja, monkeypatch):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1)
        [claimed] = Delivery.objects.claim(subscription.pk, 10, "of the dead")
        assert not Delivery.objects.claim(subscription.pk, 10, "of another")
        Delivery.objects.filter(pk=claimed.pk).update(due_at=timezone.now())
        with Inside():
            finished()

        assert receiver.requests[0].id == claimed.event_id
        Delivery.objects.renew("of the dead")
        assert Delivery.objects.get().state == State.DELIVERED


def test_a_server_that_stops_gives_back_what_it_had_not_sent(loja):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(20) and 200) as receiver:
        endpoint(loja, receiver)
        with Inside():
            record(loja, 1)
            until(lambda: receiver.requests)
        [owed] = Delivery.objects.all()
        assert (owed.state, owed.lease) == (State.PENDING, None)
        assert owed.due_at <= timezone.now()
        hanging.set()


def test_several_who_claim_at_once_get_each_delivery_once(loja):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
    record(loja, *range(200))
    claimed: list[int] = []

    def claim(name):
        from django.db import connection

        while taken := Delivery.objects.claim(subscription.pk, 7, name):
            claimed.extend(one.pk for one in taken)
        connection.close()

    threads = [threading.Thread(target=claim, args=(f"worker {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed)) == 200


def test_what_waits_is_sent_when_an_endpoint_is_back_after_an_outage(inside, loja, monkeypatch):
    is_away = True
    monkeypatch.setattr(retry, "delay", lambda attempt, draw: 3600)
    with Receiver(lambda request: 503 if is_away else 200) as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1, 2, 3)
        until(lambda: Attempt.objects.count() == 3)
        Subscription.objects.filter(pk=subscription.pk).update(failing_since=timezone.now() - timedelta(minutes=5))
        is_away = False
        record(loja, 4)
        finished(4)

        assert sorted(receiver.seqs()) == [2, 2, 3, 3, 4, 4, 5]


def test_what_is_finished_goes_with_the_log_and_what_is_pending_stays(loja):
    long_ago = timezone.now() - timedelta(days=30)
    with Receiver() as receiver:
        endpoint(loja, receiver)
    record(loja, 1, 2, 3)
    done, dead, _ = Delivery.objects.order_by("pk")
    for one, state in ((done, State.DELIVERED), (dead, State.DEAD)):
        Attempt.objects.create(delivery=one, number=1, at=long_ago, duration_ms=1)
        Delivery.objects.filter(pk=one.pk).update(state=state, finished_at=long_ago)
    Delivery.objects.update(created_at=long_ago)

    assert prune().deliveries == 2

    assert Delivery.objects.get().state == State.PENDING
    assert not Attempt.objects.exists()


def test_the_endpoint_of_the_environment_is_told_of_all_instances(inside, loja, settings):
    with Receiver() as receiver:
        settings.WEBHOOK_GLOBAL_ENABLED, settings.WEBHOOK_GLOBAL_URL = True, receiver.url
        settings.WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS, settings.WEBHOOK_EVENTS = True, frozenset({"CALL"})
        settings.WEBHOOK_GLOBAL_SECRET = "whsec_" + "A" * 32
        record(loja, 1)
        record(loja, 2, event_type=EventType.CHATS_UPSERT)
        Instance.objects.create(name="another")
        record(Instance.objects.get(name="another"), 3)
        finished(2)

        assert sorted(request.json["instance"] for request in receiver.requests) == ["another", "loja"]
        assert {request.path for request in receiver.requests} == {"/in/call"}
        assert all(request.headers["webhook-signature"] for request in receiver.requests)


def test_what_was_pending_outlives_a_server_that_is_killed(fresh_server):
    """Each event at least once, under one id, whatever dies in the middle of it."""
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(30) and 200) as receiver:
        server = fresh_server()
        instance = server.create()
        server.shell(
            f"""
from instances.models import Instance, Subscription
endpoint = Subscription(instance=Instance.objects.get(name={instance.name!r}), transport="webhook", events=["CALL"])
endpoint.options = {{"url": {receiver.url!r}}}
endpoint.keep_secrets(headers={{}}, signing=["whsec_{"A" * 32}"])
endpoint.save()
"""
        )
        path = server.path("/event/publish", instance)
        for number in range(30):
            assert server.post(path, {"event": "call", "data": {"number": number}}).status == 201
        until(lambda: receiver.requests)
        server.kill()
        hanging.set()
        begun = len(receiver.requests)
        server.start()
        until(lambda: len({request.id for request in receiver.requests}) == 30, 40)
        time.sleep(0.5)

    assert {request.json["data"]["number"] for request in receiver.requests} == set(range(30))
    assert len({(request.id, request.body) for request in receiver.requests}) == 30
    assert begun <= MAX_PER_ENDPOINT


def test_a_process_of_its_own_delivers_where_the_server_does_not(fresh_server):
    with Receiver() as receiver:
        server = fresh_server(DELIVERY_EMBEDDED="false")
        instance = server.create()
        body = {"webhook": {"enabled": True, "url": receiver.url, "events": ["CALL"]}}
        assert server.post(server.path("/webhook/set", instance), body).status == 201
        assert server.post(server.path("/event/publish", instance), {"event": "call", "data": {}}).status == 201
        time.sleep(2)
        assert not receiver.requests

        command = [sys.executable, "manage.py", "deliver"]
        delivering = subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL)
        try:
            until(lambda: receiver.requests, 20)
        finally:
            delivering.terminate()
        assert delivering.wait(20) == 0
        assert [request.json["event"] for request in receiver.requests] == ["call"]


def test_a_result_that_cannot_be_stored_holds_up_no_other(loja, transactional_db, monkeypatch):
    store, poison = dispatcher_module._result, []

    def failing(attempted):
        if attempted.delivery.seq in poison:
            raise ValueError("There is no way to store this")
        return store(attempted)

    monkeypatch.setattr(dispatcher_module, "_result", failing)
    with Receiver() as receiver:
        endpoint(loja, receiver)
        poison += [record(loja, *range(10))[3].seq]
        with Inside():
            assert finished(9)
            record(loja, 10)
            assert finished(10)
            assert list(Delivery.objects.pending().values_list("seq", flat=True)) == poison


def test_a_look_that_fails_is_not_the_last(loja, transactional_db, monkeypatch):
    claim, failures = dispatcher_module._claim, [ValueError("Nobody has thought of this")]

    def failing(*told):
        if failures:
            raise failures.pop()
        return claim(*told)

    monkeypatch.setattr(dispatcher_module, "_claim", failing)
    with Receiver() as receiver, Inside():
        endpoint(loja, receiver)
        record(loja, 1)
        assert finished()
    assert not failures
    assert Delivery.objects.get().state == State.DELIVERED
