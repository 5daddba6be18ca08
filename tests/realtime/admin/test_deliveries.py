"""The admin of endpoints and deliveries, in a browser and through Django's client."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect
from standardwebhooks.webhooks import Webhook as Verifier

from instances.events import DEFAULT_EVENTS, EventType
from instances.models import Instance, Subscription
from realtime.admin import BoundedPaginator
from realtime.delivery import wakeup
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import Attempt, Delivery, State
from realtime.log.models import Event, Stream
from tests.receiver import Receiver

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{44}")
URL = "https://hook.example.com/in"
SCRIPT = "<script>alert(1)</script>"


def at(page, model, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


# In a browser


def test_a_webhook_is_added_and_its_deliveries_are_read_and_sent_again(admin_page, server):
    instance = server.create()
    with Receiver() as receiver:
        admin_page.goto(at("change", Instance, instance.id))
        admin_page.locator(".field-endpoints").get_by_role("link", name="none").click()
        admin_page.get_by_label("MESSAGES_UPSERT").check()
        admin_page.get_by_label("URL:").fill(receiver.url)
        admin_page.get_by_label("Headers:").fill('{"X-Shop": "our-own-header"}')
        admin_page.get_by_role("button", name="Save", exact=True).click()
        expect(admin_page.get_by_role("heading", name="Signing secret of")).to_be_visible()
        assert SECRET.fullmatch(admin_page.locator("code").inner_text())
        admin_page.get_by_role("link", name="Continue to").click()
        expect(admin_page.locator(".field-state .readonly")).to_have_text("ok")
        expect(admin_page.locator(".field-stored_headers .readonly")).to_have_text("X-Shop: ********")
        assert "our-own-header" not in admin_page.content()

        server.receive(instance, "Good morning")
        admin_page.goto(at("change", Instance, instance.id))
        admin_page.locator(".field-deliveries").get_by_role("link", name="show").click()
        cell = admin_page.locator("td.field-state")
        for _ in range(100):
            if cell.count() == 1 and cell.inner_text() == "Delivered":
                break
            admin_page.wait_for_timeout(100)
            admin_page.reload()
        admin_page.get_by_role("link", name=instance.name).first.click()
        expect(admin_page.locator("pre")).to_contain_text('"event": "messages.upsert",\n')
        expect(admin_page.locator(".attempts tbody tr")).to_have_count(1)
        assert "our-own-header" not in admin_page.content()

        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("Sent again: 1.")).to_be_visible()
        for _ in range(100):
            if len(receiver.requests) == 2:
                break
            admin_page.wait_for_timeout(100)
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["X-Shop"] == "our-own-header"


def test_the_form_shows_the_fields_of_the_transport(admin_page, server):
    instance = server.create()
    admin_page.goto(at("add", Subscription))
    expect(admin_page.get_by_label("URL:")).not_to_be_visible()
    admin_page.get_by_label("Transport:").select_option("webhook")
    admin_page.locator(".field-instance .select2-selection").click()
    admin_page.locator(".select2-search__field").fill(instance.name)
    admin_page.get_by_role("option", name=instance.name).click()
    admin_page.get_by_label("URL:").fill("http://169.254.169.254/latest")
    admin_page.get_by_label("Headers:").fill('{"X-Shop": "our-own-header"}')
    admin_page.get_by_role("button", name="Save").click()

    expect(admin_page.get_by_text("is not public")).to_be_visible()
    assert "our-own-header" not in admin_page.content()
    admin_page.get_by_label("URL:").fill(URL)
    admin_page.get_by_role("button", name="Save").click()
    expect(admin_page.locator("code")).to_have_text(SECRET)


def test_a_range_is_sent_to_another_url_and_a_test_event_of_a_chosen_type(admin_page, server):
    instance = server.create()
    with Receiver(lambda request: 400) as refusing, Receiver() as other:
        endpoint_id = server.post(
            server.path("/webhook/endpoints", instance),
            {"url": refusing.url, "headers": {"X-Shop": "theirs"}, "events": ["MESSAGES_UPSERT"]},
        ).json["id"]
        server.receive(instance, "Good morning")
        admin_page.goto(at("change", Subscription, endpoint_id))
        dead = admin_page.locator(".field-dead .readonly")
        for _ in range(100):
            if dead.inner_text() == "1":
                break
            admin_page.wait_for_timeout(100)
            admin_page.reload()
        admin_page.get_by_role("link", name="send a range again").click()
        expect(admin_page.locator(".field-instance .select2-selection__rendered")).to_contain_text(instance.name)
        expect(admin_page.get_by_label("Endpoint:")).to_have_value(endpoint_id)
        admin_page.get_by_label("Since:").fill("2026-01-01T00:00:00")
        admin_page.get_by_label("URL:").fill(other.url)
        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("A URL requires a secret.")).to_be_visible()
        admin_page.get_by_label("Secret:").fill("whsec_" + "B" * 43 + "=")
        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("Sent again to 127.0.0.1: 1.")).to_be_visible()

        admin_page.goto(at("change", Subscription, endpoint_id))
        admin_page.get_by_label("Type of the test event").select_option("labels.edit")
        admin_page.get_by_role("button", name="Send test").click()
        expect(admin_page.get_by_text("A test event of type labels.edit is queued.")).to_be_visible()
        expect(admin_page.locator(".field-asked_by .readonly")).to_have_text("administrator in the admin")
        for _ in range(100):
            if other.requests and len(refusing.requests) == 2:
                break
            admin_page.wait_for_timeout(100)
    [resent], [first, test] = other.requests, refusing.requests
    assert (resent.id, resent.body) == (first.id, first.body)
    assert "X-Shop" not in resent.headers
    Verifier("whsec_" + "B" * 43 + "=").verify(resent.body, dict(resent.headers))
    assert test.json["event"] == "labels.edit"


# Through Django's client


@pytest.fixture
def admin_user(db):
    return User.objects.create(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro")


@pytest.fixture
def woken():
    calls = []

    def listener():
        calls.append(1)

    wakeup.listeners.add(listener)
    yield calls
    wakeup.listeners.discard(listener)


def create_endpoint(instance, url=URL, **fields):
    known = {"events": ["CALL"], "options": {"url": url, "byEvents": False, "base64": False, "ordered": False}}
    subscription = Subscription(instance=instance, transport="webhook", **known | fields)
    subscription.keep_secrets(headers={"X-Key": "value-of-a-header"}, signing=["whsec_" + "A" * 43 + "="])
    subscription.save()
    return subscription


def create_delivery(subscription, seq=1, state=State.DEAD, **fields):
    instance = subscription.instance
    known = {"instance_id": instance.pk, "name": instance.name, "seq": seq, "event_id": f"{'e' * 16}.{seq}"}
    known |= {"endpoint_id": subscription.pk, "transport": "webhook", "destination": subscription.options["url"]}
    known |= {"finished_at": None if state == State.PENDING else timezone.now()}
    known |= {"type": "call", "body": b'{"event":"call"}'}
    return Delivery.objects.create(state=state, **known | fields)


def create_attempt(delivery, number=1, **fields):
    known = {"at": timezone.now(), "duration_ms": 12, "status": 500, "excerpt": "sorry", "error": ""}
    return Attempt.objects.create(delivery=delivery, number=number, **known | fields)


def errors_of(response):
    assert response.status_code == 200
    return " ".join(text for texts in response.context["adminform"].form.errors.values() for text in texts)


def form_of(instance, **fields):
    return {
        "instance": str(instance.pk) if instance else "",
        "transport": "webhook",
        "is_enabled": "on",
        "url": URL,
    } | fields


def act(client, model, action, *rows):
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(at("changelist", model), form, follow=True).content.decode()


def test_a_new_webhook_has_the_values_of_the_form_and_a_secret_that_is_shown_once(admin_client, loja):
    headers = '{"Authorization": "Bearer abcdefgh", "jwt_key": "key-of-tokens"}'
    form = form_of(loja, events=["CALL"], by_events="on", ordered="on", headers=headers)
    response = admin_client.post(at("add", Subscription), form)

    stored = Subscription.objects.get()
    assert (stored.instance, stored.transport, stored.is_enabled, stored.events) == (loja, "webhook", True, ["CALL"])
    assert stored.options == {"url": URL, "byEvents": True, "base64": False, "ordered": True}
    assert stored.secret("headers") == json.loads(headers)
    [secret] = stored.secret("signing")
    assert response.url == at("secret", Subscription, stored.pk)
    shown = admin_client.get(response.url)
    assert SECRET.search(shown.content.decode())[0] == secret
    assert "no-store" in shown["Cache-Control"]
    again = admin_client.get(response.url, follow=True)
    assert again.redirect_chain == [(at("change", Subscription, stored.pk), 302)]


def test_without_events_and_instance_a_webhook_is_for_all_events_of_all_instances(admin_client, db):
    admin_client.post(at("add", Subscription), form_of(None))

    stored = Subscription.objects.get()
    assert (stored.instance, stored.events) == (None, DEFAULT_EVENTS)
    assert "all instances" in admin_client.get(at("changelist", Subscription)).content.decode()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"url": ""}, "This field is required."),
        ({"url": "ftp://hook.example.com"}, "must begin with http"),
        ({"url": "http://10.0.0.1/"}, "is not public"),
        ({"url": "https://user:password@hook.example.com/"}, "user name or password"),
        ({"url": URL + "a" * 2048}, "at most 2048 characters"),
        ({"headers": "Authorization: secret-value"}, "This is not JSON"),
        ({"headers": "[" * 60_000}, "This is not JSON"),
        ({"headers": '["secret-value"]'}, "a JSON object of strings"),
        ({"headers": '{"X-Number": 1}'}, "a JSON object of strings"),
        ({"headers": '{"Host": "secret-value"}'}, "Host"),
        ({"headers": '{"webhook-id": "secret-value"}'}, "webhook-id"),
        ({"headers": '{"X": "secret-value\\r\\nY: z"}'}, "control characters"),
        ({"headers": f'{{"{SCRIPT}": "secret-value"}}'}, "script"),
        ({"transport": "carrier pigeon"}, "is not one of the available choices"),
        ({"transport": "websocket", "instance": ""}, "This field is required."),
        ({"events": ["PARTY"]}, "PARTY is not one of the available choices."),
    ],
)
def test_the_form_of_a_webhook_shows_errors_without_secrets(admin_client, loja, fields, error):
    response = admin_client.post(at("add", Subscription), form_of(loja) | fields)

    assert error in errors_of(response)
    assert "secret-value" not in response.content.decode()
    assert SCRIPT not in response.content.decode()
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("", {"X-Key": "value-of-a-header"}), ('{"X-Other": "other"}', {"X-Other": "other"}), ("{}", {})],
)
def test_headers_are_kept_replaced_or_removed(admin_client, loja, typed, stored):
    subscription = create_endpoint(loja)
    form = {"is_enabled": "on", "url": URL + "/other", "events": ["CALL"], "headers": typed}
    admin_client.post(at("change", Subscription, subscription.pk), form)

    changed = Subscription.objects.get()
    assert changed.options["url"] == URL + "/other"
    assert changed.secret("headers") == stored
    assert changed.secret("signing") == subscription.secret("signing")
    assert 'other"' not in LogEntry.objects.get().change_message


def test_an_endpoint_of_another_transport_shows_its_options_and_can_be_switched(admin_client, loja):
    queue = Subscription.objects.create(
        instance=loja, transport="rabbitmq", options={"exchange": "loja"}, events=["CALL"]
    )
    change = at("change", Subscription, queue.pk)
    page = admin_client.get(change).content.decode()
    assert "&quot;exchange&quot;: &quot;loja&quot;" in page
    assert 'name="url"' not in page
    assert "Rotate secret" not in page
    assert admin_client.post(change, {}).status_code == 302

    changed = Subscription.objects.get()
    assert (changed.is_enabled, changed.events, changed.options) == (False, DEFAULT_EVENTS, {"exchange": "loja"})
    assert not changed.secrets


def test_a_webhook_with_an_invalid_url_can_still_be_switched_off(admin_client, loja):
    subscription = create_endpoint(loja, "vazio")
    change = at("change", Subscription, subscription.pk)

    assert "must begin with http" in errors_of(admin_client.post(change, {"is_enabled": "on", "url": "vazio"}))
    assert admin_client.post(change, {"url": "vazio"}).status_code == 302
    assert not Subscription.objects.get().is_enabled


def test_switching_an_endpoint_on_in_the_form_resets_its_failures(admin_client, loja):
    then = timezone.now() - timedelta(days=6)
    subscription = create_endpoint(loja, is_enabled=False, failing_since=then, disabled_reason="It answered 410 Gone")
    admin_client.post(at("change", Subscription, subscription.pk), {"is_enabled": "on", "url": URL})

    changed = Subscription.objects.get()
    assert (changed.is_enabled, changed.failing_since, changed.disabled_reason) == (True, None, "")


def test_saving_a_failing_endpoint_does_not_reset_its_failures(admin_client, loja):
    subscription = create_endpoint(loja, failing_since=timezone.now())
    admin_client.post(at("change", Subscription, subscription.pk), {"is_enabled": "on", "url": URL, "ordered": "on"})

    changed = Subscription.objects.get()
    assert changed.failing_since == subscription.failing_since
    assert changed.options["ordered"] is True


def test_a_rotated_secret_is_kept_beside_the_previous_one_and_shown_once(admin_client, loja):
    subscription = create_endpoint(loja)
    [first] = subscription.secret("signing")
    secrets = []
    for _ in range(2):
        response = admin_client.post(at("rotate", Subscription, subscription.pk), follow=True)
        secrets.append(SECRET.search(response.content.decode())[0])

    stored = Subscription.objects.get()
    assert stored.secret("signing") == secrets[::-1]
    assert first not in secrets
    assert stored.secret("headers") == {"X-Key": "value-of-a-header"}
    assert {entry.change_message for entry in LogEntry.objects.all()} == {"Rotated the signing secret."}


def test_only_webhooks_have_a_secret(admin_client, loja):
    websocket = Subscription.set_websocket(loja, True, [])
    assert admin_client.post(at("rotate", Subscription, websocket.pk)).status_code == 404
    assert admin_client.get(at("rotate", Subscription, create_endpoint(loja).pk)).status_code == 405


def test_the_list_shows_states_and_filters_by_them(admin_client, loja):
    then = timezone.now()
    create_endpoint(loja, URL + "/ok")
    create_endpoint(loja, URL + "/failing", failing_since=then)
    create_endpoint(
        loja, URL + "/disabled", is_enabled=False, failing_since=then, disabled_reason="It answered 410 Gone"
    )
    create_endpoint(loja, URL + "/off", is_enabled=False)
    words = {
        "ok": "ok",
        "failing": f"failing since {then:%Y-%m-%d %H:%M:%S}",
        "disabled": "switched off: It answered 410 Gone",
        "off": "off",
    }
    for state, text in words.items():
        response = admin_client.get(at("changelist", Subscription), {"state": state})
        assert [row.options["url"] for row in response.context["cl"].result_list] == [f"{URL}/{state}"]
        assert f'<td class="field-state">{text}</td>' in response.content.decode()


def test_the_list_counts_pending_and_dead_deliveries_with_one_query(admin_client, loja):
    counts = []
    for added in (1, 9):
        for _ in range(added):
            subscription = create_endpoint(loja)
            for seq, state in enumerate([State.PENDING, State.DEAD, State.DEAD, State.DELIVERED]):
                create_delivery(subscription, seq, state)
        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(at("changelist", Subscription)).content.decode()
        counts.append(len(queries))
    found = re.findall(r'field-(pending|dead)"><a href="[^"]*endpoint_id=\d+&amp;state__exact=\1">(\d+)</a>', page)
    assert found == [("pending", "1"), ("dead", "2")] * 10
    assert counts[0] == counts[1]
    assert not [query for query in queries if '"secrets"' in query["sql"]]


def test_selected_endpoints_are_switched_on(admin_client, loja):
    gone = create_endpoint(loja, is_enabled=False, failing_since=timezone.now(), disabled_reason="It answered 410 Gone")
    emptied = create_endpoint(loja, is_enabled=False, events=[])
    without_url = create_endpoint(loja, "vazio", is_enabled=False)
    websocket = Subscription.set_websocket(loja, False, [])
    page = act(admin_client, Subscription, "switch_on", gone, emptied, without_url, websocket)

    assert "Switched on: 2." in page
    assert "stays off. The URL must begin with http" in page
    gone.refresh_from_db()
    assert (gone.is_enabled, gone.failing_since, gone.disabled_reason) == (True, None, "")
    on = dict(Subscription.objects.filter(is_enabled=True).values_list("pk", "events"))
    assert on == {gone.pk: ["CALL"], emptied.pk: DEFAULT_EVENTS}


def test_dead_deliveries_are_sent_again_by_an_action(admin_client, loja, woken, django_capture_on_commit_callbacks):
    mine, other, off = create_endpoint(loja), create_endpoint(loja), create_endpoint(loja, is_enabled=False)
    dead = [create_delivery(mine, seq, attempts=9) for seq in range(3)]
    create_attempt(dead[0], 9)
    repeated = create_delivery(mine, 3, attempts=9)
    create_delivery(mine, 3, State.DELIVERED, resent_from=repeated.pk)
    untouched = [create_delivery(other), create_delivery(off), create_delivery(mine, 4, State.DROPPED)]
    with django_capture_on_commit_callbacks(execute=True):
        page = act(admin_client, Subscription, "send_dead_again", mine, off)

    assert "3 queued again" in page
    assert "is off: switch it on first" in page
    assert woken
    due = Delivery.objects.pending()
    assert sorted(due.values_list("pk", flat=True)) == [row.pk for row in dead]
    assert {(row.attempts, row.finished_at, row.due_at <= timezone.now()) for row in due} == {(0, None, True)}
    assert dead[0].tries.get().number == 9
    assert [Delivery.objects.get(pk=row.pk).state for row in untouched] == ["dead", "dead", "dropped"]
    assert LogEntry.objects.get().change_message == "Sent dead deliveries again: 3."


def test_a_test_event_is_sent_to_webhooks_that_are_on(admin_client, loja, woken, django_capture_on_commit_callbacks):
    on, off, of_all = (
        create_endpoint(loja, events=["SEND_MESSAGE", "CALL"]),
        create_endpoint(loja, is_enabled=False),
        create_endpoint(None),
    )
    websocket = Subscription.set_websocket(loja, True, [])
    with django_capture_on_commit_callbacks(execute=True):
        page = act(admin_client, Subscription, "send_test_event", on, off, of_all, websocket)

    assert "Test events sent to webhooks that are on: 1." in page
    sent = Delivery.objects.get()
    assert (sent.endpoint_id, sent.type, sent.state) == (on.pk, "send.message", State.PENDING)
    assert json.loads(bytes(sent.body))["event"] == "send.message"
    assert woken
    assert LogEntry.objects.get().change_message == "Sent a test event of type send.message."


@pytest.mark.parametrize("way", ["button", "action"])
def test_pending_deliveries_of_a_deleted_endpoint_are_dropped(admin_client, loja, way):
    subscription = create_endpoint(loja)
    create_delivery(subscription, 1, State.PENDING)
    create_delivery(subscription, 2, State.DEAD)
    if way == "button":
        admin_client.post(at("delete", Subscription, subscription.pk), {"post": "yes"})
    else:
        form = {"action": "delete_selected", "_selected_action": [str(subscription.pk)], "post": "yes"}
        admin_client.post(at("changelist", Subscription), form)

    assert not Subscription.objects.exists()
    assert list(Delivery.objects.order_by("seq").values_list("state", flat=True)) == ["dropped", "dead"]
    page = admin_client.get(at("change", Delivery, Delivery.objects.first().pk)).content.decode()
    assert '<div class="readonly">deleted</div>' in page


def test_an_instance_links_to_its_endpoints_and_deliveries(admin_client, loja):
    for page in (at("changelist", Instance), at("change", Instance, loja.pk)):
        assert f"instance={loja.pk}&amp;transport=webhook" in admin_client.get(page).content.decode()
    create_endpoint(loja)
    create_endpoint(loja, failing_since=timezone.now())
    create_endpoint(loja, is_enabled=False)
    create_delivery(create_endpoint(Instance.objects.create(name="other")))
    for page in (at("changelist", Instance), at("change", Instance, loja.pk)):
        assert f'?instance__id__exact={loja.pk}">3, 1 failing, 1 off</a>' in admin_client.get(page).content.decode()
    listed = admin_client.get(at("changelist", Subscription), {"instance__id__exact": str(loja.pk)})
    assert len(listed.context["cl"].result_list) == 3
    deliveries = admin_client.get(at("changelist", Delivery), {"instance_id": str(loja.pk)})
    assert len(deliveries.context["cl"].result_list) == 0


# Deliveries


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
    assert "more than 150" in page
    assert "150 results" not in page
    assert "Show counts" not in page
    assert len(response.context["cl"].result_list) == 50
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 151" in sql for sql in counts)


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
        create_delivery(on, 3, State.PENDING),
    )
    with django_capture_on_commit_callbacks(execute=True):
        page = act(admin_client, Delivery, "send_selected_again", dead, delivered, pending, create_delivery(off, 4))

    assert "Sent again: 2." in page
    assert "Not sent, because the endpoint is off or deleted: 1." in page
    assert woken
    new = Delivery.objects.exclude(resent_from=None).order_by("seq")
    assert [(row.resent_from, row.event_id, row.state) for row in new] == [
        (dead.pk, dead.event_id, "pending"),
        (delivered.pk, delivered.event_id, "pending"),
    ]


def test_the_send_again_button_redirects_to_the_new_delivery(admin_client, loja):
    dead = create_delivery(create_endpoint(loja))
    response = admin_client.post(at("again", Delivery, dead.pk))

    new = Delivery.objects.get(resent_from=dead.pk)
    assert response.url == at("change", Delivery, new.pk)
    page = admin_client.get(response.url).content.decode()
    assert f'<a href="{at("change", Delivery, dead.pk)}">{dead.pk}</a>' in page
    assert "Send again" not in page  # it is pending
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
    page = admin_client.post(at("resend", Delivery), resend_form(loja), follow=True).content.decode()
    assert "Sent again: 0." in page
    assert set(Delivery.objects.filter(pk__gt=newest).values_list("resent_from", flat=True)) == {dead.pk, old.pk}


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
        ({"state": ["pending"]}, "pending is not one of the available choices."),
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


def test_a_test_event_has_the_chosen_type(admin_client, loja):
    on, off = create_endpoint(loja), create_endpoint(loja, is_enabled=False)
    assert admin_client.post(at("test", Subscription, on.pk), {"event_type": "party"}).status_code == 404
    assert admin_client.post(at("test", Subscription, off.pk), {"event_type": "call"}).status_code == 302
    assert admin_client.get(at("test", Subscription, on.pk)).status_code == 405
    assert not Delivery.objects.exists()

    response = admin_client.post(at("test", Subscription, on.pk), {"event_type": "labels.edit"})

    sent = Delivery.objects.get()
    assert response.url == at("change", Delivery, sent.pk)
    assert (sent.type, sent.endpoint_id, sent.asked_by) == ("labels.edit", on.pk, "admin in the admin")
    assert LogEntry.objects.get().change_message == "Sent a test event of type labels.edit."


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
    assert URL in page
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
    other = Subscription.objects.create(instance=instance, transport="webhook", events=[], options={"url": URL})
    event = Event.objects.record(instance, EventType.CALL, {"from": SCRIPT})

    page = admin_client.get(at("change", Event, Event.objects.get(seq=event.seq).pk)).content.decode()

    assert f"<li>The webhook endpoint {endpoint.pk} is about to be sent it" in page
    assert f"<li>The webhook endpoint {other.pk} is not subscribed to CALL.</li>" in page
    assert "<li>Sockets were to hear of it" in page
    assert SCRIPT not in page
