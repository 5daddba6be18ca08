"""The admin of instances, through Django's client."""

from __future__ import annotations

import re

import pytest
from django.db.models.signals import pre_save

from instances.access.access import Access
from instances.crypto import Secret
from instances.events import EventType
from instances.models import Instance, Message, Subscription
from realtime.log.models import Event
from tests.instances.admin.pages import at, errors_of, fill

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
    assert Access.from_key("graph-token").opens(instance)
    assert instance.provider_token.reveal() == "graph-token"
    assert "was added successfully" in response.content.decode()
    assert "graph-token" not in response.content.decode()  # it was typed in, so it need not be shown


def test_a_state_that_is_set_in_the_form_is_announced(admin_client, instance):
    form = {"number": "551199", "connection_state": "close", "initial-connection_state": "open"}
    admin_client.post(at("change", Instance, instance.pk), form)

    event = Event.objects.get(type=EventType.CONNECTION_UPDATE)
    assert b'"state":"close"' in bytes(event.envelope)


def test_an_outdated_form_does_not_overwrite_a_newer_state(admin_client, instance):
    newer = Instance.objects.get(pk=instance.pk)
    newer.connection_state = "connecting"
    newer.save()
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
        admin_client.post(at("delete", Instance, instance.pk), {"post": "yes", "name": "loja"})
        assert Instance.objects.exists()
        admin_client.post(at("delete", Instance, instance.pk), {"post": "yes", "name": instance.name})
    else:
        form = {"action": "delete_selected", "_selected_action": [str(instance.pk)]}
        response = admin_client.post(at("changelist", Instance), form)
        admin_client.post(at("changelist", Instance), form | {"post": "yes"})
        assert Instance.objects.exists()
        admin_client.post(at("changelist", Instance), form | {"post": "yes", "name": instance.name})

    assert "Type the name of the instance to confirm: loja centro" in response.content.decode()
    assert "loja centro, with its messages (1), contacts (1) and chats (1)" in response.content.decode()
    assert not Instance.objects.exists()
    assert not Message.objects.exists()
    assert list(Event.objects.values_list("type", flat=True)[:2]) == ["remove.instance", "instance.delete"]


def test_deleting_several_instances_asks_for_their_number(admin_client, instance):
    other = Instance.objects.create(name="other")
    form = {"action": "delete_selected", "_selected_action": [str(instance.pk), str(other.pk)]}
    page = admin_client.post(at("changelist", Instance), form).content.decode()
    assert "Type the number of the instances to confirm: 2" in page

    for typed in ("", "1", "loja centro"):
        page = admin_client.post(at("changelist", Instance), form | {"post": "yes", "name": typed}, follow=True)
        assert "Nothing was deleted: type the number of the instances." in page.content.decode()
    assert Instance.objects.count() == 2
    admin_client.post(at("changelist", Instance), form | {"post": "yes", "name": "2"})
    assert not Instance.objects.exists()


def test_the_delete_page_counts_messages_instead_of_listing_them(admin_client, instance):
    for number in range(3):
        fill(instance, f"message-{number}")

    response = admin_client.get(at("delete", Instance, instance.pk))
    assert "messages (3)" in response.content.decode()
    assert "message-1" not in response.content.decode()


@pytest.mark.parametrize(("value", "names"), [("on", ["on"]), ("off", ["off"]), ("none", ["none"])])
def test_instances_can_be_found_by_their_websocket_settings(admin_client, db, value, names):
    Instance.objects.create(name="none")
    Subscription.set_websocket(Instance.objects.create(name="on"), True, [])
    Subscription.set_websocket(Instance.objects.create(name="off"), False, [])

    found = admin_client.get(at("changelist", Instance), {"websocket": value}).context["cl"].result_list
    assert [instance.name for instance in found] == names


def test_the_list_of_instances_shows_counts_and_the_last_event(admin_client, instance):
    for number in range(3):
        fill(instance, f"wa-{number}")
    Subscription.set_websocket(instance, True, ["CALL", "SEND_MESSAGE"])

    page = admin_client.get(at("changelist", Instance)).content.decode()
    assert f'<a href="{at("changelist", Message)}?instance__id__exact={instance.pk}">3</a>' in page
    assert re.search(
        f'<a href="{at("changelist", Event)}\\?instance_id={instance.pk}" [^>]*><[^>]*>[0-9]+ s ago<', page
    )
    assert "on, 2 events" in page


def test_the_links_of_an_instance_lead_to_its_own_rows(admin_client, instance):
    fill(instance, "mine")
    fill(Instance.objects.create(name="other"), "theirs")

    messages = admin_client.get(at("changelist", Message), {"instance__id__exact": str(instance.pk)})
    assert [message.wa_id for message in messages.context["cl"].result_list] == ["mine"]
    events = admin_client.get(at("changelist", Event), {"instance_id": str(instance.pk)})
    assert {event.name for event in events.context["cl"].result_list} == {"loja centro"}
