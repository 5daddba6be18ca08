"""The admin of endpoints and deliveries in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from standardwebhooks.webhooks import Webhook as Verifier

from instances.models import Instance, Subscription
from tests.instances.admin.pages import at
from tests.realtime.admin.rows import SECRET, URL
from tests.receiver import Receiver

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


@pytest.mark.slow
def test_a_webhook_is_added_and_its_deliveries_are_read_and_sent_again(admin_page, server):
    instance = server.create()
    with Receiver() as receiver:
        admin_page.goto(at("change", Instance, instance.id))
        admin_page.get_by_role("link", name="Add a webhook").click()
        admin_page.get_by_label("MESSAGES_UPSERT").check()
        admin_page.get_by_label("URL").fill(receiver.url)
        admin_page.get_by_label("Headers").fill('{"X-Shop": "our-own-header"}')
        admin_page.get_by_role("button", name="Save", exact=True).click()
        expect(admin_page.get_by_role("heading", name="Signing secret of")).to_be_visible()
        assert SECRET.fullmatch(admin_page.locator("code").inner_text())
        admin_page.get_by_role("link", name="Continue to").click()
        expect(admin_page.locator(".readonly.field-state")).to_have_text("ok")
        expect(admin_page.locator(".readonly.field-stored_headers")).to_have_text("X-Shop: ********")
        assert "our-own-header" not in admin_page.content()

        server.receive(instance, "Good morning")
        admin_page.goto(at("change", Instance, instance.id))
        admin_page.locator(".head").get_by_role("link", name="Deliveries").click()
        cell = admin_page.locator("td.field-state")
        for _ in range(100):
            if cell.count() == 1 and cell.inner_text() == "Delivered":
                break
            admin_page.wait_for_timeout(100)
            admin_page.reload()
        admin_page.get_by_role("link", name=instance.name).first.click()
        expect(admin_page.locator("pre")).to_contain_text('"event": "messages.upsert",\n')
        expect(admin_page.locator(".attempts tbody tr")).to_have_count(1)
        assert "our-own-header" not in admin_page.content()

        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("Sent again: 1.")).to_be_visible()
        for _ in range(100):
            if len(receiver.requests) == 2:
                break
            admin_page.wait_for_timeout(100)
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["X-Shop"] == "our-own-header"


def test_the_form_shows_the_fields_of_the_transport(admin_page, server):
    instance = server.create()
    admin_page.goto(at("add", Subscription))
    expect(admin_page.get_by_label("URL")).not_to_be_visible()
    admin_page.get_by_label("Transport").select_option("webhook")
    admin_page.locator(".field-instance .select2-selection").click()
    admin_page.locator(".select2-search__field").fill(instance.name)
    admin_page.get_by_role("option", name=instance.name).click()
    admin_page.get_by_label("URL").fill("http://169.254.169.254/latest")
    admin_page.get_by_label("Headers").fill('{"X-Shop": "our-own-header"}')
    admin_page.get_by_role("button", name="Save").click()

    expect(admin_page.get_by_text("is not public")).to_be_visible()
    assert "our-own-header" not in admin_page.content()
    admin_page.get_by_label("URL").fill(URL)
    admin_page.get_by_role("button", name="Save").click()
    expect(admin_page.locator("code")).to_have_text(SECRET)


@pytest.mark.slow
def test_a_range_is_sent_to_another_url_and_a_test_event_of_a_chosen_type(admin_page, server):
    instance = server.create()
    with Receiver(lambda request: 400) as refusing, Receiver() as other:
        endpoint_id = server.post(
            server.path("/webhook/endpoints", instance),
            {"url": refusing.url, "headers": {"X-Shop": "theirs"}, "events": ["MESSAGES_UPSERT"]},
        ).json["id"]
        server.receive(instance, "Good morning")
        admin_page.goto(at("change", Subscription, endpoint_id))
        dead = admin_page.locator(".readonly.field-dead")
        for _ in range(100):
            if dead.inner_text() == "1":
                break
            admin_page.wait_for_timeout(100)
            admin_page.reload()
        admin_page.get_by_role("link", name="send a range again").click()
        expect(admin_page.locator(".field-instance .select2-selection__rendered")).to_contain_text(instance.name)
        expect(admin_page.get_by_label("Endpoint")).to_have_value(endpoint_id)
        admin_page.get_by_label("Since").fill("2026-01-01T00:00:00")
        admin_page.get_by_label("URL").fill(other.url)
        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("A URL requires a secret.")).to_be_visible()
        admin_page.get_by_label("Secret").fill("whsec_" + "B" * 43 + "=")
        admin_page.get_by_role("button", name="Send again").click()
        expect(admin_page.get_by_text("Sent again to 127.0.0.1: 1.")).to_be_visible()

        admin_page.goto(at("change", Subscription, endpoint_id))
        admin_page.get_by_label("Type of the test event").select_option("labels.edit")
        admin_page.get_by_role("button", name="Send test").click()
        expect(admin_page.get_by_text("A test event of type labels.edit is queued.")).to_be_visible()
        expect(admin_page.locator(".readonly.field-asked_by")).to_have_text("administrator in the admin")
        for _ in range(100):
            if other.requests and len(refusing.requests) == 2:
                break
            admin_page.wait_for_timeout(100)
    [resent], [first, test] = other.requests, refusing.requests
    assert (resent.id, resent.body) == (first.id, first.body)
    assert "X-Shop" not in resent.headers
    Verifier("whsec_" + "B" * 43 + "=").verify(resent.body, dict(resent.headers))
    assert test.json["event"] == "labels.edit"
