"""Rights in the console: instances, content and sockets, by user and role."""

from __future__ import annotations

import json
import time

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from instances.bounds import CONSOLE_DELIVERIES, CONSOLE_EVENTS
from instances.events import EventType
from instances.models import Instance
from realtime.delivery.bodies import Body
from realtime.delivery.models import Delivery
from realtime.delivery.payload import Payload
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.pages.console.event import MAX_SHOWN
from tests.realtime.admin.rows import create_attempt, create_delivery, create_endpoint

pytestmark = pytest.mark.django_db

MARKER = "said-in-a-message"


@pytest.fixture
def event(loja):
    """An event with a delivery that failed; its content has MARKER everywhere."""
    recorded = Event.objects.record(loja, EventType.MESSAGES_UPSERT, {"message": {"conversation": MARKER}})
    event_id = f"{Stream.objects.state(loja.pk).epoch}.{recorded.seq}"
    body = json.dumps({"event": "messages.upsert", "data": MARKER}).encode()
    endpoint = create_endpoint(loja, "https://hook.example.com/secret-path?key=secret-key")
    delivery = create_delivery(endpoint, recorded.seq, event_id=event_id, body=body)
    create_attempt(delivery, excerpt=MARKER)
    return event_id


def paths(event):
    pk = Delivery.objects.get().pk
    base = "/console/loja%20centro"
    content = [f"{base}/events", f"{base}/{event}/envelope", f"{base}/{event}/{pk}/body"]
    return content, [base, f"{base}/rows", f"{base}/{event}", f"{base}/{event}/audience"]


def test_others_than_staff_log_in_first(event):
    content, others = paths(event)
    for path in [*content, *others, "/console/", "/console/all/instances/names", "/console/all/instances/rows"]:
        response = Client().get(path)
        assert (response.status_code, response.headers["Location"][:13]) == (302, "/admin/login/")


def test_a_viewer_sees_types_times_and_states_and_gets_no_token(event, log_in):
    viewer = log_in("viewer")
    content, others = paths(event)
    for path in content:
        assert viewer.get(path).status_code == 403, path
    for path in others:
        text = viewer.get(path).content.decode()
        assert "messages.upsert" in text or path.endswith("audience"), path
        assert MARKER not in text, path
    page = viewer.get(others[0]).content.decode()
    assert "socket.io.js" not in page
    assert "Send a text message" not in page
    event_page = viewer.get(others[2]).content.decode()
    assert "Send again" not in event_page
    assert "HTTP 500" in event_page
    assert "secret" not in event_page
    for name in ("loja%20centro", "all/instances"):
        assert viewer.post(f"/console/{name}/token").json()["token"] is None
    states = viewer.get("/console/all/instances/states", {"of": ["2@loja centro", "1@loja centro", "2@x"]}).json()
    assert states == {"states": {"2@loja centro": {"dead": 1}}}


def test_a_limited_user_sees_his_instances_alone(event, loja, log_in):
    other = Instance.objects.create(name="filial")
    limited = log_in("operator", [other])
    content, others = paths(event)
    for path in [*content, *others]:
        assert limited.get(path).status_code == 404, path
    pk = Delivery.objects.get().pk
    assert limited.post(f"/console/loja%20centro/{event}/{pk}/again").status_code == 404
    for path in ("events", "rows"):
        assert limited.get(f"/console/all/instances/{path}").status_code == 403
    for name, is_his in (("loja%20centro", False), ("all/instances", False), ("filial", True)):
        assert (limited.post(f"/console/{name}/token").json()["token"] is not None) is is_his
    assert limited.get("/console/all/instances/states", {"of": "2@loja centro"}).json() == {"states": {}}
    names = limited.get("/console/all/instances/names").json()["instances"]
    assert [each["name"] for each in names] == ["filial"]
    for path in ("/console/", "/console/?choose=1", "/console/?q=loja"):
        text = limited.get(path).content.decode()
        assert "loja centro" not in text
    config = limited.get("/console/").context["config"]
    assert [each["namespace"] for each in json.loads(config)["namespaces"]] == ["/filial"]
    assert "There is no instance that you may see" in log_in("operator", []).get("/console/").content.decode()


@pytest.mark.bound("LIMIT_CONSOLE_NAMESPACES")
def test_many_instances_are_chosen_from(log_in):
    names = [f"filial {number:02}" for number in range(21)]
    many = Instance.objects.bulk_create([Instance(name=name, token="t" * 20, token_digest=name) for name in names])
    limited = log_in("operator", many)
    page = limited.get("/console/").content.decode()
    assert page.count("/console/filial") == 21
    assert limited.get("/console/", {"q": "filial 07"}).headers["Location"] == "/console/filial%2007"
    assert limited.get("/console/", {"q": "07"}).content.decode().count("/console/filial") == 1


def committed(instance):
    """Wait until `/` has the events that are recorded so far: on PostgreSQL other transactions may delay it."""
    while Event.objects.past(Event.objects.head()).filter(instance_id=instance.pk).count() < Event.objects.count():
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
def test_earlier_events_come_in_pages_from_the_last_one_back(loja, log_in):
    administrator = log_in()
    for number in range(4):  # after instance.create
        Event.objects.record(loja, EventType.LABELS_EDIT, {"id": str(number)})
    committed(loja)
    for path in ("/console/loja%20centro/events", "/console/all/instances/events"):
        first = administrator.get(path, {"limit": 3}).json()
        assert [each["seq"] for each in first["events"]] == [3, 4, 5]
        second = administrator.get(path, {"limit": 3, "before": first["older"]}).json()
        assert ([each["seq"] for each in second["events"]], second["older"]) == ([1, 2], None)
    gap = administrator.get("/console/loja%20centro/events", {"after": 1, "before": 4}).json()
    assert [each["seq"] for each in gap["events"]] == [2, 3]
    assert administrator.get("/console/loja%20centro/events", {"before": "x"}).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_earlier_events_end_where_an_earlier_visit_did(loja, log_in):
    administrator = log_in()
    for path in ("/console/loja%20centro/events", "/console/all/instances/events"):
        before = administrator.get(path).json()
        Event.objects.record(loja, EventType.LABELS_EDIT, {"id": "1"})
        committed(loja)
        after = administrator.get(path, {"upto": before["offset"]}).json()
        assert (after["events"], after["offset"]) == (before["events"], before["offset"])


@pytest.mark.django_db(transaction=True)
def test_rows_without_content_go_on_after_the_last(loja, log_in):
    viewer = log_in("viewer")
    for path in ("/console/loja%20centro/rows", "/console/all/instances/rows"):
        Event.objects.record(loja, EventType.LABELS_EDIT, {"id": "1"})
        committed(loja)
        first = viewer.get(path).json()
        recorded = Event.objects.record(loja, EventType.CALL, {"id": MARKER})
        committed(loja)
        second = viewer.get(path, {"after": first["next"]}).json()
        assert [(each["instance"], each["seq"], each["event"]) for each in second["rows"]] == [
            ("loja centro", recorded.seq, "call")
        ]
        assert viewer.get(path, {"after": second["next"]}).json()["rows"] == []


def test_a_delivery_is_sent_again_by_who_may(event, log_in):
    pk = Delivery.objects.get().pk
    again = f"/console/loja%20centro/{event}/{pk}/again"
    assert log_in("viewer").post(again).status_code == 403
    response = log_in("operator").post(again, follow=True)
    assert "Sent again: 1." in response.content.decode()
    new, name = Delivery.objects.exclude(pk=pk).get(), response.wsgi_request.user.get_username()
    assert (new.resent_from, new.event_id, new.asked_by) == (pk, event, f"{name} in the console")


def test_the_page_of_an_event_reads_no_more_for_many_endpoints(event, loja, log_in, django_assert_max_num_queries):
    delivery = Delivery.objects.get()
    for _ in range(30):
        create_attempt(create_delivery(create_endpoint(loja), delivery.seq, event_id=event))
    administrator = log_in()
    with django_assert_max_num_queries(16):
        page = administrator.get(f"/console/loja%20centro/{event}").content.decode()
    assert page.count("Its settings") == 31
    assert page.count("Copy as curl") == 31


def test_of_a_large_body_the_page_of_an_event_takes_the_beginning(event, loja, log_in, monkeypatch):
    url = "https://hook.example.com/a-secret-path"
    Delivery.objects.all().delete()
    data = b'{"event":"messages.upsert","data":"' + b"x" * 200_000 + b'"'
    Body.objects.create(event_id=event, transport="webhook", data=data + b"}", offset=len(data))
    destination = b',"destination":"%b"' % url.encode()
    for _ in range(3):
        shared = {"body": b"", "own_part": destination, "shared_size": len(data) + 1, "size": len(data) + 60}
        create_delivery(create_endpoint(loja, url), int(event.rpartition(".")[2]), event_id=event, **shared)
    whole = []
    monkeypatch.setattr(Payload, "__bytes__", lambda payload: whole.append(len(payload)) or b"")
    page = log_in().get(f"/console/loja%20centro/{event}").content.decode()
    assert whole == []
    assert page.count("BODY=body.json") == 3
    assert page.count("x" * (MAX_SHOWN - 100)) == 3
    assert len(page) < 4 * MAX_SHOWN + 20_000
    assert "a-secret-path" not in page


def test_no_body_is_read_for_a_viewer(event, log_in):
    Delivery.objects.update(size=77)
    with CaptureQueriesContext(connection) as queries:
        page = log_in("viewer").get(f"/console/loja%20centro/{event}").content.decode()
    assert not [query["sql"] for query in queries if 'realtime_body"' in query["sql"] or '."body"' in query["sql"]]
    assert "Request, 77 bytes" in page


def test_who_may_change_subscriptions_alone_has_a_console_with_content(event, loja):
    user = User.objects.create(username="integrator", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_subscription"))
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    config = json.loads(client.get("/console/loja%20centro").context["config"])
    assert (config["hasSocket"], config["hasContent"]) == (True, True)
    for path in ("/console/loja%20centro/events", "/console/all/instances/events"):
        assert client.get(path).status_code == 200
    assert MARKER in client.get(f"/console/loja%20centro/{event}/envelope").content.decode()
    pk = Delivery.objects.get().pk
    assert client.get(f"/console/loja%20centro/{event}/{pk}/body").status_code == 404
    assert client.post("/console/loja%20centro/token").json()["token"] is not None


@pytest.mark.bound("LIMIT_CONSOLE_DELIVERIES")
def test_the_page_of_an_event_shows_the_newest_of_many_deliveries(event, loja, log_in):
    delivery = Delivery.objects.get()
    endpoint = create_endpoint(loja)
    for _ in range(2 * CONSOLE_DELIVERIES):
        create_delivery(endpoint, delivery.seq, event_id=event)
    page = log_in().get(f"/console/loja%20centro/{event}").content.decode()
    assert page.count("Copy as curl") == CONSOLE_DELIVERIES
    assert f"/admin/realtime/delivery/?instance_id={loja.pk}" in page


@pytest.mark.bound("LIMIT_CONSOLE_EVENTS")
def test_a_response_has_so_many_events_at_most(loja, log_in):
    for number in range(CONSOLE_EVENTS + 10):
        Event.objects.record(loja, EventType.LABELS_EDIT, {"id": str(number)})
    administrator = log_in()
    for part in ("events", "rows"):
        response = administrator.get(f"/console/loja%20centro/{part}", {"limit": 100 * CONSOLE_EVENTS})
        assert len(response.json()[part]) == CONSOLE_EVENTS


def test_an_event_that_is_not_known_is_refused_in_words(event, loja, log_in):
    response = log_in().get(f"/console/loja%20centro/{event.partition('.')[0]}.9")
    assert response.status_code == 404
    assert "has not happened: the last one is" in response.content.decode()
    other = f"{'0' * 16}.{event.rpartition('.')[2]}"
    for path in (other, f"{other}/envelope", f"test.{'0' * 16}", f"test.{'0' * 16}/envelope"):
        assert log_in().get(f"/console/loja%20centro/{path}").status_code == 404


def test_websocket_settings_that_leave_events_out_are_named(loja, websocket_settings, log_in):
    websocket_settings(loja, enabled=True, events=["MESSAGES_UPSERT", "CALL"])
    page = log_in().get("/console/loja%20centro").content.decode()
    assert "leave out application.startup, instance.create" in page
    websocket_settings(loja, enabled=False)
    assert "settings of this instance are off" in log_in("viewer").get("/console/loja%20centro").content.decode()
