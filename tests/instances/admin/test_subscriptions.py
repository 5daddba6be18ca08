"""The admin of websocket settings, through Django's client."""

from __future__ import annotations

import html
import re

import pytest

from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE, EventGroup, EventType
from instances.models import Subscription
from tests.instances.admin.pages import at, errors_of


def test_events_are_checkboxes_by_group_with_a_line_on_what_each_means(admin_client, db):
    page = admin_client.get(at("add", Subscription)).content.decode()

    fields = re.findall(r'<fieldset class="event-group">(.*?)</fieldset>', page, re.DOTALL)
    assert [re.search("<legend>(.*?)</legend>", field)[1] for field in fields] == [
        str(each.label) for each in EventGroup
    ]
    found = {}
    for name, pk, attrs in re.findall(
        r'<input type="checkbox" name="events" value="(\w+)"[^>]* id="(\w+)"([^>]*)>', page
    ):
        assert f'aria-describedby="{pk}_text"' in attrs
        found[name] = html.unescape(re.search(f'<span id="{pk}_text"[^>]*>(.*?)</span>', page)[1])
    assert set(found) == set(SUBSCRIBABLE) > {"GROUP_UPDATE", "GROUPS_UPDATE"}
    assert found.pop("GROUP_UPDATE") == "The same as GROUPS_UPDATE, in Evolution API's spelling."
    assert found == {name: EventType[name].label for name in found}


def test_events_are_stored_in_evolutions_order(admin_client, instance):
    names = ["CALL", "QRCODE_UPDATED", "SEND_MESSAGE", "ENDPOINT_DISABLED"]
    admin_client.post(at("add", Subscription), {"instance": str(instance.pk), "is_enabled": "on", "events": names})
    assert Subscription.objects.get().events == sorted(names, key=SUBSCRIBABLE.index)


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        ({"is_enabled": "on", "events": ["CALL", "SEND_MESSAGE"]}, ["SEND_MESSAGE", "CALL"]),
        ({"is_enabled": "on"}, []),
        ({"events": ["CALL"]}, []),
    ],
)
def test_websocket_settings_follow_evolutions_rules(admin_client, instance, form, stored):
    admin_client.post(at("add", Subscription), {"instance": str(instance.pk)} | form)

    subscription = Subscription.objects.get()
    assert (subscription.instance, subscription.transport) == (instance, "websocket")
    assert sorted(subscription.events) == sorted(stored)
    assert subscription.is_enabled is ("is_enabled" in form)

    admin_client.post(at("change", Subscription, subscription.pk), {"is_enabled": "on"})
    subscription.refresh_from_db()
    assert (subscription.events, subscription.shown_events) == ([], DEFAULT_EVENTS)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"instance": ""}, "This field is required."),
        ({"events": ["PARTY"]}, "PARTY is not one of the available choices."),
        ({}, "has websocket settings already"),
    ],
)
def test_the_form_of_a_subscription_shows_errors(admin_client, instance, fields, error):
    Subscription.set_websocket(instance, True, ["CALL"])
    form = {"instance": str(instance.pk), "is_enabled": "on"} | fields

    assert error in errors_of(admin_client.post(at("add", Subscription), form))
    assert Subscription.objects.get().events == ["CALL"]
