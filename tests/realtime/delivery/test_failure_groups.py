"""Failed deliveries are stored with their cause, grouped by it, and a group is sent again as a whole."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from instances.errors import ApiError
from instances.models import Instance
from realtime.delivery import backlog, failure_groups, resend
from realtime.delivery.causes import Cause, cure, of_status, title
from realtime.delivery.failure_groups import retry_group
from realtime.delivery.models import Delivery, State
from tests.in_process import until
from tests.realtime.delivery.deliveries import endpoint, finished, pending, record
from tests.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("short_retries")]


class Closed:
    """A URL whose port nothing listens at."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}/"


def groups(state=State.DEAD, instance=None):
    of = None if instance is None else Instance.objects.filter(pk=instance.pk).values_list("pk", flat=True)
    found = failure_groups.failure_groups(state, of).groups
    return {(group.endpoint_id, group.cause): group.counted for group in found}


def dead(endpoint_id, instance, count, cause, **fields):
    rows = [pending(endpoint_id, instance, seq, state=State.DEAD, cause=cause, **fields) for seq in range(count)]
    return Delivery.objects.bulk_create(rows)


@pytest.mark.slow
def test_an_attempt_stores_the_cause_of_its_failure_and_a_success_none(inside, loja):
    with Receiver(lambda request: 418) as refusing, Receiver(lambda request: 200) as taking:
        refused, failed, taken = endpoint(loja, Closed()), endpoint(loja, refusing), endpoint(loja, taking)
        record(loja, 1)
        until(lambda: not Delivery.objects.pending().exists(), 20)

    assert dict(Delivery.objects.values_list("endpoint_id", "cause")) == {
        refused.pk: "refused",
        failed.pk: "http-418",
        taken.pk: "",
    }
    assert groups() == {(refused.pk, "refused"): 1, (failed.pk, "http-418"): 1}


def test_those_that_wait_for_another_attempt_are_grouped_apart_and_a_group_is_sent_now(settings, inside, loja):
    settings.WEBHOOK_RETRY_INITIAL_DELAY_SECONDS = 600
    answers = [503]
    with Receiver(lambda request: answers[-1]) as receiver:
        target = endpoint(loja, receiver)
        record(loja, 1, 2)
        until(lambda: groups(State.PENDING) == {(target.pk, "http-503"): 2})
        assert groups(State.DEAD) == {}
        answers.append(200)
        with transaction.atomic():
            assert retry_group(State.PENDING, target.pk, "http-503", 100).count == 2
        finished(2)
    assert groups(State.PENDING) == {}
    assert set(Delivery.objects.values_list("state", "cause")) == {(State.DELIVERED, "")}


def test_dead_ones_of_a_group_are_sent_again_in_bounded_steps_with_all_attempts(loja):
    dead(7, loja, 5, "timeout", attempts=9, reason="x", finished_at=timezone.now())
    dead(7, loja, 2, "refused")
    dead(8, loja, 3, "timeout")
    with transaction.atomic():
        first = retry_group(State.DEAD, 7, "timeout", 3)
    assert (first.count, first.has_more) == (3, True)
    assert groups() == {(7, "timeout"): 2, (7, "refused"): 2, (8, "timeout"): 3}
    with transaction.atomic():
        rest = retry_group(State.DEAD, 7, "timeout", 3)
    assert (rest.count, rest.has_more) == (2, False)
    requeued = Delivery.objects.pending().filter(endpoint_id=7)
    assert set(requeued.values_list("attempts", "reason", "finished_at", "cause")) == {(0, "", None, "")}


def test_a_delivery_that_was_sent_again_as_another_one_is_in_no_group(loja):
    dead(7, loja, 2, "timeout")
    with transaction.atomic():
        resend.resend(Delivery.objects.filter(seq=0), 10, "a test")
    assert groups() == {(7, "timeout"): 1}
    copy = Delivery.objects.get(resent_from__isnull=False)
    assert (copy.state, copy.cause) == (State.PENDING, "")


def test_a_delivery_that_was_copied_to_another_url_stays_in_its_group(loja):
    dead(7, loja, 2, "timeout")
    elsewhere = resend.TargetOverride("https://other.example.com/in", "whsec_" + "A" * 43 + "=", is_operators=False)
    with transaction.atomic():
        resend.resend(Delivery.objects.filter(seq=0), 10, "a test", elsewhere)
    assert groups() == {(7, "timeout"): 2}


def test_rows_of_earlier_versions_are_a_group_without_those_that_were_sent_again_then(loja):
    first, second = dead(7, loja, 2, "")
    Delivery.objects.bulk_create([pending(7, loja, 1, resent_from=first.pk)])
    assert groups() == {(7, ""): 2}
    with transaction.atomic():
        assert retry_group(State.DEAD, 7, "", 10).count == 1
    assert Delivery.objects.get(pk=second.pk).state == State.PENDING
    assert Delivery.objects.get(pk=first.pk).state == State.DEAD


def test_a_group_that_does_not_fit_into_the_backlog_is_refused_as_a_whole(loja, monkeypatch):
    monkeypatch.setattr(backlog, "OWED_DELIVERIES", 3)
    dead(7, loja, 5, "timeout")
    with pytest.raises(ApiError, match="pending"), transaction.atomic():
        retry_group(State.DEAD, 7, "timeout", 10)
    assert groups() == {(7, "timeout"): 5}


def test_the_groups_of_an_instance_are_those_of_its_endpoints(loja):
    other = Instance.objects.create(name="other")
    own = endpoint(loja, Closed())
    theirs = endpoint(other, Closed())
    dead(own.pk, loja, 1, "timeout")
    dead(theirs.pk, other, 1, "refused")
    dead(0, other, 1, "name")
    dead(10**6, loja, 1, "gone")
    assert groups(instance=loja) == {(own.pk, "timeout"): 1}
    assert groups(instance=other) == {(theirs.pk, "refused"): 1}
    assert len(groups()) == 4


@pytest.mark.bound("LIMIT_FAILURE_GROUPS")
def test_groups_and_their_counts_are_bounded_and_read_by_two_queries(loja, monkeypatch):
    monkeypatch.setattr(failure_groups, "FAILURE_GROUPS", 3)
    monkeypatch.setattr(failure_groups, "MAX_COUNTED", 12)
    for number in range(2):
        dead(number, loja, 6, "timeout")
        dead(number, loja, 2, "refused", finished_at=timezone.now() - timedelta(hours=1))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = failure_groups.failure_groups(State.DEAD)
    assert len(queries) == 2
    assert (len(found.groups), found.has_more) == (3, True)
    assert found.groups[0].count == "4+"
    assert found.groups[0].first_id < found.groups[0].last_id


def test_each_cause_has_a_title_and_a_cure():
    for cause in Cause:
        assert title(cause.code) == cause.title
        assert len(cause.code) <= 32
        assert cure(cause.code) or cause is Cause.RESENT
    assert title(of_status(503)) == "HTTP 503 Service Unavailable"
    assert title(of_status(799)) == "HTTP 799"
    assert cure(of_status(401)).startswith("The receiver does not know the request")
    assert title("http-none") == title("") == "The cause was not stored, as an earlier version did"
