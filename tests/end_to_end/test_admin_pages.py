"""The admin's pages in a browser: their Content-Security-Policy, which forbids inline scripts and styles."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from instances.models import Instance
from tests.instances.admin.pages import at
from tests.page_checks import check_page

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


def kind(url):
    """Return the path with all ids alike; filters and orders are of one page."""
    return re.sub("/([0-9]+|[0-9a-f-]{36})/", "/…/", urlsplit(url).path)


@pytest.mark.slow
def test_every_page_keeps_to_the_policy(admin_page, server):
    """The fixture of the page checks it; test_every_page.py has a look at the pages themselves."""
    instance = server.create()
    server.receive(instance, "hello")
    body = {"webhook": {"enabled": True, "url": "http://127.0.0.1:9/", "events": ["MESSAGES_UPSERT"]}}
    assert server.post(server.path("/webhook/set", instance), body).status == 201
    server.receive(instance, "to a receiver that does not listen")

    response = admin_page.goto("/admin/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; script-src 'self' 'unsafe-eval'; img-src 'self' data:; object-src")
    assert "unsafe-inline" not in policy
    seen, waiting = {kind(admin_page.url)}, [admin_page.url]
    while waiting:
        admin_page.goto(waiting.pop())
        links = admin_page.eval_on_selector_all("#page a[href]", "links => links.map(link => link.href)")
        for link in links:
            if "/admin/" in link and not re.search("/auth/|/history/", link) and kind(link) not in seen:
                seen.add(kind(link))
                waiting.append(link)
    assert {"/admin/instances/subscription/…/change/", "/admin/realtime/delivery/…/change/"} <= seen


def test_styles_apply_and_the_theme_is_chosen_for_all_pages_by_the_keyboard(admin_page, server):
    instance = server.create()
    admin_page.goto(at("change", Instance, instance.id))
    button = admin_page.get_by_role("button", name="Show token")
    expect(button).to_have_css("font-weight", "500")
    expect(admin_page.locator("a.addlink")).to_have_css("background-color", "rgb(15, 118, 110)")

    main = admin_page.locator("#main")
    expect(main).to_have_css("background-color", "rgb(255, 255, 255)")
    admin_page.get_by_role("button", name="administrator").press("Enter")
    admin_page.get_by_role("button", name="Dark").press("Enter")
    expect(main).to_have_css("background-color", "rgb(24, 34, 38)")
    check_page(admin_page)
    admin_page.goto("/docs/")
    expect(admin_page.locator("html")).to_have_attribute("data-theme", "dark")
    admin_page.goto("/admin/")
    admin_page.get_by_role("button", name="administrator").press("Enter")
    admin_page.get_by_role("button", name="Log out").press("Enter")
    expect(admin_page.get_by_role("link", name="Log in again")).to_be_visible()
