"""The admin of endpoints, through Django's client."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from instances.models import Instance, Subscription
from realtime.delivery.models import Delivery, State
from tests.instances.admin.pages import at, cells, errors_of
from tests.realtime.admin.rows import SCRIPT, SECRET, URL, act, create_attempt, create_delivery, create_endpoint
from tests.realtime.delivery.deliveries import payload

pytestmark = pytest.mark.any_database


def form_of(instance, **fields):
    return {
        "instance": str(instance.pk) if instance else "",
        "transport": "webhook",
        "is_enabled": "on",
        "url": URL,
    } | fields


def test_a_new_webhook_has_the_values_of_the_form_and_a_secret_that_is_shown_once(admin_client, loja):
    headers = '{"Authorization": "Bearer abcdefgh", "jwt_key": "key-of-tokens"}'
    form = form_of(loja, events=["CALL"], by_events="on", ordered="on", headers=headers)
    response = admin_client.post(at("add", Subscription), form)

    stored = Subscription.objects.get()
    assert (stored.instance, stored.transport, stored.is_enabled, stored.events) == (loja, "webhook", True, ["CALL"])
    assert stored.options == {
        **{"url": URL, "byEvents": True, "base64": False, "ordered": True, "followRedirects": False},
    }
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
    assert (stored.instance, stored.events) == (None, [])
    assert "all instances" in admin_client.get(at("changelist", Subscription)).content.decode()


@pytest.mark.bound("LIMIT_ENDPOINTS")
def test_an_instance_gets_no_more_webhooks_than_it_may_have(admin_client, loja, monkeypatch):
    monkeypatch.setattr("instances.api.webhook.ENDPOINTS", 1)
    admin_client.post(at("add", Subscription), form_of(loja))
    refused = admin_client.post(at("add", Subscription), form_of(loja, url=URL + "/second"))
    assert "An instance may have 1 webhook endpoints." in errors_of(refused)
    first = Subscription.objects.get()
    assert admin_client.post(at("change", Subscription, first.pk), form_of(loja)).status_code == 302
    assert admin_client.post(at("add", Subscription), form_of(None)).status_code == 302


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
    assert (changed.is_enabled, changed.events, changed.options) == (False, [], {"exchange": "loja"})
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
    admin_client.post(
        at("change", Subscription, subscription.pk),
        {"is_enabled": "on", "url": URL, "ordered": "on", "follow_redirects": "on"},
    )

    changed = Subscription.objects.get()
    assert changed.failing_since == subscription.failing_since
    assert changed.options["ordered"] is True
    assert changed.options["followRedirects"] is True


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
    messages = {re.sub(r"[0-9-]{10} [0-9:]{8}", "<time>", entry.change_message) for entry in LogEntry.objects.all()}
    assert messages == {
        "Rotated the signing secret. The old one signs as well until <time>.",
        "Showed the signing secret.",
    }


def test_only_webhooks_have_a_secret(admin_client, loja):
    websocket = Subscription.set_websocket(loja, True, [])
    assert admin_client.post(at("rotate", Subscription, websocket.pk)).status_code == 404
    assert admin_client.get(at("rotate", Subscription, websocket.pk)).status_code == 404


def test_the_old_secret_signs_as_long_as_is_chosen_and_can_be_ended_before(admin_client, loja):
    subscription = create_endpoint(loja)
    rotate, page = at("rotate", Subscription, subscription.pk), at("change", Subscription, subscription.pk)
    assert "signs with one secret" in admin_client.get(page).content.decode()
    form = admin_client.get(rotate)
    assert form.context["form"]["overlap"].initial == 24 * 3600
    assert len(Subscription.objects.get().secret("signing")) == 1, "to look at the form changes nothing"
    assert "Select a valid choice" in admin_client.post(rotate, {"overlap": "5"}).content.decode()

    for overlap in (3600, 0, 7 * 24 * 3600):
        admin_client.post(rotate, {"overlap": overlap})
        stored = Subscription.objects.get().all_secrets
        assert len(stored["signing"]) == (2 if overlap else 1)
        if overlap:
            assert abs(stored["signing_until"] - time.time() - overlap) < 60
    shown = admin_client.get(page).content.decode()
    assert re.search(r"signs with two secrets until \d{4}-", shown)
    assert "End the old secret" in shown

    admin_client.post(at("drop_secret", Subscription, subscription.pk))
    assert len(Subscription.objects.get().all_secrets["signing"]) == 1
    assert "Ended the old signing secret." in {entry.change_message for entry in LogEntry.objects.all()}
    shown = admin_client.get(page).content.decode()
    assert "signs with one secret" in shown
    assert "End the old secret" not in shown


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
        assert cells(response, "state") == [text]


def test_the_list_counts_pending_and_dead_deliveries_with_one_query(admin_client, loja):
    counts = []
    for added in (1, 9):
        for _ in range(added):
            subscription = create_endpoint(loja)
            for seq, state in enumerate([State.PENDING, State.DEAD, State.DEAD, State.DELIVERED]):
                create_delivery(subscription, seq, state)
        with CaptureQueriesContext(connection) as queries:
            response = admin_client.get(at("changelist", Subscription))
        counts.append(len(queries))
    for state, count in (("pending", 1), ("dead", 2)):
        link = rf'<a href="[^"]*endpoint_id=\d+&amp;state__exact={state}">{count}</a>'
        assert [bool(re.fullmatch(link, cell)) for cell in cells(response, state)] == [True] * 10
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
    assert on == {gone.pk: ["CALL"], emptied.pk: []}


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


@pytest.mark.bound("LIMIT_RESENT")
def test_many_dead_deliveries_take_the_action_several_times(admin_client, loja, monkeypatch):
    monkeypatch.setattr("realtime.admin.endpoint.RESENT", 2)
    mine = create_endpoint(loja)
    dead = [create_delivery(mine, seq) for seq in range(3)]
    assert "2 queued again. There are more: do it again" in act(admin_client, Subscription, "send_dead_again", mine)
    assert sorted(Delivery.objects.pending().values_list("pk", flat=True)) == [row.pk for row in dead[:2]]
    page = act(admin_client, Subscription, "send_dead_again", mine)
    assert "1 queued again." in page
    assert "There are more" not in page


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
    assert json.loads(payload(sent))["event"] == "send.message"
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
    assert 'readonly field-endpoint break-words">deleted</div>' in page


def test_an_instance_links_to_its_endpoints_and_deliveries(admin_client, loja):
    for page in (at("changelist", Instance), at("change", Instance, loja.pk)):
        assert f"instance={loja.pk}&amp;transport=webhook" in admin_client.get(page).content.decode()
    create_endpoint(loja)
    create_endpoint(loja, failing_since=timezone.now())
    create_endpoint(loja, is_enabled=False)
    create_delivery(create_endpoint(Instance.objects.create(name="other")))
    found = admin_client.get(at("changelist", Instance)).content.decode()
    links = dict(re.findall(rf'subscription/\?instance__id__exact={loja.pk}([^"]*)">(?:<span[^>]*>)?([^<]*)<', found))
    assert links == {"": "3", "&amp;state=failing": "1 failing", "&amp;is_enabled__exact=0": "1 off"}
    page = admin_client.get(at("change", Instance, loja.pk)).content.decode()
    assert f"{at('changelist', Subscription)}?instance__id__exact={loja.pk}" in page
    assert f"{at('changelist', Delivery)}?instance_id={loja.pk}" in page
    listed = admin_client.get(at("changelist", Subscription), {"instance__id__exact": str(loja.pk)})
    assert len(listed.context["cl"].result_list) == 3
    deliveries = admin_client.get(at("changelist", Delivery), {"instance_id": str(loja.pk)})
    assert len(deliveries.context["cl"].result_list) == 0


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
