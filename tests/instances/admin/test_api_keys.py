"""The admin of API keys, through Django's client."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.utils import timezone

from instances.admin.forms import SCOPES
from instances.crypto import digest
from instances.models import ApiKey
from tests.instances.admin.pages import at, cells, errors_of

KEY = re.compile(r"evo_[\w-]{43}")


def new_key(**fields):
    known = {"name": "dashboard", "scopes": ["read", "send"], "all_instances": "on", "instances": []}
    return known | {"expires_at_0": "", "expires_at_1": ""} | fields


def texts_of_the_database():
    for model in apps.get_models():
        for row in model._default_manager.values():
            yield str(row)
    for session in Session.objects.all():
        yield str(session.get_decoded())


def test_a_new_key_is_shown_once_and_stored_nowhere(admin_client, db):
    response = admin_client.post(at("add", ApiKey), new_key())
    cookie = response.cookies["shown_once"]
    key = ApiKey.objects.get()
    assert response.url == cookie["path"] == at("secret", ApiKey, key.pk)
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Strict", 60)

    shown = admin_client.get(response.url)
    secret = KEY.search(shown.content.decode())[0]
    assert key.digest == digest(secret)
    assert (key.name, key.scopes, key.all_instances) == ("dashboard", ["read", "send"], True)
    assert "no-store" in shown["Cache-Control"]
    assert secret not in str(cookie)
    assert not [text for text in texts_of_the_database() if secret in text]

    again = admin_client.get(response.url, follow=True)
    assert again.redirect_chain == [(at("change", ApiKey, key.pk), 302)]
    assert secret not in again.content.decode()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": ""}, "This field is required."),
        ({"scopes": []}, "This field is required."),
        ({"scopes": ["read", "rule"]}, "rule is not one of the available choices."),
        ({"all_instances": ""}, "Choose the instances that this key gives access to, or all instances."),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "This time is in the past."),
        ({"expires_at_0": "soon", "expires_at_1": ""}, "Enter a valid date."),
    ],
)
def test_the_form_of_a_new_key_shows_errors(admin_client, db, fields, error):
    assert error in errors_of(admin_client.post(at("add", ApiKey), new_key(**fields)))
    assert not ApiKey.objects.exists()


def test_every_scope_is_explained():
    assert list(SCOPES) == list(ApiKey.Scope)


def test_scopes_and_instances_of_a_key_can_be_changed(admin_client, instance):
    key, secret = ApiKey.objects.issue("dashboard", ["read"], all_instances=True)
    form = new_key(scopes=["listen"], all_instances="", instances=[str(instance.pk)])
    response = admin_client.post(at("change", ApiKey, key.pk), form)

    assert response.url == at("changelist", ApiKey)
    key.refresh_from_db()
    assert (key.scopes, key.all_instances, list(key.instances.all())) == (["listen"], False, [instance])
    assert key.digest == digest(secret)


def test_selected_keys_are_revoked_and_the_list_filters_by_state(admin_client, db):
    keys = [ApiKey.objects.issue(name, ["read"], all_instances=True)[0] for name in ("first", "second", "third")]
    ApiKey.objects.filter(name="third").update(expires_at=timezone.now() - timedelta(days=1))
    form = {"action": "revoke_selected", "_selected_action": [keys[0].pk]}
    admin_client.post(at("changelist", ApiKey), form)

    rows = admin_client.get(at("changelist", ApiKey)).context["cl"].result_list
    states = {key.name: "revoked" if key.revoked_at else "usable" if key.is_usable else "expired" for key in rows}
    assert states == {"first": "revoked", "second": "usable", "third": "expired"}
    for name, state in states.items():
        response = admin_client.get(at("changelist", ApiKey), {"state": state})
        assert [key.name for key in response.context["cl"].result_list] == [name]
        assert cells(response, "state") == [state]
    assert LogEntry.objects.get().change_message == "Revoked."
