"""The admin of instances, keys, subscriptions and messages in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from instances.models import ApiKey, Instance, Message, Subscription
from realtime.log.models import Event
from tests.instances.admin.pages import at

pytest_plugins = ("tests.browser",)


def test_an_administrator_creates_an_instance_and_sees_its_token_once(admin_page, server):
    admin_page.get_by_role("navigation").get_by_role("link", name="Instances").click()
    admin_page.get_by_role("link", name="Add instance").first.click()
    admin_page.get_by_label("Name").fill("made by hand")
    admin_page.get_by_role("textbox", name="Number").fill("5511900000001")
    admin_page.get_by_role("button", name="Save").click()

    expect(admin_page.get_by_role("heading", name="Token of made by hand")).to_be_visible()
    token = admin_page.locator("code").inner_text()
    response = server.get(server.path("/instance/connectionState", "made by hand"), key=token)
    assert (response.status, response.json["instance"]["state"]) == (200, "open")

    admin_page.reload()
    expect(admin_page.get_by_role("heading", level=1)).to_contain_text("made by hand")
    expect(admin_page).to_have_title(re.compile("Change instance"))
    assert token not in admin_page.content()

    admin_page.get_by_role("button", name="Show token").click()
    expect(admin_page.locator("code")).to_have_text(token)


@pytest.mark.slow
def test_sockets_receive_the_events_whose_boxes_are_checked(admin_page, server):
    instance = server.create()
    admin_page.goto(at("change", Instance, instance.id))
    admin_page.get_by_role("link", name="Choose events").click()
    admin_page.get_by_label("MESSAGES_UPSERT").check()
    admin_page.get_by_label("SEND_MESSAGE", exact=True).check()
    admin_page.get_by_role("button", name="Check all of Labels").click()
    admin_page.get_by_role("button", name="Check all of Typebot").click()
    admin_page.get_by_role("button", name="Check none of Typebot").click()
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("was added successfully")).to_be_visible()

    found = server.get(server.path("/websocket/find", instance)).json
    expected = ["MESSAGES_UPSERT", "SEND_MESSAGE", "LABELS_EDIT", "LABELS_ASSOCIATION"]
    assert (found["enabled"], found["events"]) == (True, expected)
    admin_page.goto(at("change", Instance, instance.id))
    admin_page.get_by_text("Sockets and event streams: 4 types, on").click()
    admin_page.get_by_role("link", name="Change this subscription").click()
    admin_page.get_by_label("Enabled").uncheck()
    admin_page.get_by_role("button", name="Save", exact=True).click()
    expect(admin_page.get_by_text("was changed successfully")).to_be_visible()
    found = server.get(server.path("/websocket/find", instance)).json
    assert (found["enabled"], found["events"]) == (False, [])


def test_a_key_is_shown_once_gives_access_to_the_chosen_instances_and_can_be_revoked(admin_page, server):
    mine, other = server.create(), server.create()
    admin_page.goto(at("add", ApiKey))
    admin_page.get_by_label("Name").fill("dashboard")
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
    expect(admin_page.get_by_label("Name")).to_have_value("dashboard")
    assert key not in admin_page.content()
    expect(admin_page.locator(".readonly.field-state")).to_have_text("usable")
    expect(admin_page.locator(".readonly.field-last_used_at")).not_to_have_text("-")

    admin_page.get_by_role("button", name="Revoke").click()
    expect(admin_page.get_by_text("is revoked.")).to_be_visible()
    expect(admin_page.get_by_role("button", name="Revoke")).to_have_count(0)
    assert server.get(server.path(path, mine), key=key).status == 401


@pytest.mark.slow
def test_a_received_message_and_its_event_can_be_read(admin_page, server):
    instance = server.create()
    server.receive(instance, "Good morning", id=f"id-of-{instance.name}")
    admin_page.goto(at("changelist", Message))
    admin_page.locator("#searchbar").fill(f"id-of-{instance.name}")
    admin_page.locator("#searchbar").press("Enter")
    admin_page.get_by_role("link", name=f"id-of-{instance.name}").click()
    expect(admin_page.locator("pre")).to_have_text('{\n  "conversation": "Good morning"\n}')

    admin_page.goto(at("changelist", Event))
    admin_page.locator("#searchbar").fill(instance.name)
    admin_page.locator("#searchbar").press("Enter")
    types = admin_page.locator("td.field-type")
    expect(types).to_have_text(["chats.upsert", "contacts.upsert", "messages.upsert", "instance.create"])
    admin_page.get_by_role("button", name="Filters").click()
    admin_page.get_by_role("link", name="messages.upsert").click()
    expect(types).to_have_text(["messages.upsert"])
    admin_page.get_by_role("link", name=instance.name).click()
    expect(admin_page.locator("pre")).to_contain_text('"event": "messages.upsert",\n')


def test_the_options_of_a_transport_show_when_it_is_chosen(admin_page):
    admin_page.goto(at("add", Subscription))
    expect(admin_page.get_by_label("URL")).to_be_hidden()
    admin_page.get_by_label("Transport").select_option("webhook")
    expect(admin_page.get_by_label("URL")).to_be_visible()
    admin_page.get_by_label("Transport").select_option("rabbitmq")
    expect(admin_page.get_by_label("URL")).to_be_hidden()
