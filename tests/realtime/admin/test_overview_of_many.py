"""The first page and the list of instances with 10,000 instances and a million events, which were counted."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from instances.models import Instance, Subscription
from realtime.counters.counter import Counter
from realtime.counters.models import EndpointHour, HourTotal, InstanceHour
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.in_process import until
from tests.instances.admin.pages import at
from tests.realtime.admin.work import MAX_WORK, work_of
from tests.staff_users import staff_user

pytestmark = [
    *(pytest.mark.any_database, pytest.mark.slow),
    *(pytest.mark.timeout(900), pytest.mark.django_db(transaction=True)),
]

INSTANCES, EVENTS, HOURS = 10_000, 1_000_000, 24
#: Seconds that a page may take on a machine that does other things as well; a fifth of it is usual.
MAX_SECONDS = 1.0


def fill():
    instances = [
        Instance(
            name=f"loja-{n}", number=str(n), unique_key=str(n), connection_state="close" if n % 40 == 0 else "open"
        )
        for n in range(INSTANCES)
    ]
    for instance in instances:
        instance.give_token(str(uuid.uuid4()))
    Instance.objects.bulk_create(instances, batch_size=500)
    options, now = {"url": "https://hook.example.com/in"}, timezone.now()
    endpoints = [
        Subscription(instance=instance, transport="webhook", options=options, failing_since=None if n % 50 else now)
        for n, instance in enumerate(instances)
    ]
    Subscription.objects.bulk_create(endpoints, batch_size=500)
    Stream.objects.bulk_create(
        [Stream(pk=instance.pk, name=instance.name, last_seq=EVENTS // INSTANCES) for instance in instances],
        batch_size=500,
    )
    record_events()
    EndpointHour.objects.bulk_create(
        (
            EndpointHour(endpoint_id=row.pk, instance_id=row.instance_id, hour=hour, delivered=9, latency_ms=row.pk)
            for row in endpoints
            for hour in HourTotal.objects.values_list("hour", flat=True)[:HOURS]
        ),
        batch_size=1000,
    )


def record_events():
    """Record as many events of each instance, in turn, over 23 hours."""
    numbers = "generate_series(1, %s)"
    if connection.vendor == "sqlite":
        numbers = "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %s) SELECT n FROM c)"
    begin = timezone.now() - timedelta(hours=HOURS - 1)
    rounds = EVENTS // INSTANCES
    for number in range(rounds):
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                INSERT INTO realtime_event
                    (instance_id, name, seq, type, is_heard, envelope, created_at, transaction_id)
                SELECT instance_id, name, n, 'call', %s, %s, %s,
                       {"0" if connection.vendor == "sqlite" else "pg_current_xact_id()::text::bigint"}
                FROM realtime_stream, {numbers} AS numbers(n) WHERE n > %s
                """.replace("AS numbers(n)", "AS numbers" if connection.vendor == "sqlite" else "AS numbers(n)"),
                [True, b"{}" * 200, begin + number * timedelta(hours=HOURS - 1) / rounds, number + 1, number],
            )


def test_pages_cost_little_with_ten_thousand_instances_and_a_million_events(client, admin_client):
    fill()
    counter = Counter()
    until(lambda: not counter.step() and InstanceHour.objects.aggregate(sum=Sum("events"))["sum"] == EVENTS, 600)
    assert Event.objects.count() == HourTotal.objects.aggregate(sum=Sum("events"))["sum"] == EVENTS
    if (
        connection.vendor == "postgresql"
    ):  # until here it had no statistics, and has to count within the time all the same
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    few = staff_user("operator", Instance.objects.order_by("name")[:100])
    client.force_login(few)

    works = {
        (name, url): work_of(user, url)
        for name, user in (("all", admin_client), ("limited", client))
        for url in ("/admin/", at("changelist", Instance))
    }
    print(works)
    assert max(works.values()) < MAX_WORK[connection.vendor], works
