"""A transport that one file and one line of the settings add: subscribed by REST, at creation, and in the admin."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from instances.api.transports import TransportSettings, registered_transports
from tests.clients.staff import Staff, url
from tests.in_process import until
from tests.server import Server, server_environment

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.additions.settings"}
ADD = url("add", "instances_subscription")


@pytest.fixture(scope="module")
def with_spool(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a transport of the tests, on a database that was migrated without it."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as environment:
        server = Server(environment | SETTINGS)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def folder() -> str:
    return f"folder-{secrets.token_hex(4)}"


def written(server: Server, folder: str, count: int = 1) -> list[tuple[str, Any]]:
    """Wait for so many files in a folder; return the first line and the JSON of each, in order."""
    found = Path(server.environment["DATA_DIR"]) / "spool" / folder
    until(lambda: len(list(found.glob("*.json"))) >= count)
    texts = [file.read_text().split("\n", 1) for file in found.glob("*.json")]
    return sorted(((first, json.loads(body)) for first, body in texts), key=lambda each: each[1]["seq"])


@pytest.mark.parametrize("is_flat", [False, True], ids=["nested", "flat"])
def test_it_is_subscribed_by_rest(with_spool, folder, is_flat):
    instance = with_spool.create()
    path = with_spool.path("/spool/find", instance)
    assert with_spool.get(path).json is None
    members = {"enabled": True, "events": ["MESSAGES_UPSERT"], "folder": folder, "passphrase": "sesame"}

    set_ = with_spool.post(with_spool.path("/spool/set", instance), members if is_flat else {"spool": members})

    assert set_.status == 201, set_.body
    row = {"enabled": True, "events": ["MESSAGES_UPSERT"], "folder": folder, "isPretty": False}
    assert {name: set_.json[name] for name in row} == row
    assert b"sesame" not in set_.body
    assert with_spool.get(path).json == set_.json
    with_spool.receive(instance, "hello")
    [(passphrase, event)] = written(with_spool, folder)
    assert (passphrase, event["event"], event["data"]["message"]) == (
        "sesame",
        "messages.upsert",
        {"conversation": "hello"},
    )
    [delivery] = with_spool.get(with_spool.path("/webhook/deliveries", instance)).json["deliveries"]
    assert (delivery["transport"], delivery["destination"]) == ("spool", f"{folder}/messages.upsert")


def test_what_is_missing_or_wrong_is_named(with_spool):
    instance = with_spool.create()
    body = {"spool": {"enabled": True, "folder": "No such", "isPretty": "yes"}}
    refused = with_spool.post(with_spool.path("/spool/set", instance), body)
    assert refused.status == 400
    [lines] = refused.json["response"]["message"]
    assert 'spool requires property "passphrase"' in lines
    assert "spool.isPretty is not of a type(s) boolean" in lines
    assert len(lines) == 3


def test_it_is_subscribed_with_the_creation_of_an_instance(with_spool, folder):
    spool = {"folder": folder, "passphrase": "sesame"}
    name = f"instance-{secrets.token_hex(4)}"

    created = with_spool.post("/instance/create", {"instanceName": name, "integration": "EVOLUTION", "spool": spool})

    assert created.status == 201
    assert created.json["spool"] == {"enabled": True}
    [(_, event)] = written(with_spool, folder)
    assert event["event"] == "instance.create"
    [row] = with_spool.get(f"/instance/fetchInstances?instanceName={name}").json
    assert row["Spool"]["enabled"] is True


@pytest.mark.slow
def test_it_is_subscribed_in_the_admin_and_changed_there(with_spool, folder):
    instance = with_spool.create()
    staff = Staff(with_spool, is_superuser=True)
    page = staff.get(ADD).body.decode()
    assert '<option value="spool">spool</option>' in page
    assert "The name of a folder." in page
    form = {"instance": instance.id, "transport": "spool", "is_enabled": "on"}
    assert "This field is required." in staff.post(ADD, form).body.decode()

    form |= {"spool_folder": folder, "spool_passphrase": "sesame"}
    assert staff.post(ADD, form).status == 302

    with_spool.receive(instance, "hello")
    assert {passphrase for passphrase, _ in written(with_spool, folder, 3)} == {"sesame"}
    pk = with_spool.get(with_spool.path("/spool/find", instance)).json["id"]
    change = url("change", "instances_subscription", pk)
    page = staff.get(change).body.decode()
    assert f'value="{folder}"' in page
    assert "sesame" not in page

    kept = {"is_enabled": "on", "events": ["CALL"], "spool_folder": folder}
    assert staff.post(change, kept).status == 302
    elsewhere = kept | {"spool_folder": f"{folder}-2"}
    assert "This field is required." in staff.post(change, elsewhere).body.decode(), "the secret does not follow"
    assert staff.post(change, elsewhere | {"spool_passphrase": "another"}).status == 302
    with_spool.post(with_spool.path("/event/publish", instance), {"event": "call", "data": {}})
    [(passphrase, event)] = written(with_spool, f"{folder}-2")
    assert (passphrase, event["event"]) == ("another", "call")
    assert f"{folder}-2" in staff.get(f"{url('changelist', 'instances_subscription')}?transport=spool").body.decode()


def test_who_may_not_have_events_sent_to_him_cannot_add_it(with_spool, folder):
    instance = with_spool.create()
    staff = Staff(with_spool, "add_subscription", "view_subscription", "view_instance")
    assert '<option value="spool">' not in staff.get(ADD).body.decode()
    form = {"instance": instance.id, "transport": "spool", "spool_folder": folder, "spool_passphrase": "sesame"}
    assert "spool is not one of the available choices" in staff.post(ADD, form).body.decode()


def test_it_is_in_the_document_and_needs_no_migration(with_spool):
    described = with_spool.get("/openapi.json").json
    set_ = described["paths"]["/spool/set/{name}"]["post"]
    assert (set_["operationId"], set_["description"].split(";")[0]) == (
        "SetSpool",
        "Set the events that are written to files",
    )
    schemas = described["components"]["schemas"]
    assert set(schemas["SpoolBodyRequest"]["properties"]) == {"enabled", "events", "folder", "isPretty", "passphrase"}
    assert set(schemas["SpoolRow"]["properties"]) == {*schemas["SubscriptionRow"]["properties"], "folder", "isPretty"}
    assert "spool" in schemas["CreateInstanceBodyRequest"]["properties"]
    assert "No changes detected" in with_spool.manage("makemigrations", "--check", "--dry-run")


def test_a_subscription_of_rabbitmq_is_refused_in_the_admin_while_it_is_off(with_spool):
    instance = with_spool.create()
    form = {"instance": instance.id, "transport": "rabbitmq", "is_enabled": "on"}
    page = Staff(with_spool, is_superuser=True).post(ADD, form).body.decode()
    assert "RabbitMQ is disabled on this server: RABBITMQ_ENABLED is not true" in page


class Nameless(TransportSettings):
    name = ""
    title = "Nameless"


class WithSpaces(TransportSettings):
    name = "spaces"
    title = "With spaces"


class Second(TransportSettings):
    name = "websocket"
    title = "Second"


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("transport", "error"),
    [
        ("Nameless", "declares no `name`"),
        ("WithSpaces", "or no `title` without spaces"),
        ("Second", 'has the name "websocket" of another transport'),
    ],
)
def test_a_wrong_declaration_stops_the_start(settings, transport, error):
    settings.EVENT_TRANSPORTS = [f"{__name__}.{transport}"]
    registered_transports.cache_clear()
    try:
        with pytest.raises(ImproperlyConfigured, match=error):
            registered_transports()
    finally:
        registered_transports.cache_clear()
