"""Counting: every committed event and attempt once, in the order of commits, in bounded pages."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from instances.bounds import COUNTED_HOURS
from instances.events import EventType
from instances.models import Instance
from realtime.counters import counter as counters
from realtime.counters import pages
from realtime.counters.counter import Counter
from realtime.counters.hours import this_hour
from realtime.counters.models import CounterPosition, EndpointHour, HourTotal, InstanceHour
from realtime.delivery.models import Attempt, State
from realtime.log.models import Event, EventDraft
from realtime.operation.models import Process
from tests.environment import ON_POSTGRES
from tests.in_process import until
from tests.realtime.admin.rows import create_attempt, create_delivery, create_endpoint
from tests.threads import in_threads

# what is counted has been committed
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def loja(transactional_db):
    return Instance.objects.create(name="loja")


@pytest.fixture
def small_pages(monkeypatch):
    for module in (pages, counters):
        monkeypatch.setattr(module, "COUNTED_PAGE_EVENTS", 3)


def record(instance, count=1):
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, number) for number in range(count)])


def count(counter=None, until_settled=True):
    """Count until there is nothing left; returns the number of steps."""
    counter, steps = counter or Counter(), 0
    for _ in range(2):  # the second round counts the attempts that the first one saw
        if ON_POSTGRES and until_settled:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()::text::bigint")
                [now] = cursor.fetchone()
            until(lambda now=now: Event.objects.horizon() > now)  # other databases have transactions, too
        while counter.step():
            steps += 1
    return steps


def events_of(instance):
    return InstanceHour.objects.filter(instance_id=instance.pk).aggregate(sum=Sum("events"))["sum"] or 0


def age(rows, **ago):
    rows.update(created_at=timezone.now() - timedelta(**ago))


def test_events_are_counted_by_instance_and_hour(loja):
    other = Instance.objects.create(name="other")
    record(loja, 3)
    age(Event.objects.filter(instance_id=loja.pk, seq__lte=2), hours=2)

    count()

    hours = dict(InstanceHour.objects.filter(instance_id=loja.pk).values_list("hour", "events"))
    assert hours == {this_hour() - 2: 2, this_hour(): 2}  # with the event of its creation
    assert events_of(other) == 1
    total = HourTotal.objects.get(hour=this_hour())
    assert (total.events, total.last_event) == (3, Event.objects.order_by("-pk").first().pk)


def test_nothing_is_counted_twice_and_nothing_is_left_out(loja, small_pages):
    counter = Counter()
    for number in range(5):
        record(loja, number)
        count(counter)
        count(Counter())  # of another process

    assert events_of(loja) == Event.objects.count() == HourTotal.objects.get().events


@pytest.mark.bound("LIMIT_COUNTED_PAGE_EVENTS")
def test_a_page_is_bounded_and_the_next_step_goes_on(loja, small_pages):
    record(loja, 10)

    assert count() >= 4
    assert events_of(loja) == 11


def test_what_fails_half_way_adds_no_count_and_moves_no_position(loja, monkeypatch):
    count(counter := Counter())
    record(loja, 4)
    with monkeypatch.context() as patch:
        patch.setattr(counters.HourTally, "store", lambda tally: [][0])
        with pytest.raises(IndexError):
            counter.step()
    assert events_of(loja) == 1

    count(counter)

    assert events_of(loja) == 5


def test_of_two_processes_that_count_the_same_page_one_adds_it(monkeypatch):
    loja = Instance.objects.create(name="loja")
    count(Counter())
    CounterPosition.objects.update(counted_by="")
    record(loja, 20)
    both = threading.Barrier(2)
    read = counters.next_attempts

    def read_together(*args):
        rows = read(*args)
        both.wait(10)
        return rows

    monkeypatch.setattr(counters, "next_attempts", read_together)
    in_threads(*(Counter().step for _ in range(2)))

    assert events_of(loja) == 21


def test_another_process_takes_over_once_the_lease_has_ended(loja):
    count(Counter())
    record(loja)
    count(other := Counter())
    assert events_of(loja) == 1

    CounterPosition.objects.update(counted_at=timezone.now() - counters.LEASE)
    count(other)

    assert events_of(loja) == 2


def test_a_process_that_stops_lets_another_one_count_at_once(loja):
    count(first := Counter())
    record(loja)
    first.release()

    count(Counter())

    assert events_of(loja) == 2


@pytest.mark.postgres
def test_an_event_that_commits_after_a_later_one_is_counted():
    slow, fast = (Instance.objects.create(name=name) for name in ("slow", "fast"))
    counter = Counter()
    count(counter)
    has_recorded, may_commit = threading.Event(), threading.Event()

    def record_slowly():
        with transaction.atomic():
            record(slow)
            has_recorded.set()
            may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=record_slowly)
    thread.start()
    has_recorded.wait(10)
    record(fast, 2)
    count(counter, until_settled=False)
    before = events_of(slow)
    may_commit.set()
    thread.join()
    count(counter)

    assert (before, events_of(slow), events_of(fast)) == (1, 2, 3)


# Attempts


def test_attempts_are_counted_by_endpoint_with_their_outcome_and_latency(loja):
    endpoint = create_endpoint(loja)
    delivered = create_delivery(endpoint, 1, State.DELIVERED, attempts=2)
    dead = create_delivery(endpoint, 2, State.DEAD, attempts=1)
    create_attempt(delivered, 1, status=503, duration_ms=10)
    create_attempt(delivered, 2, status=200, duration_ms=30)
    create_attempt(dead, 1, status=None, error="The name was not found", duration_ms=2)

    count()

    row = EndpointHour.objects.get()
    assert (row.endpoint_id, row.instance_id, row.hour) == (endpoint.pk, loja.pk, this_hour())
    assert (row.delivered, row.failed, row.dead) == (1, 2, 1)
    assert (row.latency_ms, row.max_latency_ms, row.last_error) == (42, 30, "The name was not found")
    total = HourTotal.objects.get()
    assert (total.delivered, total.failed, total.dead, total.max_latency_ms) == (1, 2, 1, 30)
    assert (total.first_attempt, total.last_attempt) == tuple(Attempt.objects.values_list("pk", flat=True))[::2]


def test_the_last_error_of_the_hour_is_kept_and_a_success_leaves_it(loja):
    endpoint = create_endpoint(loja)
    delivery = create_delivery(endpoint, 1, State.DELIVERED, attempts=3)
    counter = Counter()
    for number, status in enumerate((500, 429, 200), 1):
        create_attempt(delivery, number, status=status)
        count(counter)

    row = EndpointHour.objects.get()
    assert (row.delivered, row.failed, row.last_error) == (1, 2, "HTTP 429")


def test_attempts_of_an_endpoint_of_all_instances_name_no_instance(loja):
    create_attempt(create_delivery(create_endpoint(loja), is_operators=True))

    count()

    assert EndpointHour.objects.get().instance_id is None


@pytest.mark.postgres
def test_an_attempt_that_commits_after_a_later_one_is_counted():
    endpoint = create_endpoint(Instance.objects.create(name="loja"))
    deliveries = [create_delivery(endpoint, number, State.PENDING) for number in range(2)]
    counter = Counter()
    count(counter)
    has_stored, may_commit = threading.Event(), threading.Event()

    def store_slowly():
        with transaction.atomic():
            create_attempt(deliveries[0])
            has_stored.set()
            may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=store_slowly)
    thread.start()
    has_stored.wait(10)
    create_attempt(deliveries[1])
    count(counter, until_settled=False)
    before = HourTotal.objects.get().failed
    may_commit.set()
    thread.join()
    count(counter)

    assert (before, HourTotal.objects.get().failed) == (0, 2)


# Beginning, end, and damaged rows


@pytest.mark.parametrize("is_together", [True, False])
def test_an_old_log_is_counted_from_the_last_day_on(loja, small_pages, is_together):
    record(loja, 40)
    age(Event.objects.filter(seq__lte=35), days=3)
    endpoint = create_endpoint(loja)
    for number in range(10):
        create_attempt(create_delivery(endpoint, number), at=timezone.now() - timedelta(days=3 if number < 8 else 0))
    if not is_together:
        Event.objects.filter(seq__lt=10).delete()

    count()

    assert events_of(loja) == 6
    assert EndpointHour.objects.get().failed == 2


@pytest.mark.bound("LIMIT_COUNTED_HOURS")
def test_the_counts_of_old_hours_are_deleted_and_old_events_not_counted(loja):
    count(counter := Counter())
    for hour in (this_hour() - COUNTED_HOURS, this_hour() - COUNTED_HOURS + 1):
        InstanceHour.objects.create(instance_id=loja.pk, hour=hour, events=7)
        EndpointHour.objects.create(endpoint_id=1, hour=hour)
        HourTotal.objects.create(hour=hour)
    record(loja, 2)
    age(Event.objects.filter(seq=2), hours=COUNTED_HOURS + 1)
    count(counter)

    counter.finish_round()

    assert events_of(loja) == 7 + 2
    assert EndpointHour.objects.count() == 1
    assert HourTotal.objects.count() == 2


#: A time that no driver can read.
NO_TIME = "'infinity'" if ON_POSTGRES else "'2026-99-99 00:00:00'"


def test_an_event_without_a_time_is_left_out_and_the_others_are_counted(loja):
    count(counter := Counter())
    record(loja, 3)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE realtime_event SET created_at = {NO_TIME} WHERE seq = 3")
        if not ON_POSTGRES:
            cursor.execute("UPDATE realtime_event SET instance_id = CAST(x'ff' AS TEXT), type = x'fe' WHERE seq = 2")

    count(counter)

    assert events_of(loja) == (3 if ON_POSTGRES else 2)


@pytest.mark.any_database
def test_an_error_that_is_no_text_is_counted_as_a_failure(loja):
    attempt = create_attempt(create_delivery(create_endpoint(loja)), status=None)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE realtime_attempt SET error = CAST(x'ff41' AS TEXT) WHERE id = %s", [attempt.pk])

    count()

    assert (EndpointHour.objects.get().failed, EndpointHour.objects.get().last_error) == (1, "�A")


def test_notices_of_dropped_deliveries_are_counted(loja):
    Event.objects.record(loja, EventType.DELIVERIES_DROPPED, {"reason": "too many"})

    count()

    assert InstanceHour.objects.get().drop_notices == HourTotal.objects.get().drop_notices == 1


def test_the_time_of_the_last_update_of_a_connection_is_kept(loja):
    for state in ("open", "close"):
        loja.connection_state = state
        loja.save()
        count(counter := Counter())
        counter.release()
    record(loja, 3)
    count()

    last = Event.objects.filter(type=EventType.CONNECTION_UPDATE).order_by("-seq").first()
    assert InstanceHour.objects.get().connection_updated == int(last.created_at.timestamp())


# Connections and lag


def test_the_most_connections_and_the_longest_lag_of_an_hour_are_kept(transactional_db):
    count(counter := Counter())
    now = timezone.now()
    known = {"host": "here", "pid": 1, "started_at": now}
    Process.objects.create(id="a", seen_at=now, connections=5, relay_lag_ms=9, **known)
    Process.objects.create(id="b", seen_at=now, connections=7, relay_lag_ms=3, **known)
    Process.objects.create(id="gone", seen_at=now - timedelta(hours=1), connections=100, **known)
    counter.finish_round()
    Process.objects.update(connections=1, relay_lag_ms=20)
    counter.finish_round()

    total = HourTotal.objects.get()
    assert (total.connections, total.relay_lag_ms) == (12, 20)


def test_a_process_that_does_not_count_stores_no_connections(transactional_db):
    count(Counter())
    Process.objects.create(id="a", host="here", pid=1, started_at=timezone.now(), seen_at=timezone.now(), connections=5)

    Counter().finish_round()

    assert not HourTotal.objects.exists()
