"""The pages of who is connected, of failures and of rotations in a browser: their use, axe-core, and 360 pixels."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from instances.models import Subscription
from tests.clients.staff import url
from tests.instances.admin.pages import at
from tests.page_checks import check_page
from tests.realtime.admin.rows import SECRET
from tests.receiver import Receiver

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


@pytest.mark.slow
def test_a_socket_is_cut_failures_are_retried_and_a_secret_is_rotated(admin_page, server, node):
    instance = server.create()
    socket = node.connect(
        f"{server.url}/{instance.name}",
        auth={"apikey": instance.token},
        extraHeaders={"User-Agent": "<b>shop</b>/1.0"},
    ).connected()
    admin_page.goto(url("connected", "realtime_process") + f"?instance_id={instance.id}")
    expect(admin_page.get_by_text("<b>shop</b>/1.0")).to_be_visible()
    check_page(admin_page)
    admin_page.get_by_role("button", name=f"Cut 127.0.0.1 in /{instance.name}").click()
    expect(admin_page.get_by_text("Nobody is connected.")).to_be_visible()
    assert socket.wait_for("disconnect")["reason"] == "io server disconnect"

    answers = [400]
    with Receiver(lambda request: answers[-1]) as receiver:
        members = {"url": receiver.url, "events": ["MESSAGES_UPSERT"]}
        endpoint = server.post(server.path("/webhook/endpoints", instance), members).json["id"]
        server.receive(instance, "Good morning")
        button = admin_page.get_by_role("button", name="Retry all of these: HTTP 400 Bad Request")
        for _ in range(100):
            admin_page.goto(url("failures", "realtime_delivery") + f"?instance_id={instance.id}")
            if button.count():
                break
            admin_page.wait_for_timeout(100)
        check_page(admin_page)
        answers.append(200)
        button.click()
        expect(admin_page.get_by_text("Sent again: 1.")).to_be_visible()
        for _ in range(100):
            if len(receiver.requests) == 2:
                break
            admin_page.wait_for_timeout(100)
    assert receiver.requests[0].id == receiver.requests[1].id

    admin_page.goto(at("change", Subscription, endpoint))
    admin_page.get_by_role("link", name="Rotate secret").click()
    check_page(admin_page)
    admin_page.get_by_label("The old secret signs as well").select_option("For an hour")
    admin_page.get_by_role("button", name="Rotate", exact=True).click()
    assert SECRET.fullmatch(admin_page.locator("code").inner_text())
    admin_page.get_by_role("link", name="Continue to").click()
    expect(admin_page.locator(".field-signing")).to_contain_text("signs with two secrets until 20")
    check_page(admin_page)
    admin_page.get_by_role("button", name="End the old secret").click()
    expect(admin_page.locator(".field-signing")).to_contain_text("signs with one secret")
