"""What is added by CONTRIBUTING's table is complete: an event type is one place, and everything else knows of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.clients.staff import Staff, url
from tests.in_process import until
from tests.receiver import Receiver
from tests.server import ROOT, Server, server_environment

pytestmark = pytest.mark.any_database

#: An event type, as CONTRIBUTING has it written into the catalogue.
EVENT_TYPE = """
    ORDER_PLACED = _type(
        "order.placed",
        EventGroup.BUSINESS,
        "Ours: a customer has placed an order.",
        lambda example: {"remoteJid": ANA, "total": 42, "token": "removed"},
        {"type": "object", "properties": {"total": {"type": "integer", "description": "The sum."}}},
    )
"""
CATALOGUE = "instances/events/types.py"


@pytest.fixture(scope="module")
def edited(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str, str], Server]]:
    """Start a server from a copy of the code in which one file has an addition: edited(path, marker, addition)."""
    copy, data = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("data")
    for name in ("evoapi", "instances", "realtime", "templates", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", copy)
    with server_environment(migrated, data) as environment:
        server = Server(environment, root=copy)

        def start(path: str, marker: str, addition: str) -> Server:
            text = (copy / path).read_text()
            assert text.count(marker) == 1
            (copy / path).write_text(text.replace(marker, addition + marker))
            server.start()
            return server

        yield start
        server.stop()


@pytest.fixture(scope="module")
def with_new_type(edited: Callable[[str, str, str], Server]) -> Server:
    return edited(CATALOGUE, "\n    # Not in Evolution API\n", EVENT_TYPE)


def test_a_new_event_type_is_sent_as_a_test_event(with_new_type):
    instance = with_new_type.create()
    with Receiver() as receiver:
        webhook = {"enabled": True, "url": receiver.url, "events": ["ORDER_PLACED"]}
        assert with_new_type.post(with_new_type.path("/webhook/set", instance), webhook).status == 201

        sent = with_new_type.post(with_new_type.path("/webhook/test", instance), {"event": "ORDER_PLACED"})

        assert sent.status == 201, sent.body
        until(lambda: receiver.requests)
        [request] = receiver.requests
    assert request.json["event"] == "order.placed"
    assert request.json["test"] is True
    assert request.json["data"] == {"remoteJid": "5511911112222@s.whatsapp.net", "total": 42}


def test_a_new_event_type_is_published_to_sockets(with_new_type, node):
    instance = with_new_type.create()
    client = node.connect(f"{with_new_type.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    event = {"event": "order.placed", "data": {"total": 7, "api_key": "removed"}}
    assert with_new_type.post(with_new_type.path("/event/publish", instance), event).status == 201

    assert client.event("order.placed")["data"] == {"total": 7}
    client.disconnect()


def test_a_new_event_type_is_in_the_documents_and_in_the_admin(with_new_type):
    webhook = with_new_type.get("/openapi.json").json["components"]["schemas"]["WebhookBodyRequest"]
    events = webhook["properties"]["events"]["items"]
    described = dict(zip(events["enum"], events["x-enum-descriptions"], strict=True))
    assert described["ORDER_PLACED"] == "Ours: a customer has placed an order."

    page = Staff(with_new_type, is_superuser=True).get(url("add", "instances_subscription")).body.decode()
    assert 'name="events" value="ORDER_PLACED"' in page
    assert "Ours: a customer has placed an order." in page

    document = with_new_type.python("-m", "instances.events")
    assert "| `ORDER_PLACED` | `order.placed` | Ours: a customer has placed an order. |" in document
    assert "### order.placed" in document


def test_a_new_event_type_needs_no_migration(with_new_type):
    assert "No changes detected" in with_new_type.manage("makemigrations", "--check", "--dry-run")
