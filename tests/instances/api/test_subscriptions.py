"""POST /websocket/set and GET /websocket/find: the events that sockets receive."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from instances.events import DEFAULT_EVENTS
from tests.instances.whole_lists import ALL_OF_2_3, ALL_OF_2_4, MARKED
from tests.server import Number, Response, Server

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def instance(server) -> Number:
    return server.create()


def set_websocket(server: Server, instance: Number, body: Any, **options: Any) -> Response:
    return server.post(server.path("/websocket/set", instance), body, **({"key": instance.token} | options))


def find(server: Server, instance: Number) -> Response:
    return server.get(server.path("/websocket/find", instance), key=instance.token)


def test_find_without_settings_is_null(server, instance):
    response = find(server, instance)
    assert (response.status, response.body, response.headers["Content-Type"]) == (200, b"null", "application/json")


def test_setting_returns_the_row_that_find_returns(server, instance):
    response = set_websocket(server, instance, {"websocket": {"enabled": True, "events": ["CALL", "MESSAGES_UPSERT"]}})

    row = response.json
    assert response.status == 201
    assert list(row) == ["id", "enabled", "events", "createdAt", "updatedAt", "instanceId"]
    assert isinstance(row["id"], str)
    assert (row["enabled"], row["events"]) == (True, ["CALL", "MESSAGES_UPSERT"])
    assert row["instanceId"] == instance.id
    assert ISO.fullmatch(row["createdAt"])
    assert ISO.fullmatch(row["updatedAt"])
    found = find(server, instance)
    assert (found.status, found.json) == (200, row)


def test_setting_it_again_changes_the_same_row(server, instance):
    first = set_websocket(server, instance, {"websocket": {"enabled": True, "events": ["CALL"]}}).json
    second = set_websocket(server, instance, {"websocket": {"enabled": True, "events": ["CHATS_SET"]}}).json
    assert (second["id"], second["createdAt"]) == (first["id"], first["createdAt"])
    assert second["updatedAt"] >= first["updatedAt"]
    assert second["events"] == ["CHATS_SET"]


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "flat"])
@pytest.mark.parametrize(
    ("body", "enabled", "events"),
    [
        ({"enabled": True, "events": []}, True, DEFAULT_EVENTS),
        ({"enabled": True}, True, DEFAULT_EVENTS),
        ({"enabled": False}, False, []),
        ({"enabled": False, "events": ["CALL"]}, False, []),
        ({"enabled": True, "events": ["CALL", "CALL", "APPLICATION_STARTUP"]}, True, ["CALL", *DEFAULT_EVENTS[:1]]),
        ({"enabled": True, "events": ["GROUP_UPDATE"]}, True, ["GROUP_UPDATE"]),
        ({"enabled": True, "events": ["GROUPS_UPDATE"]}, True, ["GROUPS_UPDATE"]),
        ({"enabled": True, "events": ["BUSINESS_UPDATE"]}, True, ["BUSINESS_UPDATE"]),
        *(
            ({"enabled": True, "events": names}, True, DEFAULT_EVENTS)
            for names in (ALL_OF_2_4[::-1], ALL_OF_2_3, MARKED)
        ),
        ({"enabled": True, "events": MARKED[1:]}, True, MARKED[1:]),
        ({"enabled": True, "events": ["CALL"], "base64": 5, "rabbitmq": {}}, True, ["CALL"]),
    ],
)
def test_nested_and_flat_bodies_are_equivalent(server, instance, body, enabled, events, wrapped):
    response = set_websocket(server, instance, {"websocket": body} if wrapped else body)
    assert response.status == 201
    assert (response.json["enabled"], response.json["events"]) == (enabled, events)
    assert find(server, instance).json == response.json


def test_in_a_body_with_both_forms_the_nested_one_wins(server, instance):
    body = {"enabled": False, "events": [], "websocket": {"enabled": True, "events": ["CALL"]}}
    assert set_websocket(server, instance, body).json["events"] == ["CALL"]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({}, ['instance requires property "websocket"']),
        ({"events": ["CALL"]}, ['instance requires property "websocket"']),
        ({"webhook": {"enabled": True}}, ['instance requires property "websocket"']),
        ({"websocket": {}}, ['websocket requires property "enabled"']),
        ({"websocket": None}, ["websocket is not of a type(s) object"]),
        ({"websocket": []}, ["websocket is not of a type(s) object"]),
        ({"websocket": "on"}, ["websocket is not of a type(s) object"]),
        ({"websocket": {"enabled": "yes"}}, ["websocket.enabled is not of a type(s) boolean"]),
        ({"websocket": {"enabled": 1}}, ["websocket.enabled is not of a type(s) boolean"]),
        ({"websocket": {"enabled": None}}, ["websocket.enabled is not of a type(s) boolean"]),
        ({"enabled": "true"}, ["websocket.enabled is not of a type(s) boolean"]),
        ({"websocket": {"enabled": True, "events": None}}, ["websocket.events is not of a type(s) array"]),
        ({"websocket": {"enabled": True, "events": "CALL"}}, ["websocket.events is not of a type(s) array"]),
        ({"websocket": {"enabled": True, "events": {"0": "CALL"}}}, ["websocket.events is not of a type(s) array"]),
    ],
)
def test_an_error_in_a_body_names_the_member_and_nothing_changes(server, instance, body, messages):
    before = set_websocket(server, instance, {"websocket": {"enabled": True, "events": ["CALL"]}}).json

    response = set_websocket(server, instance, body)

    assert response.status == 400
    assert response.json == {"status": 400, "error": "Bad Request", "response": {"message": [messages]}}
    assert find(server, instance).json == before


@pytest.mark.parametrize("event", ["NOPE", "messages.upsert", "CREDS_UPDATE", "", None, 5, [], {}, True])
def test_an_unknown_event_is_refused_with_the_list_of_known_ones(server, instance, event):
    response = set_websocket(server, instance, {"websocket": {"enabled": True, "events": ["CALL", event]}})

    [[message, *nearest]] = response.json["response"]["message"]
    assert response.status == 400
    assert bool(nearest) is (event == "messages.upsert")
    assert message.startswith("websocket.events[1] is not one of enum values: " + ",".join(DEFAULT_EVENTS))
    assert find(server, instance).json is None


def test_concurrent_first_settings_leave_one_row(server, instance):
    with ThreadPoolExecutor(8) as pool:
        rows = list(
            pool.map(lambda _: set_websocket(server, instance, {"enabled": True, "events": ["CALL"]}), range(8))
        )
    assert [row.status for row in rows] == [201] * 8
    assert {row.json["id"] for row in rows} == {find(server, instance).json["id"]}


def test_settings_apply_to_open_sockets(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    steps = [
        ({"enabled": True, "events": ["MESSAGES_UPSERT"]}, ["messages.upsert"]),
        ({"enabled": True, "events": ["CONTACTS_UPSERT", "CHATS_UPSERT"]}, ["contacts.upsert", "chats.upsert"]),
        ({"enabled": False}, []),
        ({"enabled": True, "events": ["CALL"]}, []),
        ({"enabled": True}, ["messages.upsert", "contacts.upsert", "chats.update", "chats.upsert"]),
    ]
    received = []
    for settings, _ in steps:
        set_websocket(server, instance, settings)
        assert server.receive(instance).status == 200

    expected = [event for _, events in steps for event in events]
    for _ in expected:
        received.append(client.wait_for("event")["event"])
    assert received == expected


def test_settings_of_an_instance_do_not_change_another(server, instance):
    other = server.create()
    set_websocket(server, instance, {"enabled": False})
    assert find(server, other).json is None
