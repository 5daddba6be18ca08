"""The page of an instance in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from instances.models import Instance
from tests.instances.admin.pages import at
from tests.page_checks import check_page

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


def publish(server, instance, event, data):
    response = server.post(server.path("/event/publish", instance), {"event": event, "data": data})
    assert response.status == 201


@pytest.mark.slow
def test_an_instance_is_paired_and_tried_and_logged_out_on_its_page(admin_page, server):
    instance = server.create()
    publish(server, instance, "connection.update", {"instance": instance.name, "state": "connecting"})
    admin_page.goto(at("change", Instance, instance.id))
    state, code = admin_page.locator("[data-state]"), admin_page.get_by_role("img", name="QR code to scan")
    expect(state).to_have_text("connecting")
    expect(admin_page.get_by_text("Waiting for a code of the engine.")).to_be_visible()
    expect(code).to_be_hidden()

    qr_code = {"instance": instance.name, "pairingCode": "WZYEH1YY", "code": "2@one,two,three", "base64": ""}
    publish(server, instance, "qrcode.updated", {"qrcode": qr_code})
    expect(code).to_be_visible()
    first = code.get_attribute("src")
    assert code.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(admin_page.get_by_text("WZYEH1YY")).to_be_visible()
    check_page(admin_page)
    publish(server, instance, "qrcode.updated", {"qrcode": qr_code | {"code": "2@four,five,six"}})
    expect(code).not_to_have_attribute("src", first)
    publish(server, instance, "connection.update", {"instance": instance.name, "state": "open", "statusReason": 200})
    expect(code).to_be_hidden()
    expect(admin_page.get_by_text("The phone is paired: the connection is open.")).to_be_visible()
    expect(state).to_have_text("open")
    assert "WZYEH1YY" not in admin_page.content()

    admin_page.get_by_role("link", name="Send a test message").click()
    check_page(admin_page)
    admin_page.get_by_label("To the number").fill("5511 98888-7777")
    admin_page.get_by_role("button", name="Send").click()
    expect(admin_page.get_by_text("Handed to the engine as")).to_be_visible()
    check_page(admin_page)
    expect(admin_page.get_by_role("region", name="Timeline").get_by_text("send.message")).to_be_visible()

    admin_page.get_by_role("link", name="Log out").last.click()
    admin_page.get_by_role("button", name="Log out").click()
    expect(admin_page.get_by_role("alert")).to_contain_text("This is not the name of the instance.")
    check_page(admin_page)
    admin_page.get_by_label("Type the name").fill(instance.name)
    admin_page.get_by_role("button", name="Log out").click()
    expect(state).to_have_text("logged out")
    admin_page.get_by_role("button", name="Connect").click()
    expect(state).to_have_text("open")

    admin_page.get_by_role("link", name="Delete").click()
    check_page(admin_page)
    admin_page.get_by_label("Type the name").fill("another")
    admin_page.get_by_role("button", name="Delete").click()
    expect(admin_page.get_by_text(re.compile("Nothing was deleted"))).to_be_visible()
    admin_page.get_by_label("Type the name").fill(instance.name)
    admin_page.get_by_role("button", name="Delete").click()
    expect(admin_page.get_by_text("was deleted successfully")).to_be_visible()
