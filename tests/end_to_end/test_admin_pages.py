"""The Content-Security-Policies of pages, which forbid inline scripts and styles, and the admin's look in a browser."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from instances.models import Instance
from tests.clients.staff import Staff
from tests.instances.admin.pages import at
from tests.page_checks import check_page

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


END = "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        # Alpine evaluates the expressions in its attributes
        ("/admin/", f"default-src 'self'; script-src 'self' 'unsafe-eval'; img-src 'self' data:; {END}"),
        ("/console/", f"default-src 'self'; {END}"),
        ("/console/inbox/", f"default-src 'self'; {END}"),
        ("/docs/", f"default-src 'self'; {END}"),
    ],
)
def test_pages_have_a_policy_without_inline_scripts_and_styles(server, path, policy):
    """Chromium keeps to it: test_every_page.py fails at each violation."""
    response = Staff(server, is_superuser=True).get(path)
    assert response.status == 200
    assert response.headers["Content-Security-Policy"] == policy


def test_htmx_evaluates_nothing_and_adds_no_style(server):
    page = server.get("/admin/login/", key=None).body.decode()
    [config] = re.findall(r"<meta name=\"htmx-config\" content='([^']+)'", page)
    assert json.loads(config) == {"allowEval": False, "includeIndicatorStyles": False, "selfRequestsOnly": True}


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


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("", "Overview"),
        ("realtime/delivery/failures/", "Failures by cause"),
        ("realtime/delivery/?state__exact=dead", "Deliveries"),
        ("realtime/process/connected/", "Who is connected"),
        ("instances/instance/add/", "Instances"),
        ("search/?s=loja", None),
    ],
)
def test_the_navigation_marks_one_link(admin_client, path, title):
    page = admin_client.get(f"/admin/{path}").content.decode()
    marked = re.findall(r'<a href="[^"]*" class="[^"]* active">.*?<span>([^<]+)</span>', page, re.DOTALL)
    assert marked == ([title] if title else [])
