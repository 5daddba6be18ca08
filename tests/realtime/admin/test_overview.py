"""The first page of the admin: what is wrong now, and charts of what was counted, with links to the lists behind."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from instances.models import Instance, Subscription
from realtime.admin.overview.hour_filters import hour_value
from realtime.counters.hours import this_hour
from realtime.counters.models import CounterPosition, EndpointHour, HourTotal, InstanceHour
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from realtime.operation.models import Process
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import create_attempt, create_delivery, create_endpoint
from tests.staff_users import staff_user

INDEX = "/admin/"
LOOP = {"name": "delivery claims", "since": "2026-01-01T00:00:00+00:00", "restarts": 0, "error": "", "failed_at": None}


@pytest.fixture(autouse=True)
def enough_disk(monkeypatch):
    """Leave the disk of the machine that runs the tests out of what is wrong."""
    monkeypatch.setattr("realtime.admin.overview.problems.FREE_BYTES", 0)


@pytest.fixture
def open_loja(loja):
    Instance.objects.filter(pk=loja.pk).update(connection_state="open")
    return loja


def shown(client):
    response = client.get(INDEX)
    assert response.status_code == 200
    return response.content.decode()


def text_of(client):
    """Return the text of the page, with single spaces."""
    page = re.sub("</t[dh]>", " ", shown(client))
    return " ".join(html.unescape(re.sub("<[^>]*>", "", page)).split())


def links_of(page):
    content = page.partition('<div class="overview">')[2]
    return {html.unescape(url) for url in re.findall(r'href="(/admin/[^"]*)"', content)}


def count(instance, hour=None, **counts):
    InstanceHour.objects.create(instance_id=instance.pk, hour=hour or this_hour(), **counts)


def create_process(**fields):
    now = timezone.now()
    known = {"id": "a", "command": "server", "host": "evo-1", "pid": 12, "started_at": now, "seen_at": now}
    return Process.objects.create(**known | {"loops": [LOOP]} | fields)


# What is wrong now


@pytest.mark.any_database
def test_nothing_is_wrong(admin_client, open_loja):
    create_process()
    assert "What is wrong now ok Nothing is wrong." in text_of(admin_client)


def test_instances_that_are_not_connected_are_named_with_the_time(admin_client, open_loja):
    now = timezone.now()
    for number in range(8):
        Instance.objects.create(name=f"closed-{number}")
    Instance.objects.filter(name="closed-7").update(logged_out_at=now - timedelta(minutes=12, seconds=5))
    closed = Instance.objects.get(name="closed-0")
    count(closed, events=1, connection_updated=int(now.timestamp()) - 3 * 3600 - 5)

    text = text_of(admin_client)

    assert "error 8 instances are not connected, 1 of them logged out closed-7 logged out for 12 min" in text
    assert "closed-0 closed for 3 h" in text
    assert "and 3 more" in text
    [url] = [url for url in links_of(shown(admin_client)) if "connection_state" in url]
    listed = admin_client.get(url).content.decode()
    assert "closed-6" in listed
    assert "loja centro" not in listed


def test_failing_endpoints_are_shown_with_cause_and_backlog(admin_client, open_loja):
    endpoint = create_endpoint(open_loja)
    Subscription.objects.filter(pk=endpoint.pk).update(failing_since=timezone.now() - timedelta(minutes=9, seconds=3))
    EndpointHour.objects.create(endpoint_id=endpoint.pk, hour=this_hour() - 1, last_error="an older one")
    EndpointHour.objects.create(endpoint_id=endpoint.pk, hour=this_hour(), last_error="HTTP 503")
    for number in range(3):
        create_delivery(endpoint, number, State.PENDING)

    text = text_of(admin_client)

    assert f"1 endpoint fails webhook {endpoint.pk} of loja centro for 9 min: HTTP 503, 3 waiting" in text


@pytest.mark.any_database
def test_endpoints_that_the_server_switched_off_are_shown_and_those_of_people_not(admin_client, open_loja):
    fields = {"is_enabled": False}
    create_endpoint(open_loja, **fields, disabled_reason="It answered 410 Gone")
    create_endpoint(open_loja, **fields)

    text = text_of(admin_client)

    assert "1 endpoint was switched off by the server" in text
    assert "It answered 410 Gone" in text


def test_old_backlogs_dead_deliveries_and_drops_are_shown(admin_client, open_loja):
    endpoint = create_endpoint(open_loja)
    old, _ = (create_delivery(endpoint, number, State.PENDING) for number in range(2))
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=5, minutes=1))
    HourTotal.objects.create(hour=this_hour() - 1, dead=1240, drop_notices=2)

    text = text_of(admin_client)

    assert "2 deliveries wait, the oldest for 5 h" in text
    assert "1,240 deliveries were given up in the last 24 hours Failures by cause" in text
    assert "Deliveries were dropped in the last 24 hours, as too many were pending: in 2 hours of an instance" in text


@pytest.mark.any_database
def test_a_backlog_of_a_moment_is_no_problem(admin_client, open_loja):
    create_delivery(create_endpoint(open_loja), 1, State.PENDING)
    assert "wait" not in text_of(admin_client)


@pytest.mark.any_database
def test_processes_that_are_gone_late_or_leave_something_out_are_shown(admin_client, open_loja):
    failed = LOOP | {"name": "sweep", "error": "OverflowError at relay.py", "failed_at": timezone.now().isoformat()}
    aside = {"set_aside": [{"name": "endpoint 7", "since": "2026-01-01T00:00:00+00:00", "error": "KeyError"}]}
    create_process(loops=[failed, aside], relay_lag_ms=2500)
    create_process(id="b", pid=13, seen_at=timezone.now() - timedelta(minutes=8, seconds=2))
    create_process(id="c", pid=14, ended="a loop has failed too often")

    text = text_of(admin_client)

    assert "The loop “sweep” of server, process 12 on evo-1 failed 0 s ago: OverflowError at relay.py" in text
    assert "Server, process 12 on evo-1 leaves out 1 row or endpoint that cannot be read, or fail" in text
    assert "Server, process 12 on evo-1 emits events late, by 2.5 s" in text
    assert "Server, process 13 on evo-1: gone without a word for 8 min" in text
    assert "Server, process 14 on evo-1: a loop has failed too often" in text
    assert "No process sends deliveries" in text


@pytest.mark.any_database
def test_the_list_of_processes_shows_the_connections_and_the_lag_of_each(admin_client, open_loja):
    create_process(connections=431, relay_lag_ms=1500)
    page = admin_client.get(at("changelist", Process)).content.decode()
    assert ">431<" in page.replace("\n", "").replace(" ", "")
    assert "1.5 s" in page


@pytest.mark.any_database
def test_counters_that_have_stopped_are_said_to_be_old(admin_client, open_loja):
    HourTotal.objects.create(hour=this_hour(), events=1)
    CounterPosition.objects.create(
        pk=1, low=0, high=1, row=1, attempt=0, counted_at=timezone.now() - timedelta(minutes=30, seconds=1)
    )
    assert "The counters have stopped: the charts are 30 min old" in text_of(admin_client)


@pytest.mark.any_database
def test_weak_tokens_are_counted_and_listed(admin_client, open_loja):
    open_loja.rotate_token("short")
    page = shown(admin_client)

    assert "1 instance has a weak token, short or shared" in page
    assert "/admin/instances/instance/?token_strength=weak" in links_of(page)


@pytest.mark.any_database
def test_a_disk_that_is_nearly_full_is_shown(admin_client, open_loja, monkeypatch):
    monkeypatch.setattr("realtime.admin.overview.problems.FREE_BYTES", 2**60)
    assert "The disk of the server's data is nearly full" in text_of(admin_client)


@pytest.mark.any_database
def test_the_gravest_come_first(admin_client, open_loja):
    open_loja.rotate_token("short")
    Instance.objects.create(name="closed")
    HourTotal.objects.create(hour=this_hour(), dead=1)
    text = text_of(admin_client)

    places = [text.index(word) for word in ("not connected", "given up in the last", "weak token")]
    assert places == sorted(places)


# Charts


def test_a_failed_attempt_among_many_is_not_rounded_away(admin_client, open_loja):
    HourTotal.objects.create(hour=this_hour(), delivered=9999, failed=1)
    text = text_of(admin_client)
    assert "99.9 % succeeded" in text
    assert "9,999 1 0 99.9 %" in text


def test_the_charts_have_their_figures_as_tables_which_link_to_the_very_rows(admin_client, open_loja):
    hour = this_hour() - 2
    endpoint = create_endpoint(open_loja)
    delivery, other = create_delivery(endpoint, 1, State.DELIVERED), create_delivery(endpoint, 2)
    attempts = [create_attempt(delivery, 1, status=503), create_attempt(delivery, 2, status=200), create_attempt(other)]
    events = list(Event.objects.order_by("pk").values_list("pk", flat=True))
    HourTotal.objects.create(
        hour=hour,
        events=1234,
        first_event=events[0],
        last_event=events[0],
        delivered=1,
        failed=1,
        latency_ms=100,
        max_latency_ms=1500,
        first_attempt=attempts[0].pk,
        last_attempt=attempts[1].pk,
        connections=431,
        relay_lag_ms=42,
    )

    page = shown(admin_client)
    text = text_of(admin_client)

    assert "1,234 21" in text  # events, and a minute
    assert "1 1 0 50.0 % 50 ms 1.5 s" in text
    assert "431 at most in 24 h" in text
    assert "42 ms at most in 24 h" in text
    assert page.count('<svg class="bars" role="img"') == 4
    [url] = [url for url in links_of(page) if "recorded=20" in url and hour_value(hour) in url]
    assert admin_client.get(url).context["cl"].result_count == 1
    of_attempts = sorted(url for url in links_of(page) if "attempted=20" in url)
    assert [admin_client.get(url).context["cl"].result_list[0].pk for url in of_attempts] == [delivery.pk] * 2


def test_every_link_of_the_page_leads_to_a_page(admin_client, loja):
    endpoint = create_endpoint(loja)
    Subscription.objects.filter(pk=endpoint.pk).update(failing_since=timezone.now())
    loja.rotate_token("short")
    create_process(id="b", seen_at=timezone.now() - timedelta(minutes=8))
    create_delivery(endpoint, 1, State.PENDING)
    attempt = create_attempt(create_delivery(endpoint))
    rows = {"first_event": 1, "last_event": 2, "first_attempt": attempt.pk, "last_attempt": attempt.pk}
    for hour in (this_hour(), this_hour() - 1):
        HourTotal.objects.create(hour=hour, events=1, delivered=1, failed=1, dead=1, drop_notices=1, **rows)
        EndpointHour.objects.create(endpoint_id=endpoint.pk, instance_id=loja.pk, hour=hour, failed=2, latency_ms=9)

    links = links_of(shown(admin_client))

    assert len(links) > 15
    for url in links:
        response = admin_client.get(url)
        assert response.status_code == 200, url  # a list redirects to ?e=1 where it does not know a filter


@pytest.mark.any_database
def test_a_filter_that_is_none_is_left_out(admin_client, open_loja):
    for value in ("x", "2026-99-99T00", "1970-01-01T00"):
        for model, query in ((Event, {"recorded": value}), (Delivery, {"attempted": value, "outcome": "x"})):
            assert admin_client.get(at("changelist", model), query).status_code == 200


def test_the_slowest_endpoints_are_ranked_by_their_mean(admin_client, open_loja):
    slow, fast = create_endpoint(open_loja), create_endpoint(open_loja)
    EndpointHour.objects.create(
        endpoint_id=slow.pk, hour=this_hour(), delivered=2, latency_ms=6000, max_latency_ms=4000
    )
    EndpointHour.objects.create(endpoint_id=slow.pk, hour=this_hour() - 1, failed=2, latency_ms=2000)
    EndpointHour.objects.create(endpoint_id=fast.pk, hour=this_hour(), delivered=100, latency_ms=9000)
    EndpointHour.objects.create(endpoint_id=-1, hour=this_hour(), delivered=1, latency_ms=500)
    EndpointHour.objects.create(endpoint_id=fast.pk, hour=this_hour() - 6, delivered=1, latency_ms=90_000)

    text = text_of(admin_client)

    assert (
        f"Slowest endpoints, last 6 hours webhook {slow.pk} of loja centro 2.0 s endpoint of the environment 500 ms "
        f"webhook {fast.pk} of loja centro 90 ms"
    ) in text


# Limits


def test_a_limited_user_sees_figures_and_problems_of_his_instances_alone(client, open_loja):
    own, foreign = Instance.objects.create(name="mine"), Instance.objects.create(name="foreign")
    create_process(id="b", seen_at=timezone.now() - timedelta(minutes=8))
    for instance, events in ((own, 12), (foreign, 5000)):
        endpoint = create_endpoint(instance)
        Subscription.objects.filter(pk=endpoint.pk).update(failing_since=timezone.now())
        old = create_delivery(endpoint, 1, State.PENDING, shared_size=10)
        Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=1))
        count(instance, events=events)
        known = {"instance_id": instance.pk, "hour": this_hour(), "latency_ms": events}
        EndpointHour.objects.create(endpoint_id=endpoint.pk, delivered=events, **known)
    HourTotal.objects.create(hour=this_hour(), events=5012, delivered=5012)
    client.force_login(staff_user("operator", [own]))

    text = text_of(client)

    assert "foreign" not in text
    assert "5,0" not in text
    assert "evo-1" not in text
    assert "1 instance is not connected mine closed" in text
    assert "1 endpoint fails" in text
    assert "1 delivery waits" in text
    assert "12 in 24 h" in text
    assert "12 delivered" in text
    assert "Connections" not in text
    assert "Relay lag" not in text


@pytest.mark.any_database
def test_a_limited_user_without_instances_sees_none(client, loja):
    create_endpoint(loja)
    count(loja, events=7)
    client.force_login(staff_user("operator", []))

    text = text_of(client)

    assert "Nothing is wrong with the instances that you see." in text
    assert "0 in 24 h" in text


@pytest.mark.any_database
def test_a_user_without_permissions_sees_no_chart(client, loja):
    client.force_login(User.objects.create(username="nobody", is_staff=True))
    page = shown(client)
    assert "Nothing is wrong" in page
    assert "<article" not in page


@pytest.mark.parametrize("is_limited", [False, True])
def test_the_page_takes_ten_queries_at_most(client, admin_user, is_limited):
    own = []
    for number in range(7):
        instance = Instance.objects.create(name=f"loja-{number}")
        instance.rotate_token(f"short-{number}")
        endpoint = create_endpoint(instance)
        off = {"is_enabled": False, "disabled_reason": "gone"} if number % 2 else {"failing_since": timezone.now()}
        Subscription.objects.filter(pk=endpoint.pk).update(**off)
        create_delivery(endpoint, 1, State.PENDING)
        count(instance, events=1, drop_notices=1, connection_updated=1)
        EndpointHour.objects.create(
            endpoint_id=endpoint.pk, instance_id=instance.pk, hour=this_hour(), delivered=1, dead=1, last_error="x"
        )
        own.append(instance)
    HourTotal.objects.create(hour=this_hour(), events=1, dead=1, drop_notices=1)
    create_process(seen_at=timezone.now() - timedelta(minutes=8))
    client.force_login(staff_user("operator", own) if is_limited else admin_user)

    with CaptureQueriesContext(connection) as queries:
        assert "not connected" in shown(client)

    found = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN"))]
    assert len(found) <= 10, "\n".join(found)


# The list of instances


def test_the_list_shows_state_last_event_and_a_strip_of_24_hours(admin_client, open_loja):
    count(open_loja, events=3)
    count(open_loja, this_hour() - 5, events=10)
    count(open_loja, this_hour() - 24, events=100)
    create_endpoint(open_loja, failing_since=timezone.now())

    page = admin_client.get(at("changelist", Instance)).content.decode()

    assert '<span class="state open">open</span>' in page
    assert re.search(r'title="[^"]+"><span class="nowrap">\d+ s ago</span>', page)
    assert 'aria-label="13 events in 24 hours, 3 in this one"' in page
    assert "recorded=24h" in page
    assert "state=failing" in page


@pytest.mark.parametrize("is_limited", [False, True])
def test_the_list_of_instances_takes_ten_queries_at_most(client, admin_user, is_limited):
    instances = [Instance.objects.create(name=f"loja-{number}") for number in range(12)]
    for instance in instances:
        create_endpoint(instance)
        count(instance, events=1)
    client.force_login(staff_user("operator", instances) if is_limited else admin_user)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(at("changelist", Instance)).status_code == 200

    assert len(queries) <= 10, "\n".join(query["sql"] for query in queries)
