"""POST /rabbitmq/set and GET /rabbitmq/find, and the delivery of events to a queue."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiormq
import pytest

from instances.events import DEFAULT_EVENTS
from tests.environment import RABBITMQ_URI
from tests.faults.proxy import Proxy
from tests.in_process import until
from tests.server import Number, Response, Server, server_environment

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("rabbitmq")]

PREFIX = f"evoapi-test-{secrets.token_hex(4)}"


SETTINGS = {
    "RABBITMQ_ENABLED": "true",
    "RABBITMQ_URI": RABBITMQ_URI,
    "RABBITMQ_EXCHANGE_NAME": PREFIX,
    "RABBITMQ_PREFIX_KEY": PREFIX,
    "RABBITMQ_GLOBAL_ENABLED": "true",
    "RABBITMQ_EVENTS_MESSAGES_UPSERT": "true",
    "RABBITMQ_EVENTS_CALL": "false",
}


@pytest.fixture(scope="module")
def with_rabbitmq(rabbitmq: None, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with its own database: servers that share one share its deliveries, and the others have no broker."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as environment:
        server = Server(environment | SETTINGS)
        server.start()
        yield server
        server.stop()
    remove([f"{PREFIX}.messages.upsert"], [PREFIX])


@pytest.fixture
def instance(with_rabbitmq: Server) -> Iterator[Number]:
    created = with_rabbitmq.create(f"evoapi test {secrets.token_hex(4)}")
    yield created
    set_rabbitmq(with_rabbitmq, created, {"enabled": False})
    kinds = ("messages.upsert", "contacts.upsert", "chats.upsert", "chats.update", "instance.create")
    remove([f"{created.name}.{kind}" for kind in kinds], [created.name])


def at_broker(use: Callable[[Any], Any]) -> Any:
    """Return the result of `use`, called with a new channel."""

    async def run() -> Any:
        async with aiormq.connect(RABBITMQ_URI) as connection:
            return await use(await connection.channel())

    return asyncio.run(run())


def remove(queues: list[str], exchanges: list[str]) -> None:
    async def delete(channel: Any) -> None:
        with suppress(aiormq.AMQPError):
            for name in queues:
                await channel.queue_delete(name)
            for name in exchanges:
                await channel.exchange_delete(name)

    at_broker(delete)


def consume(queue: str, count: int, timeout: float = 20) -> list[Any]:
    """Return `count` messages of a queue that may not exist yet."""
    found: list[Any] = []

    async def take(channel: Any) -> None:
        with suppress(aiormq.AMQPError):
            while len(found) < count:
                message = await channel.basic_get(queue, no_ack=True)
                if not message.header.properties.message_id:
                    return
                found.append(message)

    deadline = time.monotonic() + timeout
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages arrived in {queue}"
        at_broker(take)
        time.sleep(0.1)
    return found


def set_rabbitmq(server: Server, instance: Number, body: Any) -> Response:
    return server.post(server.path("/rabbitmq/set", instance), body, key=instance.token)


def find(server: Server, instance: Number) -> Any:
    return server.get(server.path("/rabbitmq/find", instance), key=instance.token).json


def test_setting_returns_the_row_that_find_returns(with_rabbitmq, instance):
    assert find(with_rabbitmq, instance) is None
    response = set_rabbitmq(with_rabbitmq, instance, {"rabbitmq": {"enabled": True, "events": ["CALL"]}})

    row = response.json
    assert (response.status, row["enabled"], row["events"]) == (201, True, ["CALL"])
    assert list(row) == ["id", "enabled", "events", "createdAt", "updatedAt", "instanceId"]
    assert find(with_rabbitmq, instance) == row
    [shown] = with_rabbitmq.get("/instance/fetchInstances", key=instance.token).json
    assert shown["Rabbitmq"] == row

    again = set_rabbitmq(with_rabbitmq, instance, {"enabled": True, "events": []}).json
    assert (again["id"], again["events"]) == (row["id"], DEFAULT_EVENTS)
    off = set_rabbitmq(with_rabbitmq, instance, {"rabbitmq": {"enabled": False, "events": ["CALL"]}}).json
    assert (off["id"], off["enabled"], off["events"]) == (row["id"], False, [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'instance requires property "rabbitmq"'),
        ({"rabbitmq": {}}, 'rabbitmq requires property "enabled"'),
        ({"rabbitmq": {"enabled": "yes"}}, "rabbitmq.enabled is not of a type(s) boolean"),
        ({"rabbitmq": {"enabled": True, "events": "CALL"}}, "rabbitmq.events is not of a type(s) array"),
    ],
)
def test_an_error_in_a_body_names_the_member(with_rabbitmq, instance, body, message):
    response = set_rabbitmq(with_rabbitmq, instance, body)
    assert (response.status, response.json["response"]["message"]) == (400, [[message]])
    assert find(with_rabbitmq, instance) is None


@pytest.mark.parametrize(
    "name", [f"amq.{PREFIX}", PREFIX, "x" * 240 + secrets.token_hex(4)], ids=["the broker's own", "shared", "long"]
)
def test_an_instance_whose_name_is_not_valid_for_an_exchange_is_refused(with_rabbitmq, name):
    named = with_rabbitmq.create(name)
    assert set_rabbitmq(with_rabbitmq, named, {"enabled": True}).status == 400
    assert set_rabbitmq(with_rabbitmq, named, {"enabled": False}).status == 201


def test_a_server_without_rabbitmq_refuses_settings_and_ignores_them_at_creation(server):
    instance = server.create(rabbitmq={"enabled": True, "events": "anything"})
    response = set_rabbitmq(server, instance, {"enabled": True, "events": ["CALL"]})
    assert response.status == 400
    assert "RABBITMQ_ENABLED" in response.json["response"]["message"][0]
    assert find(server, instance) is None


def test_a_subscribed_event_arrives_in_the_queue_of_the_instance_and_the_global_one(with_rabbitmq, instance):
    set_rabbitmq(with_rabbitmq, instance, {"enabled": True, "events": ["MESSAGES_UPSERT"]})
    for text in ("one", "two"):
        assert with_rabbitmq.receive(instance, text).status == 200

    found = consume(f"{instance.name}.messages.upsert", 2)
    events = [json.loads(message.body) for message in found]
    assert sorted(event["data"]["message"]["conversation"] for event in events) == ["one", "two"]
    path = with_rabbitmq.path("/event/find", instance)
    logged = {event["id"]: event for event in with_rabbitmq.get(path, key=instance.token).json["events"]}
    for message, event in zip(found, events, strict=True):
        assert event == {name: value for name, value in logged[event["id"]].items() if name != "prev"}
        assert message.header.properties.message_id == event["id"]
        assert message.header.properties.headers["seq"] == event["seq"]
    ids = {event["id"] for event in events}
    assert ids == {message.header.properties.message_id for message in consume(f"{PREFIX}.messages.upsert", 2)}


@pytest.mark.slow
def test_deliveries_that_wait_for_the_broker_arrive_when_it_is_back(fresh_server):
    uri = urlsplit(RABBITMQ_URI)
    proxy = Proxy(uri.port or 5672)
    through = uri._replace(netloc=f"{uri.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
    server = fresh_server(RABBITMQ_ENABLED="true", RABBITMQ_URI=through)
    instance = server.create(f"evoapi-test-{secrets.token_hex(4)}")
    queue = f"{instance.name}.messages.upsert"
    try:
        set_rabbitmq(server, instance, {"enabled": True, "events": ["MESSAGES_UPSERT"]})
        server.receive(instance, "before")
        assert len(consume(queue, 1)) == 1

        proxy.is_refusing = True
        proxy.reset_all()
        for text in ("one", "two", "three"):
            assert server.receive(instance, text).status == 200
        until(lambda: "RabbitMQ at 127.0.0.1 cannot be reached" in server.log.read_text())
        proxy.is_refusing = False

        found = [json.loads(message.body) for message in consume(queue, 3, timeout=60)]
        assert {event["data"]["message"]["conversation"] for event in found} == {"one", "two", "three"}
        assert uri.netloc.rpartition("@")[0] not in server.log.read_text()
    finally:
        server.stop()
        proxy.stop()
        remove([queue], [instance.name])


def test_an_instance_created_with_rabbitmq_publishes_its_creation(with_rabbitmq):
    wanted = {"enabled": True, "events": ["INSTANCE_CREATE"]}
    name = f"evoapi-test-{secrets.token_hex(4)}"
    body = {"instanceName": name, "integration": "EVOLUTION", "rabbitmq": wanted}
    response = with_rabbitmq.post("/instance/create", body)
    try:
        assert (response.status, response.json["rabbitmq"]) == (201, {"enabled": True})
        [message] = consume(f"{name}.instance.create", 1)
        assert json.loads(message.body)["event"] == "instance.create"
    finally:
        remove([f"{name}.instance.create"], [name])
