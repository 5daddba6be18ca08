"""The admin of websocket settings, through Django's client."""

from __future__ import annotations

import pytest

from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE
from instances.models import Subscription
from tests.instances.admin.pages import at, errors_of


def test_events_are_listed_in_evolutions_order(admin_client, db):
    form = admin_client.get(at("add", Subscription)).context["adminform"].form
    assert [name for name, _ in form.fields["events"].choices] == SUBSCRIBABLE
    assert {"GROUP_UPDATE", "GROUPS_UPDATE"} < set(SUBSCRIBABLE)


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
