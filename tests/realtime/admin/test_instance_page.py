"""The page of an instance in the admin: what it shows, and to whom."""

from __future__ import annotations

import base64
import html
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from instances.events import SUBSCRIBABLE, EventType
from instances.models import ApiKey, Instance, Subscription
from realtime.admin.instance_page.qr_code import MAX_CODE, MAX_PICTURE, checked_picture, drawn
from realtime.counters.hours import this_hour
from realtime.counters.models import EndpointHour, InstanceHour
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import SCRIPT, create_delivery, create_endpoint
from tests.staff_users import client_of, staff_user

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro", number="5511988887777", connection_state="connecting")


def text_of(client, instance):
    """Return the text of the page without tags and with single spaces."""
    page = client.get(at("change", Instance, instance.pk)).content.decode()
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", page)))


def publish_code(instance, **code):
    known = {"instance": instance.name, "pairingCode": None, "code": "2@abc", "base64": ""}
    return Event.objects.record(instance, EventType.QRCODE_UPDATED, {"qrcode": known | code})


def code_of(client, instance, **query):
    return client.get(at("qr_code", Instance, instance.pk), query).json()


# State


def test_the_head_says_the_state_since_when_and_why(admin_client, loja):
    data = {"instance": loja.name, "state": "close", "statusReason": 440}
    Event.objects.record(loja, EventType.CONNECTION_UPDATE, data)
    Event.objects.update(created_at=timezone.now() - timedelta(hours=5))
    Instance.objects.filter(pk=loja.pk).update(connection_state="close")

    text = text_of(admin_client, loja)
    assert "closed for 5 h : another program has taken over the session" in text
    assert "Evolution channel" in text
    assert "5511988887777" in text


def test_a_log_out_is_said_with_its_time(admin_client, loja):
    loja.log_out()
    assert "logged out for 0 s : by a request to this server" in text_of(admin_client, loja)


def test_the_time_of_a_state_comes_from_the_counts_where_the_event_is_gone(admin_client, loja):
    Event.objects.all().delete()
    seconds = int((timezone.now() - timedelta(days=3)).timestamp())
    InstanceHour.objects.create(instance_id=loja.pk, hour=seconds // 3600, connection_updated=seconds)
    assert "connecting for 3 days" in text_of(admin_client, loja)


def test_a_weak_token_and_the_events_of_the_day_are_shown(admin_client, loja):
    loja.rotate_token("short")
    InstanceHour.objects.create(instance_id=loja.pk, hour=this_hour() - 1, events=7)
    text = text_of(admin_client, loja)
    assert "Its token is weak, short: whoever has it has full access." in text
    assert "7 events" in text
    assert "short" not in re.findall(
        'value="([^"]*)"', admin_client.get(at("change", Instance, loja.pk)).content.decode()
    )


# Timeline, subscriptions, keys


def test_the_timeline_has_the_last_events_with_what_became_of_their_deliveries(admin_client, loja):
    endpoint = create_endpoint(loja)
    Delivery.objects.all().delete()
    for _ in range(31):
        Event.objects.record(loja, EventType.MESSAGES_UPSERT, {"text": SCRIPT})
    last = Event.objects.filter(instance_id=loja.pk).order_by("-seq").first()
    for state in (State.DEAD, State.DEAD, State.DELIVERED):
        create_delivery(endpoint, seq=last.seq, state=state)

    response = admin_client.get(at("change", Instance, loja.pk))
    events = response.context["page"]["timeline"]
    assert [event.seq for event in events] == list(range(last.seq, last.seq - 30, -1))
    assert [(each.number, each.word) for each in events[0].outcomes] == [(2, "failed"), (1, "delivered")]
    assert events[0].url == at("change", Event, last.pk)
    assert admin_client.get(events[0].console_url).status_code == 200
    failed = admin_client.get(events[0].outcomes[0].url)
    assert failed.status_code == 200
    assert SCRIPT not in response.content.decode()


def test_endpoints_have_their_health_and_the_failing_ones_are_first(admin_client, loja):
    fine = create_endpoint(loja)
    failing = create_endpoint(loja, "https://b.example.com/x?key=hidden-key", failing_since=timezone.now())
    counts = {"delivered": 97, "failed": 3, "latency_ms": 20_000, "max_latency_ms": 900}
    EndpointHour.objects.create(endpoint_id=fine.pk, instance_id=loja.pk, hour=this_hour(), **counts)
    create_delivery(failing)

    page = admin_client.get(at("change", Instance, loja.pk)).context["page"]["subscriptions"]
    first, second = page.endpoints
    assert first.name == "webhook https://b.example.com/********?key=********"
    assert (first.css, first.dead, second.css, second.dead) == ("bad", 1, "good", 0)
    assert "97.0 %" in second.success
    assert "200 ms" in second.latency
    text = text_of(admin_client, loja)
    assert "failing since" in text
    assert "1 failed delivery" in text
    assert "hidden-key" not in text


def test_the_events_of_sockets_and_endpoints_are_shown_as_checkboxes(admin_client, loja):
    assert "Sockets and event streams receive all events" in text_of(admin_client, loja)
    Subscription.set_websocket(loja, True, ["CALL", "MESSAGES_UPSERT"])
    create_endpoint(loja, events=[])

    page = admin_client.get(at("change", Instance, loja.pk)).content.decode()
    sockets, endpoint = re.findall(r'<details class="events">(.*?)</details>', page, re.DOTALL)
    boxes = re.findall(r'<input type="checkbox"[^>]* value="(\w+)"([^>]*)>', sockets)
    assert {name for name, attrs in boxes if "checked" in attrs.split()} == {"CALL", "MESSAGES_UPSERT"}
    assert all("disabled" in attrs for _, attrs in boxes)
    assert "Somebody is typing, recording, online or away." in sockets
    assert "all events" in endpoint
    assert endpoint.count('<input type="checkbox"') == len(SUBSCRIBABLE)
    assert endpoint.count(" checked ") + endpoint.count(" checked>") == len(SUBSCRIBABLE)


def test_keys_have_their_scopes_and_last_use(admin_client, loja):
    key, secret = ApiKey.objects.issue("dashboard", ["read", "listen"])
    key.instances.add(loja)
    key.record_use()
    ApiKey.objects.issue("everything", ["manage"], all_instances=True)
    ApiKey.objects.issue("of another", ["read"])[0].instances.add(Instance.objects.create(name="other"))
    revoked, _ = ApiKey.objects.issue("gone", ["read"], all_instances=True)
    revoked.revoke()

    text = text_of(admin_client, loja)
    assert f"dashboard {key.prefix}… read, listen {key.last_used_at:%Y-%m-%d %H:%M}" in text
    assert re.search("everything [^ ]* of all instances manage never", text)
    assert f"changed {loja.token_changed_at:%Y-%m-%d %H:%M}" in text
    assert "of another" not in text
    assert "gone evo_" not in text
    assert secret not in text


def test_rotating_a_token_records_when_and_saving_an_older_copy_keeps_it(loja):
    stale = Instance.objects.get(pk=loja.pk)
    loja.rotate_token()
    stale.profile_name = "Loja"
    stale.save()
    assert Instance.objects.get(pk=loja.pk).token_changed_at == loja.token_changed_at


def test_the_page_takes_few_queries_however_many_rows_there_are(admin_client, loja, django_assert_max_num_queries):
    for number in range(25):
        create_endpoint(loja, f"https://{number}.example.com/")
        ApiKey.objects.issue(f"key {number}", ["read"], all_instances=True)
        Event.objects.record(loja, EventType.CALL, {})
        Instance.objects.create(name=f"other {number}")
    publish_code(loja)
    with django_assert_max_num_queries(15):  # with session and user
        response = admin_client.get(at("change", Instance, loja.pk))
    subscriptions = response.context["page"]["subscriptions"]
    assert (len(subscriptions.endpoints), subscriptions.has_more) == (20, True)
    assert len(response.context["page"]["keys"].shown) == 10


# QR codes


def test_a_published_picture_is_shown_with_the_pairing_code_until_the_connection_is_open(admin_client, loja):
    assert 'data-qr-code="' in admin_client.get(at("change", Instance, loja.pk)).content.decode()
    assert code_of(admin_client, loja)["code"] is None
    event = publish_code(loja, base64=PNG_URL, pairingCode="WZYEH1YY")

    answer = code_of(admin_client, loja)
    assert (answer["state"], answer["isWaiting"]) == ("connecting", True)
    code = answer["code"]
    assert (code["seq"], code["picture"], code["pairingCode"], code["isFresh"]) == (
        event.seq,
        PNG_URL,
        "WZYEH1YY",
        True,
    )
    assert "picture" not in code_of(admin_client, loja, seq=event.seq)["code"]

    Instance.objects.filter(pk=loja.pk).update(connection_state="open")
    answer = code_of(admin_client, loja)
    assert (answer["state"], answer["isWaiting"], answer["code"]) == ("open", False, None)
    assert 'data-qr-code="' not in admin_client.get(at("change", Instance, loja.pk)).content.decode()


def test_a_code_without_a_picture_is_drawn(admin_client, loja):
    publish_code(loja, code="2@" + "aB3+/=" * 40)
    assert code_of(admin_client, loja)["code"]["picture"].startswith("data:image/svg+xml;")
    assert drawn("2@one") != drawn("2@two")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg onload='alert(1)'/>").decode(),
        "data:image/png;base64," + base64.b64encode(b"<html>").decode(),
        "data:text/html,<script>alert(1)</script>",
        "https://example.com/qr.png",
        PNG_URL + "A" * MAX_PICTURE,
        "data:image/png;base64,%%%",
        7,
        None,
    ],
)
def test_what_is_no_picture_is_not_shown_as_one(url):
    assert checked_picture(url) == ""


def test_damaged_and_large_codes_are_not_shown(admin_client, loja):
    for data in (None, [], {"qrcode": "x"}, {"qrcode": {"code": "c" * (MAX_CODE + 1), "base64": 3, "pairingCode": []}}):
        Event.objects.record(loja, EventType.QRCODE_UPDATED, data)
        code = code_of(admin_client, loja)["code"]
        assert code is None or not (code["picture"] or code["pairingCode"])
    Event.objects.record(loja, EventType.QRCODE_UPDATED, {"qrcode": {"code": "c" * 600_000}})
    assert code_of(admin_client, loja)["code"] is None


def test_the_end_of_an_engines_attempts_is_said_in_its_words(admin_client, loja):
    data = {"message": "QR code limit reached, please login again", "statusCode": 500}
    Event.objects.record(loja, EventType.QRCODE_UPDATED, data)
    assert code_of(admin_client, loja)["code"]["message"] == data["message"]


def test_old_codes_are_marked_and_then_gone_and_those_of_an_ended_attempt_too(admin_client, loja):
    publish_code(loja)
    for minutes, is_shown in ((2, True), (6, False)):
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=minutes))
        code = code_of(admin_client, loja)["code"]
        assert (code is not None) is is_shown
        assert not (code and code["isFresh"])
    publish_code(loja)
    assert code_of(admin_client, loja)["code"]["isFresh"]
    Event.objects.record(loja, EventType.CONNECTION_UPDATE, {"state": "close"})
    assert code_of(admin_client, loja)["code"] is None


def test_that_codes_are_shown_is_recorded_once_for_a_page(admin_client, admin_user, loja):
    code_of(admin_client, loja)
    assert not LogEntry.objects.exists()  # there is none to show
    publish_code(loja)
    proof = code_of(admin_client, loja)["proof"]
    publish_code(loja)
    assert code_of(admin_client, loja, proof=proof)["proof"] == proof
    assert [(entry.user, entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [
        (admin_user, str(loja.pk), "Showed the QR code.")
    ]
    other = Instance.objects.create(name="other", connection_state="connecting")
    publish_code(other)
    code_of(admin_client, other, proof=proof)
    code_of(admin_client, loja, proof="x")
    assert LogEntry.objects.count() == 3


# Rights


def test_a_viewer_sees_the_page_without_codes_and_actions(loja):
    create_endpoint(loja)
    publish_code(loja, base64=PNG_URL, pairingCode="WZYEH1YY")
    viewer = client_of(staff_user("viewer"))

    page = viewer.get(at("change", Instance, loja.pk)).content.decode()
    assert "qrcode.updated" in page
    assert 'data-qr-code="' not in page
    assert "WZYEH1YY" not in page
    assert '<div class="actions" role="group" aria-label="Actions">' in page
    for name in ("connect", "restart", "log_out", "rotate_token", "test_message", "test_event", "resend", "cut"):
        assert at(name, Instance, loja.pk) not in page
    assert viewer.get(at("qr_code", Instance, loja.pk)).status_code == 403


def test_parts_need_the_permissions_for_their_rows(loja):
    create_endpoint(loja)
    ApiKey.objects.issue("till 7", ["read"], all_instances=True)
    Event.objects.record(loja, EventType.CALL, {})
    client = client_of(staff_user(permissions=["view_instance"]))
    text = text_of(client, loja)
    assert "connecting" in text
    for part in ("Timeline", "Subscriptions and endpoints", "hook.example.com", "till 7", "Last event"):
        assert part not in text
    assert client.get(at("qr_code", Instance, loja.pk)).status_code == 403


@pytest.mark.parametrize(("codename", "word"), [("change_subscription", "Change"), ("add_subscription", "Show")])
def test_the_link_to_a_subscription_says_what_its_page_lets_do(loja, codename, word):
    create_endpoint(loja)
    user = staff_user(permissions=["view_instance", "view_subscription", codename])
    text = text_of(client_of(user), loja)
    assert f"{word} this subscription" in text
