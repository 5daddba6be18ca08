"""Chromium, logged in to the admin of the running server."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from textwrap import indent

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from tests.clients.staff import SESSION
from tests.conftest import missing
from tests.server import Server

USERNAME, PASSWORD = "administrator", secrets.token_urlsafe(16)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


#: Creates the superuser, and begins sessions of his, whose keys it prints.
LOGGED_IN = f"""
from django.contrib.auth.models import User
user = User.objects.create_superuser({USERNAME!r}, password={PASSWORD!r})
for _ in range({{count}}):
{indent(SESSION, "    ")}
"""
#: Sessions that are begun at once: a process of `manage.py shell` takes longer than all of them.
SESSIONS = 60


@pytest.fixture(scope="session")
def administrator(server: Server) -> list[str]:
    """Keys of sessions of the superuser, one for each test to take."""
    return server.shell(LOGGED_IN.format(count=SESSIONS)).split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of a module: they come last in it (tests/conftest.py).

    While Playwright's event loop exists, other tests cannot run one, nor use the ORM.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        yield browser
        browser.close()


def chromium() -> str:
    """Return the path of Chromium; skips the test without it."""
    path = shutil.which("chromium")
    if path is None:
        missing("Chromium is not installed")
    return path or ""


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page with cookies and storage of its own; these fail the test: an error of a script or in the console, a
    response of 400 and above, a request to another host.
    """
    errors: list[str] = []

    def record_response(response: Response) -> None:
        if response.status >= 400:
            errors.append(f"{response.status} {response.url}")

    def record_request(request: Request) -> None:
        if not request.url.startswith((server.url, "data:", "blob:", "ws" + server.url.removeprefix("http"))):
            errors.append(f"a request to {request.url}")

    def record_line(line: ConsoleMessage) -> None:
        if line.type == "error" and not line.text.startswith("Failed to load resource"):  # a response, or offline
            errors.append(line.text)

    page = browser.new_page(base_url=server.url, viewport={"width": 1280, "height": 900})
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", record_request)
    page.on("response", record_response)
    page.on("console", record_line)
    yield page
    page.context.close()
    assert not errors


@pytest.fixture
def admin_page(page: Page, administrator: list[str], server: Server) -> Page:
    """The admin's first page, with a session of the superuser."""
    page.context.add_cookies([{"name": "sessionid", "value": administrator.pop(), "url": server.url}])
    page.goto("/admin/")
    return page
