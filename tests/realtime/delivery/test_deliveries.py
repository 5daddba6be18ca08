"""Deliveries reach endpoints at least once, under one id, whatever the response and whichever process dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import ClassVar

import pytest
from django.db import transaction
from django.utils import timezone

from instances.api.transports import registered_transports
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery import wakeup
from realtime.delivery.concurrency import MAX_PER_ENDPOINT
from realtime.delivery.dispatcher import Dispatcher
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint, State
from realtime.delivery.transports.base import Outcome, Result
from realtime.delivery.transports.webhook import Webhook
from realtime.log.retention import prune
from tests.in_process import InProcessServer, until
from tests.realtime.delivery.deliveries import endpoint, finished, pending, record
from tests.receiver import Receiver
from tests.server import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("short_retries")]


def test_an_event_is_enqueued_in_its_transaction_for_the_endpoints_that_want_it(loja):
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

    deliveries = Delivery.objects.order_by("endpoint_id")
    assert [delivery.endpoint_id for delivery in deliveries] == [wanting.pk, everywhere.pk]
    assert {(delivery.event_id, delivery.seq, delivery.type, delivery.state) for delivery in deliveries} == {
        (f"{event.epoch}.{event.seq}", event.seq, "call", State.PENDING)
    }


def test_an_event_is_delivered_once_and_the_attempt_is_recorded(inside, loja):
    with Receiver() as receiver:
        endpoint(loja, receiver)
        record(loja, *range(50))
        finished(50)
        time.sleep(0.2)

        assert sorted(receiver.seqs()) == list(range(2, 52))
        assert len({request.id for request in receiver.requests}) == 50
        assert {delivery.state for delivery in Delivery.objects.all()} == {State.DELIVERED}
        attempts = list(Attempt.objects.all())
        assert {(attempt.number, attempt.status, attempt.excerpt, attempt.error) for attempt in attempts} == {
            (1, 200, "ok", "")
        }
        assert len(attempts) == 50


@pytest.mark.slow
def test_a_failed_delivery_is_retried_with_the_same_id_and_bytes_until_it_is_dead(inside, loja):
    with Receiver(lambda request: 500) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        finished()

        assert len(receiver.requests) == 5
        assert len({(request.id, request.body) for request in receiver.requests}) == 1
        [dead] = Delivery.objects.all()
        assert (dead.state, dead.attempts) == (State.DEAD, 5)
        assert [(attempt.number, attempt.status) for attempt in dead.tries.all()] == [(n, 500) for n in range(1, 6)]
        assert Subscription.objects.endpoints().get().failing_since


def test_an_endpoint_that_hangs_delays_no_other(inside, loja):
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


def test_many_endpoints_that_wait_for_a_retry_delay_no_other(loja):
    """Ordered endpoints whose first delivery waits for its next attempt, and endpoints of an unknown transport."""
    crowd = [(10_000 + n, 1, 3600, {"is_ordered": True}) for n in range(150)]
    crowd += [(10_000 + n, 2, -60, {"is_ordered": True}) for n in range(150)]
    crowd += [(20_000 + n, 1, -60, {"transport": "carrier pigeon"}) for n in range(150)]
    Delivery.objects.bulk_create(pending(pk, loja, seq, due_in, **fields) for pk, seq, due_in, fields in crowd)
    with Receiver() as receiver:
        endpoint(loja, receiver)
        with InProcessServer():
            record(loja, 1)
            until(lambda: receiver.requests, 5)


@pytest.mark.slow
def test_endpoints_that_hang_leave_slots_to_others(loja, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 60_000
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(30) and 200) as stuck, Receiver() as healthy:
        try:
            for _ in range(60):
                endpoint(loja, stuck)
            with InProcessServer():
                record(loja, *range(20))
                until(lambda: len(stuck.requests) > 200)
                endpoint(loja, healthy)
                record(loja, *range(20, 40))
                until(lambda: len(healthy.requests) == 20, 5)
                hanging.set()
        finally:
            hanging.set()


async def test_a_cancellation_that_meets_a_wakeup_is_not_lost(transactional_db):
    for turns in range(6):
        running = asyncio.ensure_future(Dispatcher().run())
        await asyncio.sleep(0.2)  # nothing is due, so it waits for a wakeup
        wakeup.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=3)
        assert running.cancelled()


@pytest.mark.slow
def test_an_ordered_endpoint_receives_events_in_order_whatever_fails(inside, loja):
    answers = iter([500, 200, 500, 500, 200] + [200] * 20)
    with Receiver(lambda request: next(answers)) as receiver:
        endpoint(loja, receiver, ordered=True)
        record(loja, *range(10))
        finished(10)

        assert receiver.seqs() == [2, 2, 3, 3, 3, *range(4, 12)]


def test_the_deletion_of_an_instance_is_delivered_to_its_endpoints(inside, loja):
    with Receiver() as receiver:
        endpoint(loja, receiver, events=["INSTANCE_DELETE", "REMOVE_INSTANCE"])
        loja.delete()
        finished(2)

        assert sorted(request.json["event"] for request in receiver.requests) == ["instance.delete", "remove.instance"]
        assert FormerEndpoint.objects.count() == 1


@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_deliveries_to_a_disabled_or_deleted_endpoint_are_dropped(loja, how):
    with Receiver() as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1)
        if how == "deleted":
            subscription.delete()
        else:
            Subscription.objects.filter(pk=subscription.pk).update(is_enabled=False)
        with InProcessServer():
            finished()

        assert not receiver.requests
        assert Delivery.objects.get().state == State.DROPPED


def test_a_server_that_stops_releases_unsent_deliveries(loja):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(20) and 200) as receiver:
        endpoint(loja, receiver)
        with InProcessServer():
            record(loja, 1)
            until(lambda: receiver.requests)
        [delivery] = Delivery.objects.all()
        assert (delivery.state, delivery.lease) == (State.PENDING, None)
        assert delivery.due_at <= timezone.now()
        hanging.set()


def test_finished_deliveries_are_pruned_with_the_log_and_pending_ones_stay(loja):
    long_ago = timezone.now() - timedelta(days=30)
    with Receiver() as receiver:
        endpoint(loja, receiver)
    record(loja, 1, 2, 3)
    done, dead, _ = Delivery.objects.order_by("pk")
    for delivery, state in ((done, State.DELIVERED), (dead, State.DEAD)):
        Attempt.objects.create(delivery=delivery, number=1, at=long_ago, duration_ms=1)
        Delivery.objects.filter(pk=delivery.pk).update(state=state, finished_at=long_ago)
    Delivery.objects.update(created_at=long_ago)

    assert prune().deliveries == 2

    assert Delivery.objects.get().state == State.PENDING
    assert not Attempt.objects.exists()


def test_the_global_endpoint_receives_the_events_of_all_instances(inside, loja, settings):
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


@pytest.mark.slow
def test_pending_deliveries_outlive_a_server_that_is_killed(fresh_server):
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


@pytest.mark.slow
def test_manage_py_deliver_sends_where_the_server_does_not(fresh_server):
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


class Faulty(Webhook):
    """A transport with faults: an outcome that cannot be stored, and an error before a poll."""

    poison: ClassVar[list[int]] = []
    failures: ClassVar[list[Exception]] = []

    @property
    def is_on(self):
        if self.failures:
            raise self.failures.pop()
        return True

    async def send(self, message, endpoint):
        outcome = await super().send(message, endpoint)
        if json.loads(message.body)["seq"] in self.poison:
            return Outcome(Result.RETRY, retry_after=float("inf"))
        return outcome


@pytest.fixture
def faulty(settings):
    settings.EVENT_TRANSPORTS = [f"{__name__}.Faulty"]
    registered_transports.cache_clear()
    Faulty.poison, Faulty.failures = [], []
    yield Faulty
    registered_transports.cache_clear()


def test_a_result_that_cannot_be_stored_ends_its_delivery_in_words_and_delays_no_other(loja, faulty):
    with Receiver() as receiver:
        endpoint(loja, receiver)
        faulty.poison = [record(loja, *range(10))[3].seq]
        with InProcessServer():
            assert finished(10)
            record(loja, 10)
            assert finished(11)
    assert len(receiver.requests) == 11
    [ended] = Delivery.objects.exclude(state=State.DELIVERED)
    assert (ended.seq, ended.state, ended.lease) == (faulty.poison[0], State.DEAD, None)
    assert ended.reason == "The result of its last attempt could not be stored; the server's log says why"


def test_after_a_poll_that_fails_there_are_others(loja, faulty, caplog):
    with Receiver() as receiver, InProcessServer():
        endpoint(loja, receiver)
        faulty.failures = [ValueError("Unforeseen")]
        record(loja, 1)
        assert finished()
    assert not faulty.failures
    assert "The loop 'deliveries' has failed; it is restarted" in caplog.text
    assert Delivery.objects.get().state == State.DELIVERED
