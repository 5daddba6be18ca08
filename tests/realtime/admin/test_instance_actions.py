"""What can be done with an instance on its page in the admin."""

from __future__ import annotations

import re
import uuid

import pytest
from django.contrib.admin.models import LogEntry

from instances.crypto import Secret
from instances.models import Instance, Message
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import create_delivery, create_endpoint
from tests.staff_users import client_of, staff_user

pytestmark = pytest.mark.any_database

#: The pages and buttons of actions.
ACTIONS = ("connect", "restart", "log_out", "rotate_token", "test_message", "test_event", "resend", "cut")


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro", number="5511988887777", connection_state="open")


def act(client, name, instance, /, **form):
    """Post the form of an action; returns the page that follows."""
    return client.post(at(name, Instance, instance.pk), form, follow=True).content.decode()


def history():
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


def last_event_types(count):
    return list(Event.objects.order_by("-pk").values_list("type", flat=True)[:count])


def test_logging_out_asks_for_the_name_and_connecting_ends_it(admin_client, loja):
    page = admin_client.get(at("log_out", Instance, loja.pk)).content.decode()
    assert "Type the name of the instance to confirm: loja centro" in page
    for typed in ("", "loja", "LOJA CENTRO"):
        assert "This is not the name of the instance. Nothing was done." in act(
            admin_client, "log_out", loja, name=typed
        )
    loja.refresh_from_db()
    assert (loja.connection_state, history()) == ("open", [])

    assert "Logged out: it sends nothing" in act(admin_client, "log_out", loja, name="loja centro")
    loja.refresh_from_db()
    assert (loja.connection_state, bool(loja.logged_out_at)) == ("close", True)
    assert set(last_event_types(3)) == {"connection.update", "logout.instance", "status.instance"}

    assert "The connection is open." in act(admin_client, "connect", loja)
    loja.refresh_from_db()
    assert (loja.connection_state, loja.logged_out_at) == ("open", None)
    assert history() == ["Logged out.", "Connected."]


def test_connecting_leaves_what_an_engine_reports(admin_client, loja):
    Instance.objects.filter(pk=loja.pk).update(connection_state="close")
    assert "its engine reports the state, and has to connect" in act(admin_client, "connect", loja)
    web = Instance.objects.create(name="web", integration="WHATSAPP-BAILEYS")
    for name in ("connect", "restart"):
        assert "The &quot;web&quot; instance is not connected." in act(admin_client, name, web)
    assert history() == []


def test_restarting_says_that_this_server_has_nothing_to_restart(admin_client, loja):
    assert "nothing had to be restarted here. The connection is open." in act(admin_client, "restart", loja)
    assert history() == ["Restarted."]


def test_rotating_the_token_asks_for_the_name_and_shows_the_new_one_once(admin_client, loja):
    old = loja.token.reveal()
    act(admin_client, "rotate_token", loja, name="another")
    assert Instance.objects.get().token.reveal() == old

    page = act(admin_client, "rotate_token", loja, name=" loja centro ")
    new = Instance.objects.get().token.reveal()
    assert new != old
    assert re.search('<code class="secret">(.*?)</code>', page)[1] == new
    assert history() == ["Rotated the token.", "Showed the token."]
    assert new not in admin_client.get(at("change", Instance, loja.pk)).content.decode()


def test_a_test_message_is_sent_once_and_its_outcome_is_said(admin_client, loja):
    page = admin_client.get(at("test_message", Instance, loja.pk)).content.decode()
    assert "An engine of your own sends what this instance sends" in page
    form = {"number": "+55 (11) 99999-0000", "text": "hello", "id": str(uuid.uuid4())}

    page = act(admin_client, "test_message", loja, **form)
    message = Message.objects.get()
    assert (message.remote_jid, message.content) == ("5511999990000", {"conversation": "hello"})
    assert f"Handed to the engine as {message.wa_id}. An engine of your own sends" in page
    assert at("change", Message, message.pk) in page
    assert history() == [f"Sent a test message, {message.wa_id}."]
    act(admin_client, "test_message", loja, **form)
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"number": "abc"}, "Digits alone, with the country code."),
        ({"number": "x" * 300}, "at most 255 characters"),
        ({"number": ""}, "This field is required."),
        ({"text": ""}, "This field is required."),
        ({"id": "x"}, "Enter a valid UUID."),
    ],
)
def test_a_test_message_that_cannot_be_sent_is_refused_in_words(admin_client, loja, form, error):
    page = act(admin_client, "test_message", loja, **{"number": "5511", "text": "x", "id": str(uuid.uuid4())} | form)
    assert error in re.findall('class="confirm-error"[^>]*>(.*?)</div>', page, re.DOTALL)[0]
    assert not Message.objects.exists()
    assert history() == []


def test_a_message_of_an_instance_that_is_logged_out_is_not_sent(admin_client, loja):
    loja.log_out()
    page = act(admin_client, "test_message", loja, number="5511999990000", text="x", id=str(uuid.uuid4()))
    assert "It was not sent: The &quot;loja centro&quot; instance is not connected." in page
    assert history() == []


def test_metas_refusal_of_a_message_is_said(admin_client, db, monkeypatch):
    from instances.providers import cloud_api  # the provider's own error, without the network
    from instances.providers.base import NotSent, OutcomeUnknown

    cloud = Instance.objects.create(
        name="cloud", integration="WHATSAPP-BUSINESS", number="11", connection_state="open", provider_token=Secret("t")
    )
    results = [NotSent("(#131030) Recipient not in allowed list", 400), OutcomeUnknown("Meta did not answer", 504)]

    async def send(self, instance, message):
        raise results.pop(0)

    monkeypatch.setattr(cloud_api.CloudApi, "send", send)
    form = {"number": "5511999990000", "text": "x"}
    page = act(admin_client, "test_message", cloud, **form, id=str(uuid.uuid4()))
    assert "It was not sent: (#131030) Recipient not in allowed list." in page
    assert history() == []
    page = act(admin_client, "test_message", cloud, **form, id=str(uuid.uuid4()))
    assert "It is not known whether the message was sent" in page
    assert "It was not sent:" not in page
    [entry] = history()
    assert entry.startswith("Tried to send a test message. Meta did not answer. It is not known whether")


def test_a_test_event_goes_to_the_webhooks_that_are_on(admin_client, loja):
    assert "This instance has no webhook that is on" in act(admin_client, "test_event", loja, event_type="call")
    on, _ = create_endpoint(loja), create_endpoint(loja, is_enabled=False)
    page = act(admin_client, "test_event", loja, event_type="qrcode.updated")
    assert "A test event of type qrcode.updated is queued for 1 webhook." in page
    delivery = Delivery.objects.get(asked_by="admin in the admin")
    assert (delivery.endpoint_id, delivery.type) == (on.pk, "qrcode.updated")
    assert history() == ["Sent a test event of type qrcode.updated."]
    act(admin_client, "test_event", loja, event_type="no.such")
    assert history() == ["Sent a test event of type qrcode.updated."]


def test_failed_deliveries_are_sent_again_once(admin_client, loja):
    on, off = create_endpoint(loja), create_endpoint(loja, is_enabled=False)
    Delivery.objects.all().delete()
    for endpoint in (on, on, off):
        create_delivery(endpoint)
    create_delivery(on, state=State.DELIVERED)
    create_delivery(create_endpoint(Instance.objects.create(name="other")))

    page = admin_client.get(at("resend", Instance, loja.pk)).content.decode()
    assert "Sends 2 dead deliveries of this instance again" in page
    assert "Those to endpoints that are off are left out" in page
    assert "Sent again: 2." in act(admin_client, "resend", loja, post="yes")
    assert Delivery.objects.filter(state=State.PENDING, endpoint_id=on.pk).count() == 2
    assert (
        "There is no dead delivery to send again." in admin_client.get(at("resend", Instance, loja.pk)).content.decode()
    )
    assert "Sent again: 0." in act(admin_client, "resend", loja, post="yes")
    assert history() == ["Sent again: 2."]


def test_cutting_says_where_no_sockets_are_served(admin_client, loja):
    assert "This process serves no sockets" in act(admin_client, "cut", loja, name="loja centro")
    assert history() == []


def test_actions_need_their_rights(loja):
    client = client_of(staff_user(permissions=["view_instance"]))
    for name in ACTIONS:
        assert client.post(at(name, Instance, loja.pk), {"name": loja.name}).status_code == 403
    loja.refresh_from_db()
    assert (loja.connection_state, history()) == ("open", [])


def test_buttons_without_a_page_take_posts_alone(admin_client, loja):
    for name in ("connect", "restart"):
        assert admin_client.get(at(name, Instance, loja.pk)).status_code == 405
    for name in ACTIONS:
        assert admin_client.post(at(name, Instance, uuid.uuid4())).status_code == 404
