"""The admin of deliveries and events, through Django's client."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from instances.admin.long_list import BoundedPaginator
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import SCRIPT, URL, act, create_attempt, create_delivery, create_endpoint

pytestmark = pytest.mark.any_database


def test_deliveries_are_listed_and_searched_without_loading_bodies(admin_client, loja):
    subscription = create_endpoint(loja)
    epoch = Stream.objects.get(pk=loja.pk).epoch
    create_delivery(subscription, 1, State.DEAD, event_id=f"{epoch}.1")
    create_delivery(subscription, 2, State.PENDING, event_id=f"{epoch}.2", type="messages.upsert")
    create_delivery(create_endpoint(Instance.objects.create(name="other")), 1, State.DELIVERED, transport="rabbitmq")

    def found(**query):
        with CaptureQueriesContext(connection) as queries:
            rows = list(admin_client.get(at("changelist", Delivery), query).context["cl"].result_list)
        assert not [query for query in queries if '"body"' in query["sql"]]
        return [(row.name, row.seq) for row in rows]

    assert found() == [("other", 1), ("loja centro", 2), ("loja centro", 1)]
    assert found(q="centro") == [("loja centro", 2), ("loja centro", 1)]
    assert found(q=f"{epoch}.1") == [("loja centro", 1)]
    assert found(q="0" * 16 + ".1") == []
    assert found(state__exact="dead") == [("loja centro", 1)]
    assert found(transport="rabbitmq") == [("other", 1)]
    assert found(type="messages.upsert") == [("loja centro", 2)]
    assert found(endpoint_id=str(subscription.pk)) == [("loja centro", 2), ("loja centro", 1)]


@pytest.mark.parametrize("model", [Delivery, Event])
def test_long_lists_are_not_counted_to_their_end(admin_client, loja, model, monkeypatch):
    monkeypatch.setattr(BoundedPaginator, "MAX", 150)
    subscription = create_endpoint(loja)
    Delivery.objects.bulk_create(
        Delivery(instance_id=loja.pk, endpoint_id=subscription.pk, seq=seq, event_id=str(seq), type="call", body=b"{}")
        for seq in range(200)
    )
    Event.objects.bulk_create(Event(instance_id=loja.pk, seq=seq, type="call", envelope=b"{}") for seq in range(2, 202))
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(at("changelist", model), {"p": "2"})

    page = response.content.decode()
    assert re.search("about [0-9]+ |more than 150 ", page)  # as the database estimates it, if it does
    assert "150 results" not in page
    assert "Show counts" not in page
    assert len(response.context["cl"].result_list) == 50
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 151" in sql for sql in counts)
    assert "more than 150" in admin_client.get(at("changelist", model), {"type": "call"}).content.decode()


def test_a_delivery_shows_its_request_and_all_attempts_without_secrets(admin_client, loja):
    delivery = create_delivery(create_endpoint(loja), body='{"event":"call","data":{"text":"olá"}}'.encode())
    create_attempt(delivery, 1, status=500, excerpt="sorry", duration_ms=1234)
    create_attempt(delivery, 2, status=None, excerpt="", error="There was no answer within 30 seconds")
    page = admin_client.get(at("change", Delivery, delivery.pk)).content.decode()

    assert "&quot;text&quot;: &quot;olá&quot;" in page
    assert "X-Key: ********" in page
    assert "None" not in page.partition('id="content"')[2]
    assert f"webhook-id: {delivery.event_id}" in page
    assert re.search(r"<td>1</td><td>500</td><td>1234 ms</td><td><div class=\"response\">sorry</div></td>", page)
    assert re.search(r"<td>2</td><td>-</td><td>12 ms</td><td>There was no answer within 30 seconds<div", page)


@pytest.mark.parametrize(
    "body", [b"not JSON", b'{"lone": "\\ud800"}', b"\xff\x00", b'{"long": "' + b"a" * 300_000 + b'"}']
)
def test_any_body_is_shown(admin_client, loja, body):
    delivery = create_delivery(create_endpoint(loja), body=body)
    response = admin_client.get(at("change", Delivery, delivery.pk))
    assert response.status_code == 200
    assert len(response.content) < 200_000


def test_markup_is_escaped(admin_client, loja):
    subscription = create_endpoint(loja, URL, disabled_reason=SCRIPT, is_enabled=False)
    subscription.options["url"] = f"https://hook.example.com/{SCRIPT}"
    subscription.keep_secrets(headers={SCRIPT: "value"})
    subscription.save()
    body = json.dumps({"text": SCRIPT}).encode()
    delivery = create_delivery(subscription, body=body, name=SCRIPT, type=SCRIPT, destination=SCRIPT, event_id=SCRIPT)
    create_attempt(delivery, excerpt=SCRIPT, error=SCRIPT)
    for model, row in ((Subscription, subscription), (Delivery, delivery)):
        for url in (at("changelist", model), at("change", model, row.pk)):
            page = admin_client.get(url).content.decode()
            assert SCRIPT not in page
            assert "&lt;script&gt;" in page


def test_no_page_and_no_history_contains_a_secret(admin_client, loja):
    subscription = create_endpoint(loja)
    delivery = create_delivery(subscription)
    create_attempt(delivery)
    admin_client.post(at("change", Subscription, subscription.pk), {"url": URL, "headers": '{"X-New": "new-value"}'})
    admin_client.post(at("rotate", Subscription, subscription.pk))
    subscription.refresh_from_db()
    secrets = ["value-of-a-header", "new-value", *subscription.secret("signing"), subscription.secrets.cipher]
    assert len(secrets) == 5
    for model, row in ((Subscription, subscription), (Delivery, delivery), (Instance, loja)):
        for url in (at("changelist", model), at("change", model, row.pk), at("history", model, row.pk)):
            page = admin_client.get(url).content.decode()
            assert not [secret for secret in secrets if secret in page]
    page = admin_client.get(at("delete", Subscription, subscription.pk)).content.decode()
    assert not [secret for secret in secrets if secret in page]
    for entry in LogEntry.objects.values():
        assert not [secret for secret in secrets if secret in str(entry)]


def test_selected_deliveries_are_sent_again_if_their_endpoint_is_on(
    admin_client, loja, woken, django_capture_on_commit_callbacks
):
    on, off = create_endpoint(loja), create_endpoint(loja, is_enabled=False)
    dead, delivered, pending = (
        create_delivery(on, 1),
        create_delivery(on, 2, State.DELIVERED),
        create_delivery(on, 3, State.PENDING, due_at=timezone.now() + timedelta(hours=3)),
    )
    with django_capture_on_commit_callbacks(execute=True):
        page = act(admin_client, Delivery, "send_selected_again", dead, delivered, pending, create_delivery(off, 4))

    assert "Sent again: 2, due at once: 1." in page
    pending.refresh_from_db()
    assert pending.due_at <= timezone.now()
    assert "Not sent, because the endpoint is off or deleted: 1." in page
    assert woken
    new = Delivery.objects.exclude(resent_from=None).order_by("seq")
    assert [(row.resent_from, row.event_id, row.state) for row in new] == [
        (dead.pk, dead.event_id, "pending"),
        (delivered.pk, delivered.event_id, "pending"),
    ]


def test_what_is_too_much_for_the_backlog_is_refused_in_words(admin_client, loja, monkeypatch):
    monkeypatch.setattr("realtime.delivery.backlog.OWED_DELIVERIES", 0)
    subscription = create_endpoint(loja)
    dead = create_delivery(subscription)
    sentence = "0 deliveries of this instance are pending, of 0 at most: this delivery of 0.0 MiB would be too much."
    responses = [
        admin_client.post(at("again", Delivery, dead.pk), follow=True),
        admin_client.post(at("resend", Delivery), resend_form(loja), follow=True),
        admin_client.post(at("test", Subscription, subscription.pk), {"event_type": "call"}, follow=True),
    ]
    pages = [
        act(admin_client, Delivery, "send_selected_again", dead),
        act(admin_client, Subscription, "send_dead_again", subscription),
        act(admin_client, Subscription, "send_test_event", subscription),
        *(response.content.decode() for response in responses),
    ]
    assert [sentence in page for page in pages] == [True] * 6
    assert list(Delivery.objects.values_list("pk", "state")) == [(dead.pk, "dead")]


def test_the_send_again_button_redirects_to_the_new_delivery(admin_client, loja):
    dead = create_delivery(create_endpoint(loja))
    response = admin_client.post(at("again", Delivery, dead.pk))

    new = Delivery.objects.get(resent_from=dead.pk)
    assert response.url == at("change", Delivery, new.pk)
    page = admin_client.get(response.url).content.decode()
    assert f'<a href="{at("change", Delivery, dead.pk)}">{dead.pk}</a>' in page
    assert "Send again" not in page  # it is pending
    assert "Send now" in page
    assert LogEntry.objects.get().change_message == "Sent again."


def resend_form(instance, **fields):
    return {"instance": str(instance.pk), "state": ["dead"], "url": "", "secret": ""} | fields


def form_errors(response):
    assert response.status_code == 200
    return " ".join(text for texts in response.context["form"].errors.values() for text in texts)


def test_a_range_sends_deliveries_that_were_not_sent_again_yet(
    admin_client, loja, woken, django_capture_on_commit_callbacks
):
    on, off, other = (
        create_endpoint(loja),
        create_endpoint(loja, is_enabled=False),
        create_endpoint(Instance.objects.create(name="other")),
    )
    old, dead, again = create_delivery(on, 1), create_delivery(on, 2), create_delivery(on, 3)
    create_delivery(on, 4, State.DELIVERED)
    create_delivery(on, 5, State.PENDING)
    create_delivery(on, 3, State.DELIVERED, resent_from=again.pk)
    for excluded in (off, other):
        create_delivery(excluded, 6)
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=2))
    since = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    newest = Delivery.objects.latest("pk").pk

    with django_capture_on_commit_callbacks(execute=True):
        page = admin_client.post(at("resend", Delivery), resend_form(loja, since=since), follow=True)

    assert "Sent again: 1." in page.content.decode()
    assert woken
    [new] = Delivery.objects.filter(pk__gt=newest)
    assert (new.resent_from, new.endpoint_id, new.asked_by) == (dead.pk, on.pk, "admin in the admin")
    entry = LogEntry.objects.get()
    assert (entry.change_message, entry.object_id) == ("Sent again: 1.", str(loja.pk))
    # the whole range, after which nothing is left to send
    admin_client.post(at("resend", Delivery), resend_form(loja, endpoint=on.pk))
    page = admin_client.post(at("resend", Delivery), resend_form(loja, state=["pending"]), follow=True).content.decode()
    assert "Sent again: 0, due at once: 3." in page
    page = admin_client.post(at("resend", Delivery), resend_form(loja), follow=True).content.decode()
    assert "Sent again: 0." in page
    assert set(Delivery.objects.filter(pk__gt=newest).values_list("resent_from", flat=True)) == {dead.pk, old.pk}
    # another URL has had none of them, nor those of the endpoint that is off
    elsewhere = resend_form(loja, url=f"{URL}/other", secret="whsec_" + "B" * 43 + "=")
    pages = [admin_client.post(at("resend", Delivery), elsewhere, follow=True).content.decode() for _ in range(2)]
    assert "Sent again to hook.example.com: 4." in pages[0]
    assert "Sent again to hook.example.com: 0." in pages[1]


def test_selected_deliveries_are_sent_to_another_url_without_the_headers_of_their_endpoint(admin_client, loja):
    chosen = [create_delivery(create_endpoint(loja, is_enabled=False), seq) for seq in (1, 2)]
    form = {"action": "send_selected_to_url", "_selected_action": [str(row.pk) for row in chosen]}
    page = admin_client.post(at("changelist", Delivery), form)
    assert "2 selected." in admin_client.get(page.url).content.decode()
    ids = ",".join(str(row.pk) for row in chosen)
    form = {"ids": ids, "url": URL + "/other", "secret": "whsec_" + "B" * 43 + "="}

    assert "Sent again to hook.example.com: 2." in admin_client.post(page.url, form, follow=True).content.decode()

    new = list(Delivery.objects.exclude(resent_from=None))
    assert {(row.destination, row.is_operators) for row in new} == {(URL + "/other", True)}
    [found] = endpoints_of({row.endpoint_id for row in new}).values()
    assert found.secrets == {"signing": [form["secret"]]}
    assert {entry.change_message for entry in LogEntry.objects.all()} == {"Sent again to hook.example.com: 2."}
    # without a URL they go to their endpoints, which are off
    assert "Sent again: 0." in admin_client.post(page.url, {"ids": ids}, follow=True).content.decode()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"url": URL}, "A URL requires a secret."),
        ({"url": "http://10.0.0.1/", "secret": "whsec_" + "B" * 43 + "="}, "is not public"),
        ({"url": URL, "secret": "secret-value"}, "begins with whsec_"),
        ({"instance": ""}, "This field is required."),
        ({"instance": "x"}, "is not a valid UUID"),
        ({"since": "yesterday"}, "Enter a valid date/time."),
        ({"state": ["lost"]}, "lost is not one of the available choices."),
        ({"state": []}, "This field is required."),
        ({"endpoint": "x"}, "Enter a whole number."),
        ({"endpoint": str(10**30)}, "less than or equal"),
    ],
)
def test_the_form_of_a_range_shows_errors(admin_client, loja, settings, fields, error):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    create_delivery(create_endpoint(loja))
    response = admin_client.post(at("resend", Delivery), resend_form(loja) | fields)

    assert error in form_errors(response)
    assert "secret-value" not in response.content.decode()
    assert Delivery.objects.count() == 1


@pytest.mark.parametrize("ids", ["", "x", "1,x", "1," * 2000, "9" * 40])
def test_invalid_ids_of_deliveries_are_refused(admin_client, loja, ids):
    response = admin_client.post(f"{at('resend', Delivery)}?ids=1", {"ids": ids})
    assert form_errors(response)


def test_deliveries_are_read_only(admin_client, loja):
    delivery = create_delivery(create_endpoint(loja))
    for url in (at("add", Delivery), at("change", Delivery, delivery.pk), at("delete", Delivery, delivery.pk)):
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
    assert admin_client.get(at("again", Delivery, delivery.pk)).status_code == 405
    assert admin_client.post(at("again", Delivery, 10**9)).status_code == 404


# Permissions


@pytest.fixture
def staff(client, db):
    """Return a client that is logged in with these permissions."""

    def log_in(*codenames):
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


def test_a_user_with_view_permissions_changes_nothing(staff, loja):
    client = staff("view_subscription", "view_delivery")
    subscription = create_endpoint(loja, is_enabled=False)
    delivery = create_delivery(subscription)
    create_attempt(delivery)
    page = client.get(at("change", Subscription, subscription.pk)).content.decode()
    assert URL not in page
    assert "https://hook.example.com/********" in page
    assert "X-Key: ********" in page
    assert "Rotate secret" not in page
    page = client.get(at("change", Delivery, delivery.pk)).content.decode()
    assert "sorry" in page
    assert "Send again" not in page

    for url in (
        at("rotate", Subscription, subscription.pk),
        at("test", Subscription, subscription.pk),
        at("again", Delivery, delivery.pk),
        at("resend", Delivery),
    ):
        assert client.post(url).status_code == 403
    assert client.get(at("resend", Delivery)).status_code == 403
    for model, action, row in (
        (Subscription, "switch_on", subscription),
        (Subscription, "send_dead_again", subscription),
        (Subscription, "send_test_event", subscription),
        (Delivery, "send_selected_again", delivery),
        (Delivery, "send_selected_to_url", delivery),
    ):
        assert action not in client.get(at("changelist", model)).content.decode()
        act(client, model, action, row)
    subscription.refresh_from_db()
    assert not subscription.is_enabled
    assert Delivery.objects.get().state == State.DEAD
    assert not LogEntry.objects.exists()


def test_a_user_who_may_change_deliveries_may_send_them_again(staff, loja):
    client = staff("view_delivery", "change_delivery")
    delivery = create_delivery(create_endpoint(loja))
    assert "Send again" in client.get(at("change", Delivery, delivery.pk)).content.decode()
    assert client.post(at("again", Delivery, delivery.pk)).status_code == 302
    assert Delivery.objects.pending().count() == 1


def test_an_event_shows_its_recipients(admin_client, transactional_db):
    instance = Instance.objects.create(name="loja")
    endpoint = Subscription(instance=instance, transport="webhook", events=["CALL"], options={"url": URL})
    endpoint.save()
    other = Subscription.objects.create(
        instance=instance, transport="webhook", events=["GROUPS_UPSERT"], options={"url": URL}
    )
    event = Event.objects.record(instance, EventType.CALL, {"from": SCRIPT})

    page = admin_client.get(at("change", Event, Event.objects.get(seq=event.seq).pk)).content.decode()

    assert f"<li>The webhook endpoint {endpoint.pk} has not been sent it yet" in page
    assert f"<li>The webhook endpoint {other.pk} is not subscribed to CALL.</li>" in page
    assert "<li>Sockets were to receive it" in page
    assert SCRIPT not in page
