"""The AsyncAPI document."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from instances.events import EventType
from tests.conftest import missing
from tests.server import ROOT

pytestmark = pytest.mark.any_database

#: The parser's severities: errors and warnings are below the mere hints.
HINT = 2


@pytest.fixture
def document(client):
    return client.get("/docs/asyncapi.json")


@pytest.mark.slow
def test_the_parser_of_asyncapi_finds_no_fault(document):
    if shutil.which("node") is None:
        missing("Node is not installed")
    if not (ROOT / "node_modules" / "@asyncapi" / "parser").is_dir():
        missing("@asyncapi/parser is not installed: run `make setup-dev`")
    script = Path(__file__).with_name("parse_asyncapi.js").read_text()
    result = subprocess.run(
        ["node", "-e", script], input=document.content, cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    parsed = json.loads(result.stdout)
    assert [fault for fault in parsed["found"] if fault["severity"] < HINT] == []
    assert parsed["version"] == "3.0.0"
    assert parsed["messages"] > 4 * len([each for each in EventType if each.is_subscribable])


@pytest.mark.parametrize("channel", ["instance", "all", "stream", "webhook", "rabbitmq"])
def test_every_channel_has_every_event(document, channel):
    messages = document.json()["channels"][channel]["messages"]
    assert set(messages) >= {each.value for each in EventType if each.is_subscribable}


def test_sockets_send_messages_that_are_acknowledged(document):
    operation = document.json()["operations"]["sendMessage"]
    assert operation["action"] == "receive"
    assert operation["messages"] == [{"$ref": "#/channels/instance/messages/send_message"}]
    assert operation["reply"]["messages"] == [{"$ref": "#/channels/instance/messages/sent"}]
