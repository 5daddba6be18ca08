"""The admin's page of failed deliveries by cause, through Django's client."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances.models import Instance
from realtime.admin import failures
from realtime.delivery.models import Delivery, State
from tests.clients.staff import url
from tests.realtime.admin.rows import create_delivery, create_endpoint
from tests.staff_users import client_of, staff_user

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

PAGE, RETRY = url("failures", "realtime_delivery"), url("retry", "realtime_delivery")


def texts(response):
    """Return the page's text, without markup and white space."""
    html = response.content.decode().partition('id="content-main"')[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def dead(endpoint, count, cause, start=1):
    rows = range(start, start + count)
    return [create_delivery(endpoint, seq, cause=cause) for seq in rows]


def test_failures_are_listed_by_cause_with_count_example_and_cure(admin_client, loja):
    shop = create_endpoint(loja, "https://shop.example.com/in?key=secret-key")
    dead(shop, 3, "timeout")
    dead(create_endpoint(loja, "https://crm.example.com/in"), 1, "http-404", 9)
    create_delivery(shop, 20, State.PENDING, cause="refused")
    create_delivery(shop, 21, State.PENDING)

    response = admin_client.get(PAGE)
    page = texts(response)
    assert "There was no answer in time Have the receiver answer" in page
    assert re.search(r"Given up There was no answer.*loja centro shop.example.com 3 .* loja centro 3", page)
    assert re.search(r"HTTP 404 Not Found.*crm.example.com 1 ", page)
    assert re.search(r"Waiting for another attempt The connection was refused.*shop.example.com 1 ", page)
    assert "secret-key" not in response.content.decode()
    link = re.search(r'href="([^"]*cause=timeout[^"]*)"', response.content.decode())[1].replace("&amp;", "&")
    assert admin_client.get(link).context["cl"].result_count == 3


def test_all_of_a_cause_are_sent_again_by_one_button_and_the_history_says_by_whom(admin_client, admin_user, loja):
    first, second = create_endpoint(loja), create_endpoint(loja)
    dead(first, 2, "timeout")
    dead(second, 3, "timeout", 5)
    dead(second, 1, "refused", 9)

    page = admin_client.post(RETRY, {"state": "dead", "cause": "timeout"}, follow=True).content.decode()
    assert "Sent again: 5." in page
    assert Delivery.objects.pending().count() == 5
    entries = LogEntry.objects.filter(user=admin_user)
    assert {(entry.object_id, entry.change_message) for entry in entries} == {
        (str(first.pk), "Sent deliveries again that had failed (There was no answer in time): 2."),
        (str(second.pk), "Sent deliveries again that had failed (There was no answer in time): 3."),
    }
    page = admin_client.post(RETRY, {"state": "dead", "cause": "timeout"}, follow=True).content.decode()
    assert "There is none of these any more." in page


def test_more_than_one_call_sends_are_said_to_be_left(admin_client, loja, monkeypatch):
    monkeypatch.setattr(failures, "RESENT", 2)
    shop = create_endpoint(loja)
    dead(shop, 3, "timeout")
    form = {"state": "dead", "cause": "timeout", "endpoint": shop.pk}
    assert "Sent again: 2. There are more" in admin_client.post(RETRY, form, follow=True).content.decode()
    page = admin_client.post(RETRY, form, follow=True).content.decode()
    assert "Sent again: 1." in page
    assert "There are more" not in page


def test_those_of_an_endpoint_that_is_off_stay_and_the_page_says_what_to_do(admin_client, loja):
    shop = create_endpoint(loja, is_enabled=False)
    dead(shop, 1, "endpoint-off")
    page = admin_client.post(RETRY, {"state": "dead", "cause": "endpoint-off"}, follow=True).content.decode()
    assert "Switch it on first." in page
    assert Delivery.objects.pending().count() == 0


def test_a_limited_operator_sees_and_sends_only_the_failures_of_his_instances(loja):
    other = Instance.objects.create(name="other shop")
    dead(create_endpoint(loja, "https://own.example.com/"), 1, "timeout")
    theirs = dead(create_endpoint(other, "https://theirs.example.com/"), 1, "timeout")[0]
    operator = client_of(staff_user("operator", [loja]))

    page = operator.get(PAGE).content.decode()
    assert "own.example.com" in page
    assert "theirs.example.com" not in page
    assert "other shop" not in page
    assert operator.get(PAGE, {"instance_id": other.pk}).status_code == 404
    operator.post(RETRY, {"state": "dead", "cause": "timeout"})
    operator.post(RETRY, {"state": "dead", "cause": "timeout", "endpoint": theirs.endpoint_id})
    assert [delivery.name for delivery in Delivery.objects.pending()] == [loja.name]


def test_a_viewer_sees_the_page_without_buttons_and_may_send_nothing(loja):
    dead(create_endpoint(loja), 1, "timeout")
    viewer = client_of(staff_user("viewer"))
    page = viewer.get(PAGE).content.decode()
    assert "There was no answer in time" in page
    assert "Retry all of these" not in page
    assert viewer.post(RETRY, {"state": "dead", "cause": "timeout"}).status_code == 403


def test_the_page_takes_as_many_queries_for_many_groups_as_for_one(admin_client, loja):
    dead(create_endpoint(loja), 1, "timeout")
    with CaptureQueriesContext(connection) as few:
        admin_client.get(PAGE)
    for number in range(5):
        dead(create_endpoint(Instance.objects.create(name=f"shop {number}")), 2, f"http-50{number}")
    with CaptureQueriesContext(connection) as many:
        admin_client.get(PAGE)
    assert len(many) == len(few) <= 10
