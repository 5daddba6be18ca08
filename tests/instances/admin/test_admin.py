"""The admin of instances, keys and subscriptions, in a browser and through Django's client."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models.signals import pre_save
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from instances.admin.base import MAX_SHOWN
from instances.admin.forms import SCOPES
from instances.crypto import Secret, digest
from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE, EventType
from instances.models import ApiKey, Chat, Contact, Instance, Message, Subscription
from realtime.log.models import Event, Stream

pytest_plugins = ("tests.browser",)

KEY = re.compile(r"evo_[\w-]{43}")
MODELS = (Instance, ApiKey, Subscription, Message, Contact, Chat, Event, Stream)


def at(page, model, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


# In a browser


def test_an_administrator_creates_an_instance_and_sees_its_token_once(admin_page, server):
    admin_page.get_by_role("link", name="Instances", exact=True).nth(1).click()
    admin_page.get_by_role("link", name="Add instance").click()
    admin_page.get_by_label("Name:").fill("made by hand")
    admin_page.get_by_label("Number:").fill("5511900000001")
    admin_page.get_by_role("button", name="Save").click()

    expect(admin_page.get_by_role("heading", name="Token of made by hand")).to_be_visible()
    token = admin_page.locator("code").inner_text()
    response = server.get(server.path("/instance/connectionState", "made by hand"), key=token)
    assert (response.status, response.json["instance"]["state"]) == (200, "open")

    admin_page.reload()
    expect(admin_page.get_by_role("heading", name="Change instance")).to_be_visible()
    assert token not in admin_page.content()

    admin_page.get_by_role("button", name="Show token").click()
    expect(admin_page.locator("code")).to_have_text(token)


def test_sockets_receive_the_events_whose_boxes_are_checked(admin_page, server):
    instance = server.create()
    admin_page.goto(at("change", Instance, instance.id))
    admin_page.get_by_role("link", name="no settings").click()
    admin_page.get_by_label("MESSAGES_UPSERT").check()
    admin_page.get_by_label("SEND_MESSAGE", exact=True).check()
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("was added successfully")).to_be_visible()

    found = server.get(server.path("/websocket/find", instance)).json
    assert (found["enabled"], found["events"]) == (True, ["MESSAGES_UPSERT", "SEND_MESSAGE"])
    admin_page.goto(at("change", Instance, instance.id))
    admin_page.get_by_role("link", name="on, 2 events").click()
    admin_page.get_by_label("Enabled").uncheck()
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("was changed successfully")).to_be_visible()
    found = server.get(server.path("/websocket/find", instance)).json
    assert (found["enabled"], found["events"]) == (False, [])


def test_a_key_is_shown_once_gives_access_to_the_chosen_instances_and_can_be_revoked(admin_page, server):
    mine, other = server.create(), server.create()
    admin_page.goto(at("add", ApiKey))
    admin_page.get_by_label("Name:").fill("dashboard")
    admin_page.get_by_label("read:").check()
    admin_page.locator(".field-instances").get_by_role("searchbox").fill(mine.name)
    admin_page.get_by_role("option", name=mine.name).click()
    admin_page.get_by_role("button", name="Save").click()

    expect(admin_page.get_by_text("it cannot be recovered")).to_be_visible()
    key = admin_page.locator("code").inner_text()
    path = "/instance/connectionState"
    assert server.get(server.path(path, mine), key=key).status == 200
    assert server.get(server.path(path, other), key=key).status == 401

    admin_page.reload()
    expect(admin_page.get_by_label("Name:")).to_have_value("dashboard")
    assert key not in admin_page.content()
    expect(admin_page.locator(".field-state .readonly")).to_have_text("usable")
    expect(admin_page.locator(".field-last_used_at .readonly")).not_to_have_text("-")

    admin_page.get_by_role("button", name="Revoke").click()
    expect(admin_page.get_by_text("is revoked.")).to_be_visible()
    expect(admin_page.get_by_role("button", name="Revoke")).to_have_count(0)
    assert server.get(server.path(path, mine), key=key).status == 401


def test_a_received_message_and_its_event_can_be_read(admin_page, server):
    instance = server.create()
    server.receive(instance, "Good morning", id=f"id-of-{instance.name}")
    admin_page.goto(at("changelist", Message))
    admin_page.locator("#searchbar").fill(f"id-of-{instance.name}")
    admin_page.get_by_role("button", name="Search").click()
    admin_page.get_by_role("link", name=f"id-of-{instance.name}").click()
    expect(admin_page.locator("pre")).to_have_text('{\n  "conversation": "Good morning"\n}')

    admin_page.goto(at("changelist", Event))
    admin_page.locator("#searchbar").fill(instance.name)
    admin_page.get_by_role("button", name="Search").click()
    types = admin_page.locator("td.field-type")
    expect(types).to_have_text(["chats.upsert", "contacts.upsert", "messages.upsert", "instance.create"])
    admin_page.get_by_role("link", name="messages.upsert").click()  # the filter
    expect(types).to_have_text(["messages.upsert"])
    admin_page.get_by_role("link", name=instance.name).click()
    expect(admin_page.locator("pre")).to_contain_text('"event": "messages.upsert",\n')


# Through Django's client


@pytest.fixture
def admin_user(db):
    """Like pytest-django's fixture, without hashing a password for each test."""
    return User.objects.create(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja centro", number="551199", connection_state="open")


def errors_of(response):
    """Return all errors of the form."""
    assert response.status_code == 200
    return " ".join(text for texts in response.context["adminform"].form.errors.values() for text in texts)


NEW = {"name": "new", "integration": "EVOLUTION", "number": "551100", "business_id": "", "own_token": ""}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "a/b"}, "must not contain /"),
        ({"name": ".."}, "nor be a dot or two"),
        ({"name": "n" * 256}, "at most 255 characters"),
        ({"name": "loja centro"}, "Instance with this Name already exists."),
        ({"number": "551199"}, "This number is already in use."),
        ({"number": "+55 11 99"}, "A number begins with a digit"),
        ({"integration": "TELEGRAM"}, "TELEGRAM is not one of the available choices."),
        ({"integration": "WHATSAPP-BUSINESS"}, "token is required"),
        ({"integration": "WHATSAPP-BUSINESS", "own_token": "graph-token", "number": ""}, "number is required"),
        ({"own_token": "t" * 4097}, "at most 4096 characters"),
    ],
)
def test_the_form_of_a_new_instance_shows_errors(admin_client, instance, fields, error):
    response = admin_client.post(at("add", Instance), NEW | fields)

    assert error in errors_of(response)
    assert Instance.objects.get() == instance


def test_a_form_with_errors_does_not_contain_the_typed_token(admin_client):
    response = admin_client.post(at("add", Instance), NEW | {"name": "a/b", "own_token": "typed-by-hand"})

    assert errors_of(response)
    assert "typed-by-hand" not in response.content.decode()


def test_the_number_of_another_instance_is_refused_on_the_change_page_too(admin_client, instance):
    other = Instance.objects.create(name="other", number="551188")
    form = {"number": "551199", "connection_state": "close", "initial-connection_state": "close"}

    assert "already in use" in errors_of(admin_client.post(at("change", Instance, other.pk), form))
    other.refresh_from_db()
    assert other.number == "551188"


def test_the_number_of_a_cloud_api_instance_cannot_be_removed(admin_client, db):
    token = Secret("graph-token")
    cloud = Instance.objects.create(
        name="cloud", integration="WHATSAPP-BUSINESS", number="11", provider_token=token, connection_state="open"
    )
    form = {"number": "", "connection_state": "open", "initial-connection_state": "open"}

    assert errors_of(admin_client.post(at("change", Instance, cloud.pk), form)) == "number is required"


def test_the_later_of_two_concurrent_requests_gets_an_error_message(admin_client, db):
    def create_first(instance, **kwargs):
        pre_save.disconnect(create_first, sender=Instance)
        Instance.objects.create(name="new", number="551177")

    pre_save.connect(create_first, sender=Instance)
    response = admin_client.post(at("add", Instance), NEW, follow=True)

    assert "has just been taken by another request" in response.content.decode()
    assert not Instance.objects.filter(number="551100").exists()


def test_a_new_instance_has_the_initial_state_of_its_provider_and_is_announced(admin_client, db):
    admin_client.post(at("add", Instance), NEW | {"integration": "WHATSAPP-BAILEYS"})

    instance = Instance.objects.get()
    assert instance.connection_state == "close"
    assert list(Event.objects.values_list("instance_id", "type")) == [(instance.pk, "instance.create")]


def test_the_token_of_a_cloud_api_instance_is_also_the_access_token_for_the_graph_api(admin_client, db):
    response = admin_client.post(
        at("add", Instance), NEW | {"integration": "WHATSAPP-BUSINESS", "own_token": "graph-token"}, follow=True
    )

    instance = Instance.objects.get()
    assert instance.has_token("graph-token")
    assert instance.provider_token.reveal() == "graph-token"
    assert "was added successfully" in response.content.decode()
    assert "graph-token" not in response.content.decode()  # it was typed in, so it need not be shown


def test_a_state_that_is_set_in_the_form_is_announced(admin_client, instance):
    form = {"number": "551199", "connection_state": "close", "initial-connection_state": "open"}
    admin_client.post(at("change", Instance, instance.pk), form)

    event = Event.objects.get(type=EventType.CONNECTION_UPDATE)
    assert b'"state":"close"' in bytes(event.envelope)


def test_an_outdated_form_does_not_overwrite_a_newer_state(admin_client, instance):
    instance.change_state("connecting")
    form = {"number": "551199", "connection_state": "open", "initial-connection_state": "open", "profile_name": "Loja"}
    admin_client.post(at("change", Instance, instance.pk), form)

    instance.refresh_from_db()
    assert (instance.connection_state, instance.profile_name) == ("connecting", "Loja")
    assert Event.objects.filter(type=EventType.CONNECTION_UPDATE).count() == 1


def test_name_and_integration_cannot_be_changed_and_empty_fields_stay_null(admin_client, instance):
    form = {"number": "551199", "connection_state": "open", "initial-connection_state": "open"}
    form |= {"name": "another", "integration": "WHATSAPP-BAILEYS", "profile_pic_url": "", "business_id": ""}
    admin_client.post(at("change", Instance, instance.pk), form)

    instance.refresh_from_db()
    assert (instance.name, instance.integration) == ("loja centro", "EVOLUTION")
    assert instance.profile_pic_url is instance.business_id is None


@pytest.mark.parametrize("way", ["button", "action"])
def test_deleting_an_instance_deletes_its_rows_and_is_announced(admin_client, instance, way):
    fill(instance)
    if way == "button":
        response = admin_client.get(at("delete", Instance, instance.pk))
        admin_client.post(at("delete", Instance, instance.pk), {"post": "yes"})
    else:
        form = {"action": "delete_selected", "_selected_action": [str(instance.pk)]}
        response = admin_client.post(at("changelist", Instance), form)
        admin_client.post(at("changelist", Instance), form | {"post": "yes"})

    assert "loja centro, with its messages (1), contacts (1) and chats (1)" in response.content.decode()
    assert not Instance.objects.exists()
    assert not Message.objects.exists()
    assert list(Event.objects.values_list("type", flat=True)[:2]) == ["remove.instance", "instance.delete"]


def test_the_delete_page_counts_messages_instead_of_listing_them(admin_client, instance):
    for number in range(3):
        fill(instance, f"message-{number}")

    response = admin_client.get(at("delete", Instance, instance.pk))
    assert "messages (3)" in response.content.decode()
    assert "message-1" not in response.content.decode()


# Keys


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


def test_a_text_that_was_encrypted_for_another_purpose_is_not_shown(admin_client, instance):
    url = at("secret", Instance, instance.pk)
    admin_client.cookies.load({"shown_once": instance.token.cipher})

    response = admin_client.get(url)
    assert (response.status_code, response.url) == (302, at("change", Instance, instance.pk))
    assert instance.token.reveal() not in response.content.decode()


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
        assert f'<td class="field-state">{state}</td>' in response.content.decode()
    assert LogEntry.objects.get().change_message == "Revoked."


# Subscriptions


def test_events_are_listed_in_evolutions_order(admin_client, db):
    form = admin_client.get(at("add", Subscription)).context["adminform"].form
    assert [name for name, _ in form.fields["events"].choices] == SUBSCRIBABLE
    assert {"GROUP_UPDATE", "GROUPS_UPDATE"} < set(SUBSCRIBABLE)


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        ({"is_enabled": "on", "events": ["CALL", "SEND_MESSAGE"]}, ["SEND_MESSAGE", "CALL"]),
        ({"is_enabled": "on"}, DEFAULT_EVENTS),
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
    assert subscription.events == DEFAULT_EVENTS


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


@pytest.mark.parametrize(("value", "names"), [("on", ["on"]), ("off", ["off"]), ("none", ["none"])])
def test_instances_can_be_found_by_their_websocket_settings(admin_client, db, value, names):
    Instance.objects.create(name="none")
    Subscription.set_websocket(Instance.objects.create(name="on"), True, [])
    Subscription.set_websocket(Instance.objects.create(name="off"), False, [])

    found = admin_client.get(at("changelist", Instance), {"websocket": value}).context["cl"].result_list
    assert [instance.name for instance in found] == names


# Messages, contacts, chats, events


def fill(instance, wa_id="wa-1", content=None, **fields):
    """Create a message, a contact, a chat and an event."""
    jid = f"{wa_id}@s.whatsapp.net"
    content = {"conversation": "hello"} if content is None else content
    known = {"type": "conversation", "timestamp": 1767225600, "push_name": "Ana"} | fields
    Message.objects.create(instance=instance, wa_id=wa_id, remote_jid=jid, content=content, **known)
    Contact.objects.create(instance=instance, remote_jid=jid)
    Chat.objects.create(instance=instance, remote_jid=jid)
    Event.objects.record(instance, EventType.CALL, {"from": jid})


def rows(count, start=0):
    for number in range(start, start + count):
        instance = Instance.objects.create(name=f"instance-{number}")
        fill(instance, f"wa-{number}")
        Subscription.set_websocket(instance, True, ["CALL"])
        ApiKey.objects.issue(f"key-{number}", ["read"])[0].instances.add(instance)


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_needs_no_more_queries(admin_client, db, model):
    counts = []
    for start, added in ((0, 1), (1, 19)):
        rows(added, start)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = admin_client.get(at("changelist", model))
        counts.append(len(queries))
    assert response.context["cl"].result_count >= 20
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("model", "column"), [(Event, "envelope"), (Message, "content")])
def test_lists_do_not_load_columns_of_the_detail_page(admin_client, db, model, column):
    rows(1)
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(at("changelist", model))
    assert len(response.context["cl"].result_list) >= 1
    assert not [query for query in queries if f'"{column}"' in query["sql"]]


def test_the_list_of_instances_shows_counts_and_the_last_event(admin_client, instance):
    for number in range(3):
        fill(instance, f"wa-{number}")
    Subscription.set_websocket(instance, True, ["CALL", "SEND_MESSAGE"])

    page = admin_client.get(at("changelist", Instance)).content.decode()
    assert f'<a href="{at("changelist", Message)}?instance__id__exact={instance.pk}">3</a>' in page
    assert f'<a href="{at("changelist", Event)}?instance_id={instance.pk}">4</a>' in page  # its creation, too
    assert "on, 2 events" in page


def test_the_links_of_an_instance_lead_to_its_own_rows(admin_client, instance):
    fill(instance, "mine")
    fill(Instance.objects.create(name="other"), "theirs")

    messages = admin_client.get(at("changelist", Message), {"instance__id__exact": str(instance.pk)})
    assert [message.wa_id for message in messages.context["cl"].result_list] == ["mine"]
    events = admin_client.get(at("changelist", Event), {"instance_id": str(instance.pk)})
    assert {event.name for event in events.context["cl"].result_list} == {"loja centro"}


@pytest.mark.parametrize(
    ("model", "sought"), [(Message, "wa-2@"), (Message, "ana 2"), (Contact, "wa-2"), (Chat, "wa-2"), (Event, "centro")]
)
def test_stored_rows_can_be_searched(admin_client, instance, model, sought):
    fill(Instance.objects.create(name="other"), "wa-1")
    fill(instance, "wa-2", push_name="Ana 2")

    found = list(admin_client.get(at("changelist", model), {"q": sought}).context["cl"].result_list)
    assert found
    assert found == [row for row in model.objects.all() if instance.pk == row.instance_id]


def test_events_are_listed_newest_first_and_filtered_by_type(admin_client, instance):
    fill(instance)
    everything = admin_client.get(at("changelist", Event)).context["cl"].result_list
    assert [event.type for event in everything] == ["call", "instance.create"]

    calls = admin_client.get(at("changelist", Event), {"type": "call"}).context["cl"].result_list
    assert [event.type for event in calls] == ["call"]


def test_rows_of_providers_and_the_log_are_read_only(admin_client, instance):
    fill(instance)
    for model in (Message, Contact, Chat, Event, Stream):
        row = model.objects.first()
        assert admin_client.get(at("change", model, row.pk)).status_code == 200
        for url in (at("add", model), at("change", model, row.pk), at("delete", model, row.pk)):
            assert admin_client.post(url, {"post": "yes"}).status_code == 403
        assert "delete_selected" not in admin_client.get(at("changelist", model)).content.decode()


def test_an_invalid_time_and_a_very_long_text_are_shown(admin_client, instance):
    fill(instance, content={"imageMessage": {"base64": "A" * 2 * MAX_SHOWN}}, timestamp=2**62)

    page = admin_client.get(at("change", Message, Message.objects.get().pk)).content.decode()
    assert str(2**62) in page
    assert re.search(r"A\n… and \d+ characters more", page)
    assert len(page) < 1.5 * MAX_SHOWN


# Secrets and permissions


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
    assert (entry.object_repr, entry.change_message) == ("loja centro", "Viewed the token.")


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
def viewer(client, db):
    """A client with all view permissions."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


def test_a_user_with_view_permissions_sees_every_page_and_changes_nothing(viewer):
    rows(1)
    for model in MODELS:
        row = model.objects.first()
        listed, shown = viewer.get(at("changelist", model)), viewer.get(at("change", model, row.pk))
        assert (listed.status_code, shown.status_code) == (200, 200)
        page = shown.content.decode()
        assert not re.search(r'<input type="submit"|Show token|<button>Revoke', page.partition('id="content"')[2])
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
