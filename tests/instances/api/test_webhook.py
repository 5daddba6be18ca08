"""Evolution's routes for webhooks, which know a single one."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from instances.events import DEFAULT_EVENTS
from instances.models import ApiKey, Instance, Subscription
from realtime.delivery.models import Delivery
from tests.environment import GLOBAL_KEY
from tests.instances.api.webhooks import OTHER, URL, message

pytest_plugins = ("tests.rest",)

pytestmark = pytest.mark.any_database

ROW = [
    *("id", "url", "headers", "enabled", "events", "webhookByEvents", "webhookBase64"),
    *("createdAt", "updatedAt", "instanceId"),
]


def key_with(*scopes: str, **fields: Any) -> str:
    key, secret = ApiKey.objects.issue("a key", list(scopes), **fields)
    key.instances.set(Instance.objects.filter(name="loja"))
    return secret


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
    assert status in (200, 201, 400, 404)
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


# Through the real server


def test_concurrent_first_settings_leave_one_endpoint(server):
    instance = server.create()
    path = server.path("/webhook/set", instance)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: server.post(path, {"url": URL, "enabled": False}, key=instance.token), range(8)))
    assert [row.status for row in rows] == [201] * 8
    assert len({row.json["id"] for row in rows}) == 1


def test_find_without_a_webhook_is_null_over_http(server):
    instance = server.create()
    response = server.get(server.path("/webhook/find", instance), key=instance.token)
    assert (response.status, response.body, response.headers["Content-Type"]) == (200, b"null", "application/json")
