"""Secrets and permissions in the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse

from instances.crypto import Secret
from instances.models import ApiKey, Instance, Subscription
from tests.instances.admin.pages import MODELS, at, fill, rows
from tests.staff_users import client_of, staff_user


def test_a_text_that_was_encrypted_for_another_purpose_is_not_shown(admin_client, instance):
    url = at("secret", Instance, instance.pk)
    admin_client.cookies.load({"shown_once": instance.token.cipher})

    response = admin_client.get(url)
    assert (response.status_code, response.url) == (302, at("change", Instance, instance.pk))
    assert instance.token.reveal() not in response.content.decode()


def all_pages():
    yield reverse("admin:index")
    for model in MODELS:
        yield at("changelist", model)
        for row in model.objects.all():
            yield at("change", model, row.pk)
            yield at("history", model, row.pk)
    for model in (Instance, ApiKey, Subscription):
        yield at("add", model)
        yield at("delete", model, model.objects.first().pk)
    for model in (ApiKey, Subscription):
        yield f"{reverse('admin:autocomplete')}?app_label=instances&model_name={model._meta.model_name}&field_name=" + (
            "instances" if model is ApiKey else "instance"
        )


@pytest.fixture
def secrets(admin_user):
    """Create an instance, a key and a message, and return the secrets that no page may show."""
    cloud = Instance(name="cloud", integration="WHATSAPP-BUSINESS", number="11", connection_state="open")
    cloud.give_token("own-token")
    cloud.provider_token = Secret("graph-token")
    cloud.settings = {"alwaysOnline": True, "wavoipToken": "wavoip-token"}
    cloud.save()
    fill(cloud, content={"imageMessage": {"caption": "our cat", "mediaKey": "media-key"}})
    Subscription.set_websocket(cloud, True, [])
    key, secret = ApiKey.objects.issue("dashboard", ["read"], all_instances=True)
    stored = [cloud.token.cipher, cloud.token_digest, cloud.provider_token.cipher, key.digest]
    return ["own-token", "graph-token", "wavoip-token", "media-key", secret, *stored]


def test_no_page_contains_a_secret(admin_client, secrets):
    pages = list(all_pages())
    content = {url: admin_client.get(url).content.decode() for url in pages}

    assert len(pages) > 30
    assert any("alwaysOnline" in page for page in content.values())
    assert any("our cat" in page for page in content.values())
    assert not [(url, secret) for url, page in content.items() for secret in secrets if secret in page]


def test_no_search_finds_a_secret(admin_client, secrets):
    for model in MODELS:
        for secret in secrets:
            response = admin_client.get(at("changelist", model), {"q": secret})
            assert response.context["cl"].result_count == 0


def test_showing_a_token_is_logged_without_the_token(admin_client, instance):
    instance.give_token("a-token-of-the-graph-api" * 170)
    instance.save()
    response = admin_client.post(at("token", Instance, instance.pk))

    assert instance.token.reveal() in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == ("loja centro", "Showed the token.")


BUTTONS = [("token", Instance), ("revoke", ApiKey)]


@pytest.mark.parametrize(("button", "model"), BUTTONS)
def test_a_button_requires_a_post(admin_client, db, button, model):
    rows(1)
    assert admin_client.get(at(button, model, model.objects.get().pk)).status_code == 405
    assert ApiKey.objects.usable().exists()


@pytest.mark.parametrize(("button", "model"), BUTTONS)
def test_a_button_of_a_deleted_object_is_not_found(admin_client, instance, button, model):
    pk = instance.pk if model is Instance else 1
    instance.delete()
    assert admin_client.post(at(button, model, pk)).status_code == 404


@pytest.mark.parametrize(("button", "model"), BUTTONS)
def test_anonymous_users_are_redirected_to_the_login(client, db, button, model):
    rows(1)
    url = at(button, model, model.objects.get().pk)

    assert client.post(url).url == f"{reverse('admin:login')}?next={url}"
    assert ApiKey.objects.usable().exists()


@pytest.fixture
def viewer(db):
    """A client with all view permissions."""
    return client_of(staff_user(permissions=Permission.objects.filter(codename__startswith="view_").values("codename")))


def test_a_user_with_view_permissions_sees_every_page_and_changes_nothing(viewer):
    rows(1)
    for model in MODELS:
        row = model.objects.first()
        listed, shown = viewer.get(at("changelist", model)), viewer.get(at("change", model, row.pk))
        assert (listed.status_code, shown.status_code) == (200, 200)
        page = shown.content.decode()
        assert not re.search(r'<input type="submit"|Show token|>Revoke</button>', page.partition('id="content"')[2])
        for url in (at("add", model), at("change", model, row.pk), at("delete", model, row.pk)):
            assert viewer.post(url, {"post": "yes"}).status_code == 403
    for button, model in BUTTONS:
        assert viewer.post(at(button, model, model.objects.get().pk)).status_code == 403
    form = {"action": "revoke_selected", "_selected_action": [ApiKey.objects.get().pk]}
    viewer.post(at("changelist", ApiKey), form)

    assert ApiKey.objects.usable().exists()
    assert Instance.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_user_with_view_permissions_reads_scopes_and_events(viewer, instance):
    key, _ = ApiKey.objects.issue("dashboard", ["read", "send"], all_instances=True)
    subscription = Subscription.set_websocket(instance, True, ["CALL", "SEND_MESSAGE"])

    assert "read, send" in viewer.get(at("change", ApiKey, key.pk)).content.decode()
    assert "CALL, SEND_MESSAGE" in viewer.get(at("change", Subscription, subscription.pk)).content.decode()
