"""The code that the console makes of its subscription: each snippet runs and receives an event."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.conftest import missing
from tests.environment import GLOBAL_KEY
from tests.realtime.pages.console.test_browser import console
from tests.server import ROOT

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


@pytest.mark.slow
def test_the_snippets_receive_the_types_that_are_chosen(admin_page, server):
    for program in ("node", "curl"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    instance = server.create("it's the café's")
    console(admin_page, server, instance, "?type=labels.edit")
    admin_page.get_by_role("button", name="As code").click()
    snippets = {}
    for language in ("JavaScript", "Python", "curl", "n8n"):
        admin_page.get_by_role("tab", name=language).click()
        snippets[language] = admin_page.locator("#code-text").inner_text()
    commands = {
        "JavaScript": ["node", "--input-type=module", "-e", snippets["JavaScript"]],
        "Python": [sys.executable, "-c", snippets["Python"]],
        "curl": ["sh", "-c", f"exec {snippets['curl'].replace('curl -N', 'curl -sN')}"],
    }
    environment = {"PATH": os.environ["PATH"], "APIKEY": GLOBAL_KEY}
    options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "text": True}
    running = {language: subprocess.Popen(command, **options) for language, command in commands.items()}
    try:
        for _ in range(8):  # those that start late miss the first of them
            server.receive(instance, "of another type")
            server.post(server.path("/event/publish", instance), {"event": "labels.edit", "data": {"id": "7"}})
            time.sleep(0.5)
    finally:
        for process in running.values():
            process.terminate()
    outputs = {language: process.communicate(timeout=20)[0] for language, process in running.items()}
    for language in ("JavaScript", "Python"):
        assert {json.loads(line)["event"] for line in outputs[language].splitlines()} == {"labels.edit"}, language
    assert "event: labels.edit" in outputs["curl"]
    assert "messages.upsert" not in outputs["curl"]

    [webhook, note] = json.loads(snippets["n8n"])["nodes"]
    assert (webhook["type"], webhook["parameters"]["httpMethod"]) == ("n8n-nodes-base.webhook", "POST")
    registration = note["parameters"]["content"].partition("\n\n")[2]
    url = "https://n8n.example.com/webhook/evoapi"
    registration = registration.replace("THE PRODUCTION URL OF THIS NODE", url)
    done = subprocess.run(
        ["sh", "-c", f"{registration} -s"], env=environment, capture_output=True, text=True, timeout=20
    )
    assert (json.loads(done.stdout)["url"], json.loads(done.stdout)["events"]) == (url, ["LABELS_EDIT"])
