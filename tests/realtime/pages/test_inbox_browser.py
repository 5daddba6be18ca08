"""An inbox in a browser."""

from __future__ import annotations

import urllib.request

import pytest
from playwright.sync_api import expect

from tests.page_checks import NO_CLIPBOARD, check_page

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database

MARKUP = (
    '{"text": "<img src=x onerror=\\"document.title=1\\"><script>document.title=1</script>", "n": 12345678901234567890}'
)


def post(url: str, body: str) -> None:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", "X-Mark": "<b>x</b>"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.status, response.read()) == (200, b"")


@pytest.mark.slow
def test_an_inbox_is_made_by_one_click_and_shows_what_comes_as_text(admin_page, server):
    instance = server.create()
    admin_page.goto("/console/inbox/")
    check_page(admin_page)
    admin_page.get_by_role("button", name="New inbox").click()
    url = admin_page.get_by_label("Post to").input_value()
    title = admin_page.title()
    expect(admin_page.get_by_role("status")).to_have_text("Waiting for the first request …")

    post(url, MARKUP)
    listed = admin_page.get_by_role("list", name="Requests").get_by_role("button")
    expect(listed).to_have_count(1)
    body = admin_page.locator("#body")
    expect(body).to_have_text(MARKUP.replace('{"', '{\n  "').replace(', "n"', ',\n  "n"').replace("}", "\n}"))
    expect(admin_page.get_by_role("cell", name="<b>x</b>")).to_be_visible()
    admin_page.get_by_role("button", name="As received").click()
    assert body.inner_text() == MARKUP
    assert (admin_page.title(), admin_page.locator("#body *").count()) == (title, 0)

    admin_page.get_by_label("Instance").fill(instance.name)
    admin_page.get_by_role("button", name="Send events here").click()
    expect(admin_page.get_by_text(f"The events of {instance.name} are sent here")).to_be_visible()
    event = admin_page.get_by_role("button", name="messages.upsert")
    expect(event).to_contain_text("Signature valid")
    event.click()
    expect(admin_page.locator("#detail-verdict")).to_contain_text("It fits the secret of endpoint")
    expect(body).to_contain_text('"event": "messages.upsert",\n')
    chosen = admin_page.url
    admin_page.reload()
    expect(admin_page.locator("#detail-title")).to_have_text("messages.upsert")
    assert admin_page.url == chosen

    admin_page.get_by_text("Check the signatures of others").click()
    admin_page.get_by_text("Try it with curl").click()
    check_page(admin_page)
    admin_page.emulate_media(color_scheme="dark")
    check_page(admin_page)
    admin_page.get_by_text("Delete this inbox").click()
    admin_page.get_by_role("button", name="Delete it with all requests").click()
    expect(admin_page.get_by_text("The inbox is deleted.")).to_be_visible()


@pytest.mark.slow
def test_an_inbox_is_copied_over_http_too_and_says_why_it_shows_no_more(admin_page, server):
    admin_page.add_init_script(NO_CLIPBOARD)
    admin_page.goto("/console/inbox/")
    admin_page.get_by_role("button", name="New inbox").click()
    url = admin_page.get_by_label("Post to").input_value()
    button = admin_page.locator("[data-copy=url]")
    button.click()
    expect(button).to_have_text("Copied")
    expect(button).to_be_focused()
    admin_page.get_by_label("Instance").press("Control+V")
    assert admin_page.get_by_label("Instance").input_value() == url

    post(url, "first")
    post(url, "second")
    listed = admin_page.get_by_role("list", name="Requests").get_by_role("button")
    expect(listed).to_have_count(2)
    status = admin_page.locator("#status")
    admin_page.route("**/requests/*/", lambda route: route.fulfill(body="<p>A page of a proxy"))
    listed.last.click()
    expect(status).to_have_text("The server does not answer. Choose the request again.")
    admin_page.unroute_all()
    admin_page.context.clear_cookies()
    expect(status).to_have_text("You are logged out. Load this page again to log in.")
    listed.last.click()
    expect(status).to_have_text("You are logged out. Load this page again to log in.")
