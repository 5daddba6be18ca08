"""The admin's first page in a browser: what goes wrong appears there, and leads to where it is mended."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.page_checks import check_page
from tests.receiver import Receiver

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


@pytest.mark.slow
def test_a_failing_endpoint_appears_and_its_figures_lead_to_its_deliveries(admin_page, server):
    # those of other tests do not fail meanwhile: the page has a few examples of each kind
    server.shell("from instances.models import Subscription; Subscription.objects.update(is_enabled=False)")
    instance = server.create()
    with Receiver(lambda request: 503) as receiver:
        body = {"webhook": {"enabled": True, "url": receiver.url, "events": ["MESSAGES_UPSERT"]}}
        assert server.post(server.path("/webhook/set", instance), body).status == 201
        server.receive(instance, "Good morning")
        example = admin_page.locator(".examples li", has_text=f"of {instance.name}")
        for _ in range(100):
            admin_page.goto("/admin/")
            if example.get_by_text("HTTP 503").count():
                break
            admin_page.wait_for_timeout(200)

    expect(admin_page.get_by_role("heading", name="What is wrong now")).to_be_visible()
    expect(admin_page.get_by_role("img", name="Events per minute, last 24 hours")).to_be_visible()
    admin_page.get_by_text("Table of deliveries and failures per hour").click()
    expect(admin_page.get_by_role("columnheader", name="Failed attempts")).to_be_visible()
    check_page(admin_page)
    admin_page.emulate_media(color_scheme="dark")
    check_page(admin_page)

    example.get_by_role("link", name="1 waiting").click()
    expect(admin_page.locator("#result_list").get_by_role("link", name=instance.name)).to_have_count(1)
    admin_page.goto("/admin/instances/instance/")
    check_page(admin_page)
