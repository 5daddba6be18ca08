"""Chromium, logged in to the admin of the running server."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, sync_playwright

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
    """A page of a new browser; errors of its scripts, error responses and violations of the CSP fail the test.

    Each test starts its own browser: while Playwright's event loop exists, other tests cannot run one, nor use the ORM.
    """
    errors: list[str] = []

    def record(response: Response) -> None:
        if response.status >= 400 and not urlsplit(response.url).path.startswith("/favicon"):
            errors.append(f"{response.status} {response.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        page = browser.new_page(base_url=server.url, viewport={"width": 1280, "height": 900})
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("response", record)
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        yield page
        browser.close()
    assert not errors


@pytest.fixture
def admin_page(page: Page, administrator: None) -> Page:
    page.goto("/admin/")
    page.get_by_label("Username").fill(USERNAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    return page
