"""The health of endpoints in the admin, from the hourly counts and what is pending."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from instances.models import Subscription
from realtime.admin.overview.words import percent
from realtime.counters.hours import this_hour
from realtime.counters.models import EndpointHour
from realtime.delivery.models import State
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import create_delivery, create_endpoint

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def count(endpoint, hours_ago, **counts):
    fields = {"endpoint_id": endpoint.pk, "instance_id": endpoint.instance_id, "hour": this_hour() - hours_ago}
    EndpointHour.objects.create(**fields, **counts)


def shown(client, endpoint, name):
    """Return the text of a read-only field of the endpoint's page."""
    form = client.get(at("change", Subscription, endpoint.pk)).context["adminform"]
    for fieldset in form:
        for line in fieldset:
            for field in line:
                if getattr(field, "is_readonly", False) and field.field["name"] == name:
                    return str(field.contents())
    raise AssertionError(name)


def test_success_and_latency_are_those_of_24_hours(admin_client, loja):
    endpoint = create_endpoint(loja)
    count(endpoint, 0, delivered=80, failed=10, latency_ms=9000, max_latency_ms=800)
    count(endpoint, 23, delivered=9, failed=1, latency_ms=11_000, max_latency_ms=2500, last_error="HTTP 503")
    count(endpoint, 24, failed=500, latency_ms=10**6, max_latency_ms=30_000)
    count(create_endpoint(loja), 0, failed=7)

    assert ">89.0 %</span> of 100 attempts" in shown(admin_client, endpoint, "success")
    assert shown(admin_client, endpoint, "latency") == "200 ms on average, 2.5 s at most"
    assert "HTTP 503. <a" in shown(admin_client, endpoint, "last_failure")
    page = admin_client.get(at("changelist", Subscription)).content.decode()
    assert "89.0 %</span> of 100 attempts, 200 ms" in page
    assert "0 %</span> of 7 attempts, 0 ms" in page


def test_an_endpoint_without_attempts_says_so(admin_client, loja):
    endpoint = create_endpoint(loja)
    assert shown(admin_client, endpoint, "success") == "no attempts"
    assert shown(admin_client, endpoint, "latency") == "-"
    assert shown(admin_client, endpoint, "last_failure") == "none"
    assert shown(admin_client, endpoint, "next_attempt") == "none: nothing is pending"


def test_the_next_attempt_is_that_of_the_delivery_that_is_due_first(admin_client, loja):
    endpoint = create_endpoint(loja)
    later, sooner = (timezone.now() + timedelta(hours=hours) for hours in (2, 1))
    create_delivery(endpoint, 1, State.PENDING, due_at=later)
    first = create_delivery(endpoint, 2, State.PENDING, due_at=sooner, is_ordered=True)
    text = shown(admin_client, endpoint, "next_attempt")
    assert at("change", type(first), first.pk) in text
    assert f"due {sooner:%Y-%m-%d %H:%M:%S}" in text
    type(first).objects.update(lease="a process")
    assert "is under way" in shown(admin_client, endpoint, "next_attempt")
    Subscription.objects.update(is_enabled=False)
    assert shown(admin_client, endpoint, "next_attempt") == "none while it is off"


def test_what_is_not_all_is_not_shown_as_100_percent():
    assert (percent(1), percent(0.99999), percent(0.5), percent(0)) == ("100 %", "99.9 %", "50.0 %", "0 %")
    assert percent(0.00001) == "0.1 %"
