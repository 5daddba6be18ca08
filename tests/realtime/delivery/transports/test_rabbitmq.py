"""RabbitMQ as a transport, against a real broker: what is sent where, and when it counts as delivered."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiormq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from realtime.delivery.transports import rabbitmq as module
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result
from realtime.delivery.transports.rabbitmq import RabbitMQ
from tests.environment import RABBITMQ_URI, SETTINGS
from tests.faults.proxy import Proxy
from tests.server import ROOT

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("rabbitmq")]

QUORUM = {"x-queue-type": "quorum"}
ENVELOPE = {
    "event": "messages.upsert",
    "instance": "loja",
    "data": {"key": {"id": "A1"}},
    "server_url": "https://evo.example.com",
    "date_time": "2025-10-21T14:00:00.000Z",
    "sender": "5511900000001@s.whatsapp.net",
    "apikey": None,
    "id": "e1.7",
    "seq": 7,
    "prev": 5,
}


@pytest.fixture(autouse=True)
def switched_on(settings: Any) -> None:
    settings.RABBITMQ_ENABLED, settings.RABBITMQ_URI = True, RABBITMQ_URI


class Consumer:
    """Another application at the broker; removes what the tests have it name."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.exchanges: set[str] = set()
        self.queues: set[str] = set()

    def endpoint(self, id: int = 7, **options: Any) -> Endpoint:
        """One with an exchange of its own."""
        name = f"evoapi-test-{secrets.token_hex(6)}"
        self.exchanges.add(name)
        self.queues |= {f"{name}.{type}" for type in ("messages.upsert", "call", "instance.create", "chats.upsert")}
        return Endpoint(id, "rabbitmq", {"exchange": name} | options, {})

    async def take(self, queue: str) -> Any:
        """The next message of a queue, or None."""
        channel = await self.connection.channel()
        message = await channel.basic_get(queue, no_ack=True)
        await channel.close()
        return message if message.header.properties.message_id else None

    async def ids(self, queue: str) -> list[str]:
        found = []
        while message := await self.take(queue):
            found.append(message.header.properties.message_id)
        return found

    async def clean(self) -> None:
        for remove, names in (("queue_delete", self.queues), ("exchange_delete", self.exchanges)):
            for name in names:
                channel = await self.connection.channel()
                with suppress(aiormq.AMQPError):
                    await getattr(channel, remove)(name)
                await channel.close()
        await self.connection.close()


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    one = Consumer(await aiormq.connect(RABBITMQ_URI))
    yield one
    await one.clean()


@pytest.fixture
async def transport() -> AsyncIterator[RabbitMQ]:
    one = RabbitMQ()
    yield one
    await one.close()


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """Between the transport and the broker."""
    uri = urlsplit(RABBITMQ_URI)
    one = Proxy(uri.port or 5672)
    settings.RABBITMQ_URI = uri._replace(netloc=f"{uri.netloc.rpartition('@')[0]}@127.0.0.1:{one.port}").geturl()
    yield one
    one.stop()


def parcel(
    seq: int = 1, type: str = "messages.upsert", body: bytes = b'{"event":"messages.upsert"}'
) -> OutgoingMessage:
    return OutgoingMessage(f"epoch.{seq}", type, body, 1)


def queue_of(endpoint: Endpoint, type: str = "messages.upsert") -> str:
    return f"{endpoint.options['exchange']}.{type}"


DELIVERED = Outcome(Result.DELIVERED)


# What is sent where


async def test_an_event_is_in_the_queue_of_its_type_before_anybody_has_asked_for_it(transport, consumer):
    endpoint = consumer.endpoint()

    assert await transport.send(parcel(body=b'{"event":"messages.upsert","data":"\xc3\xa9"}'), endpoint) == DELIVERED
    assert await transport.send(parcel(2, "call"), endpoint) == DELIVERED

    message = await consumer.take(queue_of(endpoint))
    told = message.header.properties
    assert message.body == b'{"event":"messages.upsert","data":"\xc3\xa9"}'
    assert (message.delivery.exchange, message.delivery.routing_key) == (
        endpoint.options["exchange"],
        "messages.upsert",
    )
    assert (told.message_id, told.message_type, told.content_type) == (
        "epoch.1",
        "messages.upsert",
        "application/json",
    )
    assert (told.delivery_mode, told.headers["seq"]) == (2, 1)
    assert abs((datetime.now(UTC) - told.timestamp).total_seconds()) < 60
    assert await consumer.ids(queue_of(endpoint)) == []
    assert await consumer.ids(queue_of(endpoint, "call")) == ["epoch.2"]


async def test_exchange_and_queue_are_those_that_evolution_declares(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(parcel(), endpoint)

    channel = await consumer.connection.channel()  # a broker refuses to declare again what is not the same
    await channel.exchange_declare(endpoint.options["exchange"], exchange_type="topic", durable=True)
    await channel.queue_declare(queue_of(endpoint), durable=True, arguments=QUORUM)
    await channel.queue_bind(queue_of(endpoint), endpoint.options["exchange"], "messages.upsert")


async def test_an_exchange_may_have_any_name_that_an_instance_may_have(transport, consumer):
    name = f"Loja São João (1) €&'\"*; 日本-{secrets.token_hex(6)}"
    consumer.exchanges.add(name)
    consumer.queues.add(f"{name}.call")
    assert await transport.send(parcel(type="call"), Endpoint(7, "rabbitmq", {"exchange": name}, {})) == DELIVERED
    assert await consumer.ids(f"{name}.call") == ["epoch.1"]


async def test_events_of_all_instances_go_where_the_environment_says(transport, consumer, settings):
    name = f"evoapi-test-{secrets.token_hex(6)}"
    settings.RABBITMQ_EXCHANGE_NAME, settings.RABBITMQ_PREFIX_KEY = name, f"prefix-{name}"
    settings.RABBITMQ_GLOBAL_ENABLED, settings.RABBITMQ_EVENTS = True, frozenset({"CALL"})
    consumer.exchanges.add(name)
    consumer.queues.add(f"prefix-{name}.call")

    [endpoint] = transport.global_endpoints()
    assert (endpoint.id, endpoint.events) == (-1, {"CALL"})
    assert await transport.send(parcel(type="call"), endpoint) == DELIVERED
    assert await consumer.ids(f"prefix-{name}.call") == ["epoch.1"]


@pytest.mark.parametrize("off", ["RABBITMQ_ENABLED", "RABBITMQ_GLOBAL_ENABLED"])
def test_there_is_nothing_for_all_instances_unless_the_environment_says_so(off, settings):
    settings.RABBITMQ_GLOBAL_ENABLED = True
    setattr(settings, off, False)
    assert RabbitMQ().global_endpoints() == []


def test_the_body_is_evolutions_envelope_and_our_id():
    body = RabbitMQ().body(ENVELOPE, Endpoint(7, "rabbitmq", {}, {}))
    told = json.loads(body)
    assert list(told) == [
        *("event", "instance", "data", "server_url", "date_time", "sender", "apikey"),
        *("id", "seq"),
    ]
    assert told == {name: value for name, value in ENVELOPE.items() if name != "prev"}
    assert "prev" in ENVELOPE


async def test_what_one_endpoint_is_sent_at_once_arrives_in_that_order(transport, consumer):
    endpoint = consumer.endpoint()
    outcomes = await asyncio.gather(*(transport.send(parcel(seq), endpoint) for seq in range(200)))
    assert set(outcomes) == {DELIVERED}
    assert await consumer.ids(queue_of(endpoint)) == [f"epoch.{seq}" for seq in range(200)]


async def test_a_large_body_arrives_whole(transport, consumer):
    endpoint, body = consumer.endpoint(), secrets.token_bytes(3_000_000)
    assert await transport.send(parcel(body=body), endpoint) == DELIVERED
    assert (await consumer.take(queue_of(endpoint))).body == body


# What is not delivered


async def test_what_no_queue_takes_is_not_delivered_and_the_queue_is_declared_again(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(parcel(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.queue_delete(queue_of(endpoint))

    refused = await transport.send(parcel(2), endpoint)
    assert (refused.result, refused.error[:23]) == (Result.RETRY, "The broker returned it:")
    assert await transport.send(parcel(2), endpoint) == DELIVERED
    assert await consumer.ids(queue_of(endpoint)) == ["epoch.2"]


async def test_an_exchange_that_is_deleted_meanwhile_is_declared_again(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(parcel(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.exchange_delete(endpoint.options["exchange"])

    refused = await transport.send(parcel(2), endpoint)
    assert refused.result is Result.RETRY
    assert "NOT_FOUND" in refused.error
    assert await transport.send(parcel(2), endpoint) == DELIVERED


async def test_what_the_broker_refuses_is_not_delivered(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(parcel(1), endpoint)
    full = f"{endpoint.options['exchange']}.full"
    consumer.queues.add(full)
    channel = await consumer.connection.channel()
    await channel.queue_declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await channel.queue_bind(full, endpoint.options["exchange"], "messages.upsert")

    outcomes = [await transport.send(parcel(seq), endpoint) for seq in range(2, 6)]
    assert outcomes[0] == DELIVERED
    assert outcomes[-1] == Outcome(Result.RETRY, error="The broker refused it (basic.nack)")


async def test_an_exchange_of_another_kind_is_the_trouble_of_its_endpoint_alone(transport, consumer):
    wrong, right = consumer.endpoint(7), consumer.endpoint(8)
    channel = await consumer.connection.channel()
    await channel.exchange_declare(wrong.options["exchange"], exchange_type="direct")

    sending = [transport.send(parcel(seq), endpoint) for seq in range(30) for endpoint in (wrong, right)]
    outcomes = await asyncio.gather(*sending)
    assert {outcome.result for outcome in outcomes[::2]} == {Result.RETRY}
    assert any("PRECONDITION_FAILED" in outcome.error for outcome in outcomes[::2])
    assert set(outcomes[1::2]) == {DELIVERED}


async def test_the_same_event_for_two_endpoints_is_two_messages(transport, consumer):
    """The client tells returned messages apart by their id within a channel."""
    gone, here = consumer.endpoint(7), consumer.endpoint(8)
    for endpoint in (gone, here):
        await transport.send(parcel(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.queue_delete(queue_of(gone))

    outcomes = await asyncio.gather(*(transport.send(parcel(2), endpoint) for endpoint in (gone, here)))
    assert [outcome.result for outcome in outcomes] == [Result.RETRY, Result.DELIVERED]


async def test_a_name_that_amqp_cannot_hold_is_given_up_in_words(transport):
    outcome = await transport.send(parcel(), Endpoint(7, "rabbitmq", {"exchange": "é" * 125}, {}))
    assert (outcome.result, "255 bytes" in outcome.error) == (Result.DEAD, True)


async def test_nothing_is_sent_where_rabbitmq_is_off(transport, settings):
    settings.RABBITMQ_ENABLED = False
    outcome = await transport.send(parcel(), Endpoint(7, "rabbitmq", {"exchange": "loja"}, {}))
    assert (outcome.result, "RABBITMQ_ENABLED" in outcome.error) == (Result.RETRY, True)


@pytest.mark.parametrize(
    ("user", "vhost", "words"),
    [("nobody:very-secret-word", "", "ACCESS_REFUSED"), ("guest:guest", "no-such-vhost", "no-such-vhost")],
)
async def test_a_broker_that_lets_nobody_in_says_why_without_the_password(
    transport, consumer, settings, caplog, user, vhost, words
):
    uri = urlsplit(RABBITMQ_URI)
    settings.RABBITMQ_URI = f"amqp://{user}@{uri.hostname}:{uri.port or 5672}/{vhost}"
    with caplog.at_level(logging.DEBUG, "realtime"):
        outcome = await transport.send(parcel(), consumer.endpoint())
    assert outcome.result is Result.RETRY
    assert words in outcome.error
    assert words in caplog.text
    assert "very-secret-word" not in outcome.error + caplog.text


# Lines that break


async def test_a_broker_that_is_away_is_not_knocked_at_by_everybody(transport, consumer, proxy, monkeypatch, caplog):
    monkeypatch.setattr(module, "PAUSE", 0.5)
    knocks = 0
    connect = aiormq.Connection.connect

    async def counted(self: Any, *args: Any) -> Any:
        nonlocal knocks
        knocks += 1
        return await connect(self, *args)

    monkeypatch.setattr(aiormq.Connection, "connect", counted)
    endpoints = [consumer.endpoint(id) for id in range(1, 51)]
    proxy.is_refusing = True

    outcomes = []
    for _ in range(3):
        outcomes += await asyncio.gather(*(transport.send(parcel(), endpoint) for endpoint in endpoints))
    assert {outcome.result for outcome in outcomes} == {Result.RETRY}
    assert all("cannot be reached" in outcome.error for outcome in outcomes)
    assert knocks == 1
    assert len(caplog.records) == 1

    proxy.is_refusing = False
    await asyncio.sleep(0.6)
    assert await transport.send(parcel(), endpoints[0]) == DELIVERED
    assert [record.getMessage() for record in caplog.records][1:] == ["RabbitMQ is back"]


async def test_a_line_that_breaks_before_the_confirmation_is_seen_at_once_and_mended(transport, consumer, proxy):
    endpoint = consumer.endpoint()
    assert await transport.send(parcel(0), endpoint) == DELIVERED
    proxy.is_swallowing = True
    sending = [asyncio.ensure_future(transport.send(parcel(seq), endpoint)) for seq in range(1, 21)]
    await asyncio.sleep(0.3)
    assert not any(one.done() for one in sending)

    began = time.monotonic()
    proxy.is_swallowing = False
    proxy.reset_all()
    outcomes = await asyncio.gather(*sending)
    assert time.monotonic() - began < module.TIMEOUT / 2
    assert {outcome.result for outcome in outcomes} == {Result.RETRY}
    assert all(outcome.error for outcome in outcomes)

    again = [await transport.send(parcel(seq), endpoint) for seq in range(1, 21)]
    assert set(again) == {DELIVERED}
    assert set(await consumer.ids(queue_of(endpoint))) == {f"epoch.{seq}" for seq in range(21)}


async def test_a_dead_line_holds_nobody_longer_than_the_deadline(transport, consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    first, second = consumer.endpoint(7), consumer.endpoint(8)
    assert await transport.send(parcel(0), first) == DELIVERED
    proxy.is_swallowing = True

    began = time.monotonic()
    # one whose channel is open, one whose channel is to be opened, and more than the line's buffers hold
    sending = [
        transport.send(parcel(seq, body=bytes(1_000_000)), one) for seq in range(1, 11) for one in (first, second)
    ]
    outcomes = await asyncio.gather(*sending)
    assert time.monotonic() - began < 5
    assert {outcome.error for outcome in outcomes} == {"The broker did not confirm it within 1 seconds"}

    proxy.is_swallowing = False
    proxy.reset_all()
    await asyncio.sleep(0.2)
    assert [await transport.send(parcel(11), one) for one in (first, second)] == [DELIVERED] * 2


async def test_a_broker_that_accepts_and_says_nothing_is_given_up(transport, consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.5)
    proxy.is_swallowing = True
    outcome = await transport.send(parcel(), consumer.endpoint())
    assert (outcome.result, "no answer in 0.5 seconds" in outcome.error) == (Result.RETRY, True)


async def test_a_caller_that_is_cancelled_is_cancelled(transport, consumer, proxy):
    endpoint = consumer.endpoint()
    await transport.send(parcel(0), endpoint)
    proxy.is_swallowing = True
    sending = asyncio.ensure_future(transport.send(parcel(1), endpoint))
    await asyncio.sleep(0.2)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """For localhost, signed by itself: the file, and what a server presents it with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    file, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    file.write_bytes(signed.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return file, context


@pytest.mark.parametrize("is_known", [True, False])
async def test_amqps_is_spoken_with_brokers_whose_certificate_is_good(
    transport, consumer, settings, certificate, is_known
):
    file, context = certificate
    uri = urlsplit(RABBITMQ_URI)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(uri.hostname, uri.port or 5672)
        await asyncio.gather(pass_on(reader, upstream), pass_on(upstream_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    query = f"?cafile={file}" if is_known else ""
    settings.RABBITMQ_URI = f"amqps://{uri.netloc.rpartition('@')[0]}@localhost:{port}/{query}"
    outcome = await transport.send(parcel(), consumer.endpoint())
    await transport.close()
    server.close()
    if is_known:
        assert outcome == DELIVERED
    else:
        assert (outcome.result, "CERTIFICATE_VERIFY_FAILED" in outcome.error) == (Result.RETRY, True)


# Bounds


async def test_channels_of_many_endpoints_are_bounded(transport, consumer, monkeypatch):
    monkeypatch.setattr(module, "MAX_CHANNELS", 5)
    endpoints = [consumer.endpoint(id) for id in range(1, 21)]
    for endpoint in endpoints:
        assert await transport.send(parcel(), endpoint) == DELIVERED
    connection = transport._broker._connection
    for _ in range(100):
        if len(connection.channels) <= 5:
            break
        await asyncio.sleep(0.05)
    assert len(connection.channels) <= 5
    assert await transport.send(parcel(2), endpoints[0]) == DELIVERED


async def test_after_closing_nothing_is_left_and_it_can_be_used_again(consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    transport, endpoint = RabbitMQ(), consumer.endpoint()
    before = asyncio.all_tasks()
    for _ in range(3):
        assert await transport.send(parcel(), endpoint) == DELIVERED
        proxy.is_swallowing = True
        await asyncio.gather(*(transport.send(parcel(seq), endpoint) for seq in range(20)))
        proxy.is_swallowing = False
        proxy.reset_all()
        await asyncio.sleep(0.1)
        await transport.close()
    for _ in range(100):
        if asyncio.all_tasks() <= before:
            break
        await asyncio.sleep(0.05)
    assert asyncio.all_tasks() <= before
    assert not transport._broker._lanes
    assert not transport._broker._endings


# Settings


def settings_with(code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Loads the settings in a process of its own; `code` runs before."""
    command = [
        sys.executable,
        "-c",
        f"{code}\nimport django; django.setup()\nfrom realtime.delivery.transports.base import *\nprint(transports())",
    ]
    own = SETTINGS | {"PATH": "/usr/bin:/bin"} | environment
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)


WITHOUT_CLIENT = "import sys; sys.modules['aiormq'] = None"


def test_without_the_client_the_rest_works(tmp_path):
    done = settings_with(WITHOUT_CLIENT, DATA_DIR=str(tmp_path))
    assert "RabbitMQ" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "environment", "words"),
    [
        (WITHOUT_CLIENT, {"RABBITMQ_URI": "amqp://a:very-secret-word@b/"}, "requirements-rabbitmq.txt"),
        ("", {}, "RABBITMQ_ENABLED needs RABBITMQ_URI"),
        ("", {"RABBITMQ_URI": "http://a:very-secret-word@b/"}, "RABBITMQ_ENABLED needs RABBITMQ_URI"),
    ],
)
def test_what_is_missing_is_said_at_the_start(tmp_path, code, environment, words):
    done = settings_with(code, DATA_DIR=str(tmp_path), RABBITMQ_ENABLED="true", **environment)
    assert done.returncode != 0
    assert words in done.stderr.splitlines()[-1]
    assert "very-secret-word" not in done.stderr
