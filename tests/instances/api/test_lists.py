"""Lists in bodies and queries: their length is checked before their items, and repeats count once."""

from __future__ import annotations

import pytest

from instances.bounds import LIST_ITEMS, PUBLISHED_EVENTS
from instances.events import SUBSCRIBABLE

pytestmark = pytest.mark.any_database

TOO_LONG = f"does not meet maximum length of {LIST_ITEMS}"


@pytest.fixture
def instance(server):
    return server.create()


#: Routes that take a list of event names: the body around it, and the list in the response.
SETTERS = {
    "/websocket/set": (lambda events: {"websocket": {"enabled": True, "events": events}}, "events"),
    "/webhook/set": (
        lambda events: {"webhook": {"enabled": True, "url": "http://127.0.0.1:9/", "events": events}},
        "events",
    ),
    "/webhook/endpoints": (lambda events: {"url": "http://127.0.0.1:9/", "events": events}, "events"),
}


@pytest.mark.parametrize("route", SETTERS)
def test_repeated_event_names_are_stored_once(server, instance, route):
    body, member = SETTERS[route]
    names = ["CALL", *SUBSCRIBABLE, *["CALL"] * (LIST_ITEMS - len(SUBSCRIBABLE) - 1)]

    response = server.post(server.path(route, instance), body(names))

    assert response.status == 201
    assert response.json[member] == list(dict.fromkeys(names))


@pytest.mark.bound("LIMIT_LIST_ITEMS")
@pytest.mark.parametrize("item", ["CALL", "NO_SUCH_EVENT", {}, None])
@pytest.mark.parametrize("route", SETTERS)
def test_a_list_is_too_long_whatever_its_items_are(server, instance, route, item):
    """The response to 200,000 wrong names would have 200 MB if each had its sentence."""
    body, _ = SETTERS[route]
    for count in (LIST_ITEMS + 1, 200_000):
        response = server.post(server.path(route, instance), body([item] * count))
        assert response.status == 400
        assert TOO_LONG in response.json["response"]["message"][0][0]
        assert len(response.body) < 1000


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/websocket/token", {"scopes": ["listen"] * (LIST_ITEMS + 1)}),
        ("/webhook/deliveries/{}/resend", {"ids": [1] * (LIST_ITEMS + 1)}),
        ("/webhook/deliveries/{}/resend", {"state": ["dead"] * (LIST_ITEMS + 1)}),
        ("/webhook/deliveries/{}/resend", {"state": "dead," * 100_000}),
    ],
)
def test_every_list_has_a_length(server, instance, route, body):
    path = route.format(instance.name) if "{}" in route else server.path(route, instance)
    response = server.post(path, body)
    assert response.status == 400
    assert TOO_LONG in response.json["response"]["message"][0][0]


def test_repeated_scopes_are_one(server, instance):
    response = server.post(server.path("/websocket/token", instance), {"scopes": ["listen"] * LIST_ITEMS})
    assert (response.status, response.json["scopes"]) == (201, ["listen"])


@pytest.mark.bound("LIMIT_PUBLISHED_EVENTS")
def test_a_batch_of_too_many_events_is_refused_before_any_is_looked_at(server, instance):
    response = server.post(server.path("/event/publish", instance), [{}] * (PUBLISHED_EVENTS + 1))
    assert response.status == 400
    assert response.json["response"]["message"] == [[f"events does not meet maximum length of {PUBLISHED_EVENTS}"]]


def test_a_query_may_name_a_type_thousands_of_times(server, instance):
    query = ",".join(["instance.create"] * 3000)
    response = server.get(f"{server.path('/event/find', instance)}?type={query}")
    assert [event["event"] for event in response.json["events"]] == ["instance.create"]


@pytest.mark.parametrize("letter", ["a", " ", "\x01", "漢"])
def test_a_text_beyond_its_length_is_looked_at_no_further(server, instance, letter):
    """Each rule of a token takes time for each of its characters."""
    response = server.post(server.path("/instance/rotateToken", instance), {"token": letter * 1_000_000})
    assert response.status == 400
    assert response.json["response"]["message"] == [["token does not meet maximum length of 4096"]]
