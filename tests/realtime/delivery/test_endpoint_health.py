"""Endpoints that fail: they are disabled, or recover."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from instances.models import Subscription
from realtime.delivery.models import Attempt, Delivery, State
from realtime.log.models import Event
from tests.in_process import InProcessServer, until
from tests.realtime.delivery.deliveries import endpoint, finished, record
from tests.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("short_retries")]


def test_an_endpoint_that_answers_410_is_disabled_and_an_event_is_recorded(inside, loja):
    with Receiver(lambda request: 410) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        until(lambda: Event.objects.filter(type="endpoint.disabled").exists())

        subscription = Subscription.objects.endpoints().get()
        assert not subscription.is_enabled
        assert subscription.disabled_reason == "It answered 410 Gone"
        assert Delivery.objects.get(type="call").state == State.DEAD


def test_deliveries_that_end_with_their_endpoint_have_a_reason(inside, loja):
    with Receiver(lambda request: 410) as receiver:
        endpoint(loja, receiver, ordered=True)
        record(loja, 1, 2, 3)
        until(lambda: not Delivery.objects.pending().exists())

        first, *others = Delivery.objects.filter(type="call").order_by("seq")
        assert (first.attempts, first.reason) == (1, "")
        assert {(delivery.state, delivery.attempts, delivery.reason) for delivery in others} == {
            (State.DEAD, 0, "Its endpoint was switched off: It answered 410 Gone")
        }


def test_an_endpoint_that_fails_for_days_is_disabled(inside, loja):
    with Receiver(lambda request: 503) as receiver:
        subscription = endpoint(loja, receiver)
        Subscription.objects.filter(pk=subscription.pk).update(failing_since=timezone.now() - timedelta(days=6))
        record(loja, 1, 2, 3)
        until(lambda: Event.objects.filter(type="endpoint.disabled").exists())

        assert not Subscription.objects.endpoints().get().is_enabled
        assert Event.objects.filter(type="endpoint.disabled").count() == 1


def test_an_endpoint_of_two_failures_five_days_apart_is_not_disabled(loja):
    """Nor one of many failures at the beginning, and one days later: nothing was tried between them."""
    with Receiver(lambda request: 400) as receiver:  # of which each ends a delivery
        subscription = endpoint(loja, receiver)
        with InProcessServer():
            record(loja, *range(10))
            finished(10)
            long_ago = timezone.now() - timedelta(days=6)
            Attempt.objects.update(at=long_ago)
            Subscription.objects.filter(pk=subscription.pk).update(failing_since=long_ago)
            record(loja, 11)
            finished(11)
            time.sleep(0.5)
            assert Subscription.objects.endpoints().get().is_enabled

            record(loja, *range(12, 16))
            until(lambda: Event.objects.filter(type="endpoint.disabled").exists())
    assert not Subscription.objects.endpoints().get().is_enabled


def test_one_success_ends_a_failure(inside, loja):
    answers = iter([500, 200])
    with Receiver(lambda request: next(answers)) as receiver:
        endpoint(loja, receiver)
        record(loja, 1)
        finished()

        assert Subscription.objects.endpoints().get().failing_since is None


def test_waiting_deliveries_are_retried_at_once_after_an_outage(inside, loja, settings):
    is_away = True
    settings.WEBHOOK_RETRY_INITIAL_DELAY_SECONDS = 3600
    with Receiver(lambda request: 503 if is_away else 200) as receiver:
        subscription = endpoint(loja, receiver)
        record(loja, 1, 2, 3)
        until(lambda: Attempt.objects.count() == 3)
        Subscription.objects.filter(pk=subscription.pk).update(failing_since=timezone.now() - timedelta(minutes=5))
        is_away = False
        record(loja, 4)
        finished(4)

        assert sorted(receiver.seqs()) == [2, 2, 3, 3, 4, 4, 5]
