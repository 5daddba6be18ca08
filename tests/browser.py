"""Chromium, logged in to the admin of the running server."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, Response, sync_playwright

from tests.clients.staff import SESSION
from tests.conftest import missing
from tests.server import Server

USERNAME, PASSWORD = "administrator", secrets.token_urlsafe(16)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def administrator(server: Server) -> None:
    code = "from django.contrib.auth.models import User; User.objects.create_superuser({!r}, password={!r})"
    server.shell(code.format(USERNAME, PASSWORD))


def chromium() -> str:
    """Return the path of Chromium; skips the test without it."""
    path = shutil.which("chromium")
    if path is None:
        missing("Chromium is not installed")
    return path or ""


@pytest.fixture
def page(server: Server) -> Iterator[Page]:
    """A page of a new browser; these fail the test: an error of a script or in the console, a response of 400 and
    above, a request to another host.

    Each test starts its own browser: while Playwright's event loop exists, other tests cannot run one, nor use the ORM.
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

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        page = browser.new_page(base_url=server.url, viewport={"width": 1280, "height": 900})
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", record_request)
        page.on("response", record_response)
        page.on("console", record_line)
        yield page
        browser.close()
    assert not errors


@pytest.fixture
def admin_page(page: Page, administrator: None, server: Server) -> Page:
    """The admin's first page, with a session of the superuser."""
    user = f"from django.contrib.auth.models import User; user = User.objects.get(username={USERNAME!r})\n"
    key = server.shell(user + SESSION).strip()
    page.context.add_cookies([{"name": "sessionid", "value": key, "url": server.url}])
    page.goto("/admin/")
    return page
