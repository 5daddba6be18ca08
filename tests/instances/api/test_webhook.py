"""Webhook settings: Evolution's routes, which know a single webhook, and /webhook/endpoints, which knows several."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from instances.events import DEFAULT_EVENTS
from instances.models import ApiKey, Instance, Subscription
from realtime.delivery.models import Delivery, State
from tests.environment import GLOBAL_KEY

pytest_plugins = ("tests.rest",)

pytestmark = pytest.mark.any_database

URL = "https://hook.example.com/in"
OTHER = "https://other.example.com/in"
ROW = [
    *("id", "url", "headers", "enabled", "events", "webhookByEvents", "webhookBase64"),
    *("createdAt", "updatedAt", "instanceId"),
]
ENDPOINT_ROW = [
    *("id", "url", "headers", "events", "enabled", "byEvents", "base64", "ordered", "secrets"),
    *("failingSince", "disabledReason", "createdAt", "updatedAt"),
]
OWN_SECRET = "whsec_" + "A" * 32


@pytest.fixture
def set_webhook(call) -> Any:
    def set_webhook(**members: Any) -> Any:
        status, row = call("POST", "/webhook/set/loja", {"webhook": {"enabled": True, "url": URL} | members})
        assert status == 201, row
        return row

    return set_webhook


def key_with(*scopes: str, **fields: Any) -> str:
    key, secret = ApiKey.objects.issue("a key", list(scopes), **fields)
    key.instances.set(Instance.objects.filter(name="loja"))
    return secret


def message(response: Any) -> Any:
    return response["response"]["message"]


# POST /webhook/set and GET /webhook/find


def test_find_without_a_webhook_is_null(call):
    assert call("GET", "/webhook/find/loja") == (200, None)


def test_setting_returns_the_row_that_find_returns(call, loja):
    body = {
        "enabled": True,
        "url": URL,
        "headers": {"authorization": "Bearer abc", "jwt_key": "s3cret"},
        "byEvents": True,
        "base64": True,
        "events": ["MESSAGES_UPSERT", "CALL"],
    }
    status, row = call("POST", "/webhook/set/loja", {"webhook": body})

    assert status == 201
    assert list(row) == ROW
    assert isinstance(row["id"], str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["createdAt"])
    assert row["instanceId"] == str(loja.pk)
    assert {name: row[name] for name in ("enabled", "url", "headers", "events")} == {
        name: body[name] for name in ("enabled", "url", "headers", "events")
    }
    assert (row["webhookByEvents"], row["webhookBase64"]) == (True, True)
    assert call("GET", "/webhook/find/loja") == (200, row)


@pytest.mark.parametrize(
    "body",
    [
        {"webhook": {"enabled": True, "url": URL, "byEvents": True, "base64": True, "events": ["CALL"]}},
        {"webhook": {"enabled": True, "url": URL, "webhookByEvents": True, "webhookBase64": True, "events": ["CALL"]}},
        {"url": URL, "webhook_by_events": True, "webhook_base64": True, "events": ["CALL"]},
        {"enabled": True, "url": URL, "webhookByEvents": True, "webhookBase64": True, "events": ["CALL"]},
        {"enabled": True, "url": URL, "byEvents": True, "base64": True, "events": ["CALL"], "unknown": {"a": 1}},
    ],
    ids=["v2.1", "n8n", "v1", "v2.0", "flat"],
)
def test_all_forms_of_the_body_are_equivalent(call, body):
    status, row = call("POST", "/webhook/set/loja", body)
    assert status == 201
    assert {name: row[name] for name in ROW[1:7]} == {
        "url": URL,
        "headers": None,
        "enabled": True,
        "events": ["CALL"],
        "webhookByEvents": True,
        "webhookBase64": True,
    }


def test_absent_members_stay_unchanged(set_webhook):
    first = set_webhook(headers={"a": "b"}, byEvents=True, base64=True, events=["CALL"])
    second = set_webhook(url=OTHER)
    assert (second["id"], second["createdAt"]) == (first["id"], first["createdAt"])
    assert second["url"] == OTHER
    assert (second["headers"], second["webhookByEvents"], second["webhookBase64"]) == ({"a": "b"}, True, True)
    assert second["events"] == DEFAULT_EVENTS


@pytest.mark.parametrize(
    ("headers", "stored"),
    [({}, {}), (None, {}), ({"x-a": 5, "x-b": True}, {"x-a": "5", "x-b": "true"}), ({"x": "é ✓"}, {"x": "é ✓"})],
)
def test_headers_are_replaced_completely(set_webhook, headers, stored):
    set_webhook(headers={"a": "b"})
    assert set_webhook(headers=headers)["headers"] == stored


@pytest.mark.parametrize(
    ("members", "events"),
    [
        ({"enabled": True}, DEFAULT_EVENTS),
        ({"enabled": True, "events": []}, DEFAULT_EVENTS),
        ({"enabled": True, "events": ["GROUP_UPDATE"]}, ["GROUP_UPDATE"]),
        ({"enabled": False}, []),
        ({"enabled": False, "events": ["CALL"]}, []),
    ],
)
def test_no_events_means_all_and_a_disabled_webhook_keeps_its_url_alone(set_webhook, members, events):
    row = set_webhook(**members)
    assert (row["enabled"], row["events"], row["url"]) == (members["enabled"], events, URL)


def test_a_webhook_is_disabled_without_its_url(call, set_webhook):
    """n8n's node sends `vazio`."""
    assert set_webhook(enabled=False, url="vazio")["url"] == ""
    set_webhook()
    row = set_webhook(enabled=False, url="vazio")
    assert (row["url"], row["enabled"]) == (URL, False)
    assert call("POST", "/webhook/set/loja", {"webhook": {"enabled": True, "url": "vazio"}})[0] == 400


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({}, ['instance requires property "webhook"']),
        ({"enabled": True}, ['instance requires property "webhook"']),
        ({"webhook": {}}, ['webhook requires property "enabled"', 'webhook requires property "url"']),
        ({"webhook": None}, ["webhook is not of a type(s) object"]),
        ({"webhook": URL}, ["webhook is not of a type(s) object"]),
        ({"webhook": {"enabled": "yes", "url": URL}}, ["webhook.enabled is not of a type(s) boolean"]),
        ({"webhook": {"enabled": True, "url": ""}}, ['The "url" cannot be empty']),
        ({"webhook": {"enabled": False, "url": "", "events": []}}, ['The "url" cannot be empty']),
        ({"webhook": {"enabled": True, "url": None}}, ["webhook.url is not of a type(s) string"]),
        ({"webhook": {"enabled": True, "url": 5}}, ["webhook.url is not of a type(s) string"]),
        ({"webhook": {"enabled": True, "url": URL + "\x00"}}, ["webhook.url must not contain NUL characters"]),
        (
            {"webhook": {"enabled": True, "url": URL + "x" * 2048}},
            ["webhook.url does not meet maximum length of 2048"],
        ),
        ({"webhook": {"enabled": True, "url": URL, "headers": "x"}}, ["webhook.headers is not of a type(s) object"]),
        ({"webhook": {"enabled": True, "url": URL, "byEvents": 1}}, ["webhook.byEvents is not of a type(s) boolean"]),
        ({"url": URL, "webhook_base64": "no"}, ["webhook.base64 is not of a type(s) boolean"]),
        ({"webhook": {"enabled": True, "url": URL, "events": None}}, ["webhook.events is not of a type(s) array"]),
    ],
)
def test_an_error_in_a_body_names_the_member_and_nothing_changes(call, set_webhook, body, messages):
    before = set_webhook(headers={"a": "b"}, events=["CALL"])
    status, response = call("POST", "/webhook/set/loja", body)
    assert (status, message(response)) == (400, [messages])
    assert call("GET", "/webhook/find/loja") == (200, before)


@pytest.mark.parametrize("event", ["NOPE", "messages.upsert", "CREDS_UPDATE", "", None, 5, [], {}])
def test_an_unknown_event_is_refused(call, event):
    status, response = call("POST", "/webhook/set/loja", {"url": URL, "events": ["CALL", event]})
    assert status == 400
    assert message(response)[0][0].startswith("webhook.events[1] is not one of enum values: APPLICATION_STARTUP,")
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    "url",
    ["vazio", "ftp://a.example/x", "https://", "http://127.0.0.1/x", "http://10.1.2.3", "http://[::1]/", "//a.example"],
)
@pytest.mark.parametrize("route", ["/webhook/set/loja", "/webhook/endpoints/loja", "/instance/create"])
def test_a_url_that_is_invalid_or_not_public_is_refused_with_a_reason(call, settings, route, url):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    body = {"url": url}
    if route == "/instance/create":
        body = {"instanceName": "new", "integration": "EVOLUTION", "webhook": body}
    status, response = call("POST", route, body, GLOBAL_KEY)
    assert status == 400
    assert [type(line) for line in message(response)] == [str]
    assert not Subscription.objects.exists()
    assert Instance.objects.count() == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"content-length": "5"},
        {"Webhook-Id": "x"},
        {"a b": "x"},
        {"": "x"},
        {"x\x00": "x"},
        {"x": "a\r\nb: c"},
        {"x": "a\x00"},
        {"x": " a"},
        {"x": {"a": 1}},
        {"x": None},
        {"jwt_key": ""},
        {"a": "1", "A": "2"},
        {"x": "a" * 70_000},
        {f"x-{n}": "a" for n in range(60)},
    ],
)
def test_invalid_headers_are_refused(call, headers):
    for route in ("/webhook/set/loja", "/webhook/endpoints/loja"):
        status, _ = call("POST", route, {"url": URL, "headers": headers})
        assert status == 400
    assert not Subscription.objects.exists()


def test_values_of_headers_and_secrets_are_masked_without_the_scope_manage(call, set_webhook):
    row = set_webhook(headers={"authorization": "Bearer abc", "jwt_key": "s3cret"})
    masked = {"authorization": "********", "jwt_key": "********"}
    path = f"/webhook/endpoints/loja/{row['id']}"
    for key, headers in [
        (GLOBAL_KEY, row["headers"]),
        (key_with("read", "manage"), row["headers"]),
        (key_with("read"), masked),
        (key_with("read", all_instances=True), masked),
    ]:
        assert call("GET", "/webhook/find/loja", key=key)[1]["headers"] == headers
        found = call("GET", path, key=key)[1]
        assert found["headers"] == headers
        assert found["secrets"][0].startswith("whsec_") is (headers != masked)
        assert call("GET", "/webhook/endpoints/loja", key=key)[1] == [found]


def test_headers_and_secrets_are_encrypted_in_the_database(set_webhook):
    set_webhook(headers={"authorization": "Bearer abcdef", "jwt_key": "s3cret"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM instances_subscription")
        stored = str(cursor.fetchall())
    assert "Bearer abcdef" not in stored
    assert "s3cret" not in stored
    assert "whsec_" not in stored


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/webhook/set/loja"),
        ("POST", "/webhook/endpoints/loja"),
        ("PATCH", "/webhook/endpoints/loja/{id}"),
        ("DELETE", "/webhook/endpoints/loja/{id}"),
    ],
)
def test_a_key_without_the_scope_manage_changes_nothing(call, set_webhook, method, path):
    before = set_webhook()
    key = key_with("read", "listen", "send", "publish")
    status, response = call(method, path.format(id=before["id"]), {"url": OTHER, "enabled": False}, key)
    assert (status, message(response)) == (403, ["This key may not manage"])
    assert call("GET", "/webhook/find/loja") == (200, before)
    assert Subscription.objects.count() == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/webhook/find/loja"),
        ("GET", "/webhook/endpoints/loja"),
        ("GET", "/webhook/endpoints/loja/{id}"),
        ("POST", "/webhook/set/loja"),
        ("POST", "/webhook/endpoints/loja"),
        ("PATCH", "/webhook/endpoints/loja/{id}"),
        ("DELETE", "/webhook/endpoints/loja/{id}"),
    ],
)
def test_query_and_body_cannot_name_another_instance_than_the_path(call, client, set_webhook, other, method, path):
    row = set_webhook()
    path = path.format(id=row["id"])
    for key in (other.token.reveal(), "no-key"):
        assert call(method, path, {"url": OTHER}, key)[0] == 401
    # and the query does not stand in for the path
    query = f"?instanceName=loja&name=loja&instanceId={row['instanceId']}"
    body = {"url": OTHER, "instanceName": "loja", "instance": "loja"}
    status, _ = call(method, path.replace("loja", "other") + query, body, other.token.reveal())
    assert status in (200, 201, 404)
    assert call("GET", "/webhook/find/loja") == (200, row)


# POST /instance/create


def test_a_webhook_of_a_creation_receives_events_from_the_first_on(call):
    webhook = {"url": URL, "headers": {"a": "b"}, "byEvents": True, "base64": False, "events": ["INSTANCE_CREATE"]}
    body = {"instanceName": "new", "integration": "EVOLUTION", "webhook": webhook}
    status, response = call("POST", "/instance/create", body, GLOBAL_KEY)

    assert status == 201
    assert response["webhook"] == {
        "webhookUrl": URL,
        "webhookHeaders": {"a": "b"},
        "webhookByEvents": True,
        "webhookBase64": False,
    }
    row = call("GET", "/webhook/find/new", key=response["hash"])[1]
    assert {name: row[name] for name in ROW[1:7]} == {
        "url": URL,
        "headers": {"a": "b"},
        "enabled": True,
        "events": ["INSTANCE_CREATE"],
        "webhookByEvents": True,
        "webhookBase64": False,
    }
    [delivery] = Delivery.objects.all()
    assert (delivery.type, delivery.endpoint_id) == ("instance.create", int(row["id"]))


@pytest.mark.parametrize(
    ("members", "enabled", "events", "by_events"),
    [
        ({"webhook": URL}, True, DEFAULT_EVENTS, False),
        ({"webhook": URL, "webhook_by_events": True, "events": ["CALL"]}, True, ["CALL"], True),
        ({"webhook": {"url": URL}}, True, DEFAULT_EVENTS, False),
        ({"webhook": {"url": URL, "enabled": False, "events": ["CALL"]}}, False, [], False),
        ({"webhook": {"url": URL, "events": []}, "events": 5}, True, DEFAULT_EVENTS, False),
    ],
)
def test_all_forms_of_a_webhook_at_creation_are_accepted(call, members, enabled, events, by_events):
    body = {"instanceName": "new", "integration": "EVOLUTION"} | members
    status, response = call("POST", "/instance/create", body, GLOBAL_KEY)
    assert (status, response["webhook"]["webhookUrl"]) == (201, URL)
    row = call("GET", "/webhook/find/new", key=GLOBAL_KEY)[1]
    assert (row["enabled"], row["events"], row["webhookByEvents"]) == (enabled, events, by_events)


@pytest.mark.parametrize("members", [{}, {"webhook": ""}, {"events": 5, "webhook_by_events": "x"}, {"webhookUrl": 5}])
def test_a_creation_without_a_webhook_adds_none(call, members):
    body = {"instanceName": "new", "integration": "EVOLUTION"} | members
    status, response = call("POST", "/instance/create", body, GLOBAL_KEY)
    assert (status, response["webhook"]) == (201, {})
    assert call("GET", "/webhook/find/new", key=GLOBAL_KEY)[1] is None


@pytest.mark.parametrize(
    "webhook",
    [None, 5, [], {}, {"url": ""}, {"url": 5}, {"url": URL, "events": ["NOPE"]}, {"url": URL, "headers": {"a b": "c"}}],
)
def test_an_invalid_webhook_creates_nothing(call, webhook):
    body = {"instanceName": "new", "integration": "EVOLUTION", "webhook": webhook}
    status, _ = call("POST", "/instance/create", body, GLOBAL_KEY)
    assert status == 400
    assert (Instance.objects.count(), Subscription.objects.count()) == (1, 0)


def test_a_creation_with_a_name_in_use_changes_nothing(call, set_webhook):
    before = set_webhook()
    body = {"instanceName": "loja", "integration": "EVOLUTION", "webhook": {"url": OTHER}}
    assert call("POST", "/instance/create", body, GLOBAL_KEY)[0] == 403
    assert call("GET", "/webhook/find/loja") == (200, before)
    assert Subscription.objects.count() == 1


# /webhook/endpoints


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
        ({"id": "77", "instanceId": "x", "transport": "rabbitmq", "createdAt": 5}, {}),
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
        ({"ordered": "x"}, "ordered is not of a type(s) boolean"),
        ({"rotateSecret": "x"}, "rotateSecret is not of a type(s) boolean"),
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


# Through the real server


def test_concurrent_first_settings_leave_one_endpoint(server):
    instance = server.create()
    path = server.path("/webhook/set", instance)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: server.post(path, {"url": URL, "enabled": False}, key=instance.token), range(8)))
    assert [row.status for row in rows] == [201] * 8
    assert len({row.json["id"] for row in rows}) == 1


def test_concurrent_additions_leave_twenty_endpoints(server):
    instance = server.create()
    path = server.path("/webhook/endpoints", instance)
    with ThreadPoolExecutor(8) as pool:
        rows = list(
            pool.map(lambda _: server.post(path, {"url": URL, "enabled": False}, key=instance.token), range(28))
        )
    assert sorted(row.status for row in rows) == [201] * 20 + [409] * 8


def test_find_without_a_webhook_is_null_over_http(server):
    instance = server.create()
    response = server.get(server.path("/webhook/find", instance), key=instance.token)
    assert (response.status, response.body, response.headers["Content-Type"]) == (200, b"null", "application/json")
