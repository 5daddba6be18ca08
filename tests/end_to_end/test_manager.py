"""Evolution Manager, of 2.3 and of 2.4, from the log-in to a chat: served here, and from another origin.

No copy of it is part of this repository. TEST_MANAGER_DIRS names the directories of built copies (`manager/dist` of
releases of Evolution API), separated by colons; without it these tests are skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect, sync_playwright

from tests.browser import OPTIONS, chromium
from tests.environment import GLOBAL_KEY, MANAGER_DIRS
from tests.in_process import until
from tests.server import Number, Server

pytestmark = [pytest.mark.any_database, pytest.mark.slow]

COPIES = [Path(each) for each in MANAGER_DIRS.split(os.pathsep) if each]
#: The pages of an instance beside its chat.
PAGES = (
    *("dashboard", "settings", "proxy", "webhook", "websocket", "rabbitmq", "sqs", "chatwoot", "typebot", "openai"),
    *("dify", "n8n", "evoai", "flowise", "evolutionBot"),
)


@pytest.fixture(params=COPIES or [None], ids=lambda copy: copy.name if copy else "no copy")
def copy(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip("TEST_MANAGER_DIRS names no copy of Evolution Manager")
    path: Path = request.param
    return path


class Elsewhere(SimpleHTTPRequestHandler):
    """Serves a dashboard as a web server of its own does: what is no file is the page."""

    def send_head(self) -> Any:
        if not Path(self.translate_path(self.path)).is_file():
            self.path = "/index.html"
        return super().send_head()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served_elsewhere(copy: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Elsewhere, directory=copy)) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()
        thread.join()


class Dashboard:
    """A dashboard in a browser."""

    def __init__(self, page: Page, origin: str, server: Server) -> None:
        self.page, self.origin, self.server = page, origin, server
        #: What must not be: answers of a missing route or a failure, errors of scripts, violations of the CSP.
        self.errors: list[str] = []
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._check)
        page.on("console", lambda line: self.errors.append(line.text) if "Security Policy" in line.text else None)

    def _check(self, response: Response) -> None:
        is_ours = response.url.startswith(self.server.url)
        if is_ours and (response.status == 404 or response.status >= 500):
            self.errors.append(f"{response.status} {response.request.method} {response.url}")

    def log_in(self) -> None:
        self.page.goto(f"{self.origin}/manager/login")
        password = self.page.locator("input[type=password]")
        password.fill(GLOBAL_KEY)
        self.page.locator("input").first.fill(self.server.url)
        self.page.locator("button[type=submit]").click()
        self.page.wait_for_url(f"{self.origin}/manager/")

    def open(self, instance: Number, path: str) -> None:
        self.page.goto(f"{self.origin}/manager/instance/{instance.id}/{path}")
        self.page.wait_for_load_state("networkidle")

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text).last).to_be_visible(timeout=15_000)


@contextmanager
def browser(origin: str, server: Server) -> Iterator[Dashboard]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        dashboard = Dashboard(started.new_page(viewport={"width": 1400, "height": 900}), origin, server)
        yield dashboard
        started.close()
    assert dashboard.errors == []


def send(dashboard: Dashboard, text: str) -> None:
    box = dashboard.page.locator("textarea, [contenteditable=true], input[type=text]").last
    box.fill(text)
    box.press("Enter")


def test_it_is_served_here_and_reads(start_server, copy: Path):
    server: Server = start_server(EVOLUTION_MANAGER_DIR=str(copy))
    instance = server.create(name=f"Loja São {copy.name}")
    server.receive(instance, "Bom dia!")
    with browser(server.url, server) as dashboard:
        dashboard.log_in()
        dashboard.sees(instance.name)
        for path in PAGES:
            dashboard.open(instance, path)
            assert dashboard.page.locator("#root").inner_text().strip(), path
        dashboard.open(instance, "chat")
        dashboard.page.get_by_text("Ana", exact=True).first.click()
        dashboard.sees("Bom dia!")
        send(dashboard, "Até as 18h")
        until(lambda: server.counts(instance)["Message"] == 2)
        server.receive(instance, "Obrigada!")
        dashboard.page.reload()  # its socket has no key, so it receives nothing
        dashboard.sees("Obrigada!")


def test_it_works_from_another_origin_and_live_where_that_is_allowed(start_server, copy: Path):
    with served_elsewhere(copy) as origin:
        server: Server = start_server(WEBSOCKET_ALLOWED_HOSTS="127.0.0.1", CORS_ORIGIN=f"*,{origin}")
        instance = server.create(name=f"Padaria {copy.name}")
        server.receive(instance, "Bom dia!")
        with browser(origin, server) as dashboard:
            dashboard.log_in()
            dashboard.sees(instance.name)
            dashboard.open(instance, "dashboard")
            dashboard.open(instance, "chat")
            dashboard.page.get_by_text("Ana", exact=True).first.click()
            dashboard.sees("Bom dia!")
            server.receive(instance, "Obrigada!")
            dashboard.sees("Obrigada!")
