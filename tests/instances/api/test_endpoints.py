"""/webhook/endpoints, which knows several webhooks of an instance."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from instances.events import DEFAULT_EVENTS
from instances.models import Instance, Subscription
from realtime.counters.hours import this_hour
from realtime.counters.models import EndpointHour
from realtime.delivery.models import Delivery, State
from tests.environment import GLOBAL_KEY
from tests.instances.api.webhooks import OTHER, URL, message

pytest_plugins = ("tests.rest",)

pytestmark = pytest.mark.any_database

ENDPOINT_ROW = [
    *("id", "url", "headers", "events", "enabled", "byEvents", "base64", "ordered", "followRedirects"),
    "secrets",
    *("oldSecretUntil", "failingSince", "disabledReason", "health", "createdAt", "updatedAt"),
]


OWN_SECRET = "whsec_" + "A" * 32


def test_an_instance_may_have_several_endpoints(call, set_webhook):
    first = set_webhook(events=["CALL"])
    status, second = call("POST", "/webhook/endpoints/loja", {"url": OTHER, "ordered": True, "headers": {"a": "b"}})

    assert status == 201
    assert list(second) == ENDPOINT_ROW
    assert (second["url"], second["ordered"], second["byEvents"], second["base64"]) == (OTHER, True, False, False)
    assert (second["enabled"], second["events"], second["headers"]) == (True, DEFAULT_EVENTS, {"a": "b"})
    assert (second["failingSince"], second["disabledReason"]) == (None, None)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", second["secrets"][0])
    rows = call("GET", "/webhook/endpoints/loja")[1]
    assert [row["id"] for row in rows] == [first["id"], second["id"]]
    assert rows[1] == second == call("GET", f"/webhook/endpoints/loja/{second['id']}")[1]
    # Evolution's routes use the first one
    assert call("GET", "/webhook/find/loja") == (200, first)
    assert set_webhook(url=URL + "2")["id"] == first["id"]
    assert call("GET", f"/webhook/endpoints/loja/{second['id']}")[1] == second


@pytest.mark.parametrize(
    ("members", "changed"),
    [
        ({}, {}),
        ({"url": OTHER}, {"url": OTHER}),
        ({"enabled": False}, {"enabled": False}),
        ({"events": ["CALL"]}, {"events": ["CALL"]}),
        ({"events": []}, {"events": DEFAULT_EVENTS}),
        ({"headers": {"c": "d"}}, {"headers": {"c": "d"}}),
        ({"headers": None}, {"headers": {}}),
        ({"byEvents": True, "base64": True, "ordered": True}, {"byEvents": True, "base64": True, "ordered": True}),
        ({"followRedirects": True}, {"followRedirects": True}),
    ],
)
def test_a_patch_changes_only_its_members(call, members, changed):
    body = {"url": URL, "headers": {"a": "b"}, "events": ["CHATS_SET"]}
    row = call("POST", "/webhook/endpoints/loja", body)[1]
    status, now = call("PATCH", f"/webhook/endpoints/loja/{row['id']}", members)
    assert status == 200
    assert now | {"updatedAt": ""} == row | changed | {"updatedAt": ""}
    assert call("GET", f"/webhook/endpoints/loja/{row['id']}")[1] == now


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"url": ""}, 'The "url" cannot be empty'),
        ({"url": None}, "url is not of a type(s) string"),
        ({"enabled": 1}, "enabled is not of a type(s) boolean"),
        ({"enabled": None}, "enabled is not of a type(s) boolean"),
        ({"followRedirects": "x"}, "followRedirects is not of a type(s) boolean"),
        ({"ordered": "x"}, "ordered is not of a type(s) boolean"),
        ({"rotateSecret": "x"}, "rotateSecret is not of a type(s) boolean"),
        ({"rotateSecret": True, "overlapSeconds": "60"}, "overlapSeconds is not of a type(s) integer"),
        ({"rotateSecret": True, "overlapSeconds": -1}, "overlapSeconds must be greater than or equal to 0"),
        ({"rotateSecret": True, "overlapSeconds": 2592001}, "overlapSeconds must be less than or equal to 2592000"),
        ({"events": "CALL"}, "events is not of a type(s) array"),
        ({"headers": []}, "headers is not of a type(s) object"),
        ({"secret": 5}, "secret is not of a type(s) string"),
        ({"secret": ""}, 'The "secret" cannot be empty'),
        ({"secret": "whsec_x"}, "A signing secret is whsec_ and base64"),
        ({"secret": "whsec_" + "A" * 4}, "A signing secret holds 24 to 64 bytes, in base64"),
        ({"secret": "A" * 32}, "A signing secret begins with whsec_"),
    ],
)
def test_an_invalid_patch_changes_nothing(call, members, text):
    row = call("POST", "/webhook/endpoints/loja", {"url": URL})[1]
    status, response = call("PATCH", f"/webhook/endpoints/loja/{row['id']}", members | {"byEvents": True})
    assert (status, message(response)) == (400, [[text]])
    assert call("GET", f"/webhook/endpoints/loja/{row['id']}")[1] == row


def test_a_rotated_secret_is_kept_beside_its_predecessor_until_that_is_dropped(call):
    row = call("POST", "/webhook/endpoints/loja", {"url": URL, "secret": OWN_SECRET})[1]
    path = f"/webhook/endpoints/loja/{row['id']}"
    assert row["secrets"] == [OWN_SECRET]

    second = call("PATCH", path, {"rotateSecret": True})[1]["secrets"]
    third = call("PATCH", path, {"rotateSecret": True})[1]["secrets"]

    assert second[1:] == [OWN_SECRET]
    assert third[1:] == second[:1]
    assert len({OWN_SECRET, second[0], third[0]}) == 3
    assert call("PATCH", path, {"rotateSecret": False, "dropOldSecret": False})[1]["secrets"] == third
    assert call("PATCH", path, {"dropOldSecret": True})[1]["secrets"] == third[:1]
    assert call("PATCH", path, {"secret": OWN_SECRET})[1]["secrets"] == [OWN_SECRET, third[0]]
    assert call("PATCH", path, {"rotateSecret": True, "dropOldSecret": True})[1]["secrets"] != [OWN_SECRET]


def test_the_old_secret_of_a_rotation_ends_after_the_overlap(call, monkeypatch):
    row = call("POST", "/webhook/endpoints/loja", {"url": URL, "secret": OWN_SECRET})[1]
    path = f"/webhook/endpoints/loja/{row['id']}"
    assert row["oldSecretUntil"] is None
    both = call("PATCH", path, {"rotateSecret": True, "overlapSeconds": 3600})[1]
    until = datetime.fromisoformat(both["oldSecretUntil"])
    assert abs(until - timezone.now() - timedelta(hours=1)) < timedelta(minutes=1)
    assert both["secrets"][1:] == [OWN_SECRET]

    sooner = call("PATCH", path, {"overlapSeconds": 60})[1]
    assert datetime.fromisoformat(sooner["oldSecretUntil"]) < until - timedelta(minutes=50)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    alone = call("GET", path)[1]
    assert (alone["secrets"], alone["oldSecretUntil"]) == (both["secrets"][:1], None)
    status, response = call("PATCH", path, {"overlapSeconds": 60})
    assert (status, message(response)) == (
        400,
        ['There is no old secret: "overlapSeconds" goes with "rotateSecret" or "secret"'],
    )
    third = call("PATCH", path, {"rotateSecret": True})[1]
    assert third["secrets"][1:] == both["secrets"][:1], "the one that has ended does not come back"
    assert third["oldSecretUntil"] is None, "until it is dropped"
    assert len(call("PATCH", path, {"rotateSecret": True, "overlapSeconds": 0})[1]["secrets"]) == 1


def test_enabling_an_endpoint_that_was_disabled_automatically_resets_its_failures(call):
    row = call("POST", "/webhook/endpoints/loja", {"url": URL, "events": ["CALL"]})[1]
    Subscription.objects.update(is_enabled=False, failing_since=timezone.now(), disabled_reason="It is gone")
    path = f"/webhook/endpoints/loja/{row['id']}"
    found = call("GET", path)[1]
    assert (found["enabled"], found["disabledReason"], found["failingSince"] is None) == (False, "It is gone", False)

    # changing something else does not reset the failures
    assert call("PATCH", path, {"byEvents": True})[1]["disabledReason"] == "It is gone"
    now = call("PATCH", path, {"enabled": True})[1]

    assert (now["enabled"], now["disabledReason"], now["failingSince"]) == (True, None, None)
    assert now["events"] == ["CALL"]


def test_an_endpoint_disabled_by_evolutions_route_receives_all_events_once_enabled(call, set_webhook):
    row = set_webhook(enabled=False)
    assert call("PATCH", f"/webhook/endpoints/loja/{row['id']}", {"enabled": True})[1]["events"] == DEFAULT_EVENTS


def test_an_endpoint_without_a_url_cannot_be_enabled(call, set_webhook):
    row = set_webhook(enabled=False, url="vazio")
    status, response = call("PATCH", f"/webhook/endpoints/loja/{row['id']}", {"enabled": True})
    assert (status, message(response)) == (400, ['The "url" cannot be empty'])


def test_an_instance_has_twenty_endpoints_at_most(call, other):
    for _ in range(20):
        assert call("POST", "/webhook/endpoints/loja", {"url": URL})[0] == 201
    status, response = call("POST", "/webhook/endpoints/loja", {"url": URL})
    assert (status, message(response)) == (409, ["An instance may have 20 webhook endpoints"])
    assert call("POST", "/webhook/endpoints/other", {"url": URL}, GLOBAL_KEY)[0] == 201


def test_an_endpoint_with_a_host_that_is_no_longer_allowed_cannot_be_enabled(call, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.0.0.0/8")]
    body = {"url": "http://10.0.0.1/in", "enabled": False}
    path = f"/webhook/endpoints/loja/{call('POST', '/webhook/endpoints/loja', body)[1]['id']}"
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    assert call("PATCH", path, {"enabled": True})[0] == 400
    assert call("GET", path)[1]["enabled"] is False
    assert call("PATCH", path, {"ordered": True})[0] == 200


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_ids_of_other_instances_and_invalid_ids_get_the_same_error(call, other, method):
    foreign = call("POST", "/webhook/endpoints/other", {"url": URL}, other.token.reveal())[1]["id"]
    socket = Subscription.set_websocket(Instance.objects.get(name="loja"), True, [])
    of_all = Subscription.objects.create(transport="webhook", options={"url": URL})
    for pk in (
        foreign,
        socket.pk,
        of_all.pk,
        "0",
        "-1",
        "999999",
        "9" * 18,
        "9" * 30,
        "x",
        "1.0",
        "\u0661",
        "1e3",
        " ",
    ):
        status, response = call(
            method, f"/webhook/endpoints/loja/{pk}", {"enabled": False} if method == "PATCH" else None
        )
        assert (status, message(response)) == (404, [f'The "loja" instance has no endpoint {str(pk)[:20]}'])
    assert Subscription.objects.filter(is_enabled=True).count() == 3


def test_deleting_an_endpoint_drops_its_pending_deliveries(call, loja):
    gone, kept = (int(call("POST", "/webhook/endpoints/loja", {"url": URL})[1]["id"]) for _ in range(2))
    for endpoint_id in (gone, kept):
        for state in (State.PENDING, State.DEAD):
            a_delivery(loja, endpoint_id=endpoint_id, state=state)
    in_flight = a_delivery(loja, endpoint_id=gone, lease="a-worker")

    assert call("DELETE", f"/webhook/endpoints/loja/{gone}")[0] == 200

    assert call("DELETE", f"/webhook/endpoints/loja/{gone}")[0] == 404
    in_flight.refresh_from_db()
    assert in_flight.state == State.PENDING, "the worker that sends it stores its result"
    in_flight.delete()
    assert Delivery.objects.get(endpoint_id=gone, state=State.DROPPED).reason == "Its endpoint was deleted"
    states = {pk: set(Delivery.objects.filter(endpoint_id=pk).values_list("state", flat=True)) for pk in (gone, kept)}
    assert states == {gone: {State.DROPPED, State.DEAD}, kept: {State.PENDING, State.DEAD}}
    assert [row["id"] for row in call("GET", "/webhook/endpoints/loja")[1]] == [str(kept)]


def a_delivery(instance: Instance, **fields: Any) -> Delivery:
    known = {"event_id": f"{uuid4().hex[:16]}.1", "name": instance.name, "seq": 1, "type": "call", "body": b"{}"}
    known |= {"endpoint_id": 1, "transport": "webhook", "destination": URL}
    return Delivery.objects.create(instance_id=instance.pk, **known | fields)


def test_concurrent_additions_leave_twenty_endpoints(server):
    instance = server.create()
    path = server.path("/webhook/endpoints", instance)
    with ThreadPoolExecutor(8) as pool:
        rows = list(
            pool.map(lambda _: server.post(path, {"url": URL, "enabled": False}, key=instance.token), range(28))
        )
    assert sorted(row.status for row in rows) == [201] * 20 + [409] * 8


def test_the_health_of_an_endpoint_is_that_of_24_hours(call):
    rows = [call("POST", "/webhook/endpoints/loja", {"url": f"{URL}/{number}"})[1] for number in range(3)]
    nothing = {"attempts": 0, "failed": 0, "successRate": None, "meanMs": None, "maxMs": None}
    assert rows[0]["health"] == nothing
    counts = {"delivered": 2, "failed": 1, "latency_ms": 400, "max_latency_ms": 300}
    EndpointHour.objects.create(endpoint_id=rows[1]["id"], hour=this_hour(), **counts)
    EndpointHour.objects.create(endpoint_id=rows[1]["id"], hour=this_hour() - 24, **counts)

    found = call("GET", "/webhook/endpoints/loja")[1]
    assert [row["health"] for row in found] == [
        nothing,
        {"attempts": 3, "failed": 1, "successRate": 0.6667, "meanMs": 133.3, "maxMs": 300},
        nothing,
    ]
