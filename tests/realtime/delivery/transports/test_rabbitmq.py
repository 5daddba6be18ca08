"""The RabbitMQ transport against a real broker: routes, messages, confirms, failures."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiormq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from realtime.delivery.causes import Cause
from realtime.delivery.payload import Payload
from realtime.delivery.transports import rabbitmq as module
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result
from realtime.delivery.transports.rabbitmq import RabbitMQ
from tests.environment import RABBITMQ_URI
from tests.faults.proxy import Proxy
from tests.realtime.delivery.transports.broker import Consumer, Forwarder

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


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    connected = Consumer(await aiormq.connect(RABBITMQ_URI))
    yield connected
    await connected.clean()


@pytest.fixture
async def transport() -> AsyncIterator[RabbitMQ]:
    created = RabbitMQ()
    yield created
    await created.close()


@pytest.fixture
async def forwarder(settings: Any) -> AsyncIterator[Forwarder]:
    """Between the transport, which is closed first, and the broker."""
    started = Forwarder()
    await started.start()
    settings.RABBITMQ_URI = started.uri()
    yield started
    await started.stop()


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """Between the transport and the broker."""
    uri = urlsplit(RABBITMQ_URI)
    started = Proxy(uri.port or 5672)
    settings.RABBITMQ_URI = uri._replace(netloc=f"{uri.netloc.rpartition('@')[0]}@127.0.0.1:{started.port}").geturl()
    yield started
    started.stop()


def outgoing(
    seq: int = 1, type: str = "messages.upsert", body: bytes = b'{"event":"messages.upsert"}'
) -> OutgoingMessage:
    return OutgoingMessage(f"epoch.{seq}", type, Payload(body), 1, "0b0a7c5e-3f0f-4b0e-9a55-6f5a6a2d1c11", "loja")


def queue_of(endpoint: Endpoint, type: str = "messages.upsert") -> str:
    return f"{endpoint.options['exchange']}.{type}"


DELIVERED = Outcome(Result.DELIVERED)


# Routes and messages


async def test_an_event_is_queued_by_its_type_before_there_is_a_consumer(transport, consumer):
    endpoint = consumer.endpoint()

    assert await transport.send(outgoing(body=b'{"event":"messages.upsert","data":"\xc3\xa9"}'), endpoint) == DELIVERED
    assert await transport.send(outgoing(2, "call"), endpoint) == DELIVERED

    message = await consumer.take(queue_of(endpoint))
    properties = message.header.properties
    assert message.body == b'{"event":"messages.upsert","data":"\xc3\xa9"}'
    assert (message.delivery.exchange, message.delivery.routing_key) == (
        endpoint.options["exchange"],
        "messages.upsert",
    )
    assert (properties.message_id, properties.message_type, properties.content_type) == (
        "epoch.1",
        "messages.upsert",
        "application/json",
    )
    assert (properties.delivery_mode, properties.headers["seq"]) == (2, 1)
    assert abs((datetime.now(UTC) - properties.timestamp).total_seconds()) < 60
    assert await consumer.ids(queue_of(endpoint)) == []
    assert await consumer.ids(queue_of(endpoint, "call")) == ["epoch.2"]


async def test_exchange_and_queue_are_declared_as_evolution_does(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(outgoing(), endpoint)

    channel = await consumer.connection.channel()  # a broker refuses to declare a name again with other arguments
    await channel.exchange_declare(endpoint.options["exchange"], exchange_type="topic", durable=True)
    await channel.queue_declare(queue_of(endpoint), durable=True, arguments=QUORUM)
    await channel.queue_bind(queue_of(endpoint), endpoint.options["exchange"], "messages.upsert")


async def test_an_exchange_may_have_any_name_that_an_instance_may_have(transport, consumer):
    name = f"Loja São João (1) €&'\"*; 日本-{secrets.token_hex(6)}"
    consumer.exchanges.add(name)
    consumer.queues.add(f"{name}.call")
    assert await transport.send(outgoing(type="call"), Endpoint(7, "rabbitmq", {"exchange": name}, {})) == DELIVERED
    assert await consumer.ids(f"{name}.call") == ["epoch.1"]


async def test_events_of_all_instances_are_published_to_the_global_exchange(transport, consumer, settings):
    name = f"evoapi-test-{secrets.token_hex(6)}"
    settings.RABBITMQ_EXCHANGE_NAME, settings.RABBITMQ_PREFIX_KEY = name, f"prefix-{name}"
    settings.RABBITMQ_GLOBAL_ENABLED, settings.RABBITMQ_EVENTS = True, frozenset({"CALL"})
    consumer.exchanges.add(name)
    consumer.queues.add(f"prefix-{name}.call")

    [endpoint] = transport.global_endpoints()
    assert (endpoint.id, endpoint.events) == (-1, {"CALL"})
    assert await transport.send(outgoing(type="call"), endpoint) == DELIVERED
    assert await consumer.ids(f"prefix-{name}.call") == ["epoch.1"]


@pytest.mark.parametrize("off", ["RABBITMQ_ENABLED", "RABBITMQ_GLOBAL_ENABLED"])
def test_there_is_no_global_endpoint_unless_the_environment_enables_it(off, settings):
    settings.RABBITMQ_GLOBAL_ENABLED = True
    setattr(settings, off, False)
    assert RabbitMQ().global_endpoints() == []


def test_the_body_is_evolutions_envelope_with_our_id():
    envelope = json.loads(RabbitMQ().body(ENVELOPE).data)
    assert RabbitMQ().own_part(Endpoint(7, "rabbitmq", {}, {})) == b""
    assert list(envelope) == [
        *("event", "instance", "data", "server_url", "date_time", "sender", "apikey"),
        *("id", "seq"),
    ]
    assert envelope == {name: value for name, value in ENVELOPE.items() if name != "prev"}
    assert "prev" in ENVELOPE


async def test_concurrent_messages_to_an_endpoint_arrive_in_their_order(transport, consumer):
    endpoint = consumer.endpoint()
    outcomes = await asyncio.gather(*(transport.send(outgoing(seq), endpoint) for seq in range(200)))
    assert set(outcomes) == {DELIVERED}
    assert await consumer.ids(queue_of(endpoint)) == [f"epoch.{seq}" for seq in range(200)]


async def test_a_large_body_arrives_complete(transport, consumer):
    endpoint, body = consumer.endpoint(), secrets.token_bytes(3_000_000)
    assert await transport.send(outgoing(body=body), endpoint) == DELIVERED
    assert (await consumer.take(queue_of(endpoint))).body == body


# Failures


async def test_a_returned_message_is_retried_and_the_queue_is_declared_again(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(outgoing(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.queue_delete(queue_of(endpoint))

    refused = await transport.send(outgoing(2), endpoint)
    assert (refused.result, refused.error[:23]) == (Result.RETRY, "The broker returned it:")
    assert await transport.send(outgoing(2), endpoint) == DELIVERED
    assert await consumer.ids(queue_of(endpoint)) == ["epoch.2"]


async def test_an_exchange_that_was_deleted_is_declared_again(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(outgoing(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.exchange_delete(endpoint.options["exchange"])

    refused = await transport.send(outgoing(2), endpoint)
    assert refused.result is Result.RETRY
    assert "NOT_FOUND" in refused.error
    assert await transport.send(outgoing(2), endpoint) == DELIVERED


async def test_a_message_that_the_broker_refuses_is_not_delivered(transport, consumer):
    endpoint = consumer.endpoint()
    await transport.send(outgoing(1), endpoint)
    full = f"{endpoint.options['exchange']}.full"
    consumer.queues.add(full)
    channel = await consumer.connection.channel()
    await channel.queue_declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await channel.queue_bind(full, endpoint.options["exchange"], "messages.upsert")

    outcomes = [await transport.send(outgoing(seq), endpoint) for seq in range(2, 6)]
    assert outcomes[0] == DELIVERED
    assert outcomes[-1] == Outcome(Result.RETRY, error="The broker refused it (basic.nack)", cause=Cause.BROKER)


async def test_an_exchange_of_another_type_affects_its_endpoint_alone(transport, consumer):
    wrong, right = consumer.endpoint(7), consumer.endpoint(8)
    channel = await consumer.connection.channel()
    await channel.exchange_declare(wrong.options["exchange"], exchange_type="direct")

    sending = [transport.send(outgoing(seq), endpoint) for seq in range(30) for endpoint in (wrong, right)]
    outcomes = await asyncio.gather(*sending)
    assert {outcome.result for outcome in outcomes[::2]} == {Result.RETRY}
    assert any("PRECONDITION_FAILED" in outcome.error for outcome in outcomes[::2])
    assert set(outcomes[1::2]) == {DELIVERED}


async def test_the_same_event_for_two_endpoints_is_two_messages(transport, consumer):
    """The client identifies a returned message by its id within a channel."""
    gone, here = consumer.endpoint(7), consumer.endpoint(8)
    for endpoint in (gone, here):
        await transport.send(outgoing(1), endpoint)
    channel = await consumer.connection.channel()
    await channel.queue_delete(queue_of(gone))

    outcomes = await asyncio.gather(*(transport.send(outgoing(2), endpoint) for endpoint in (gone, here)))
    assert [outcome.result for outcome in outcomes] == [Result.RETRY, Result.DELIVERED]


async def test_a_name_that_is_too_long_for_amqp_is_dead_with_a_reason(transport):
    outcome = await transport.send(outgoing(), Endpoint(7, "rabbitmq", {"exchange": "é" * 125}, {}))
    assert (outcome.result, "255 bytes" in outcome.error) == (Result.DEAD, True)


async def test_nothing_is_sent_where_rabbitmq_is_off(transport, settings):
    settings.RABBITMQ_ENABLED = False
    outcome = await transport.send(outgoing(), Endpoint(7, "rabbitmq", {"exchange": "loja"}, {}))
    assert (outcome.result, "RABBITMQ_ENABLED" in outcome.error) == (Result.RETRY, True)


@pytest.mark.parametrize(
    ("user", "vhost", "words"),
    [("nobody:very-secret-word", "", "ACCESS_REFUSED"), ("guest:guest", "no-such-vhost", "no-such-vhost")],
)
async def test_a_refused_login_is_explained_without_the_password(
    transport, consumer, settings, caplog, user, vhost, words
):
    uri = urlsplit(RABBITMQ_URI)
    settings.RABBITMQ_URI = f"amqp://{user}@{uri.hostname}:{uri.port or 5672}/{vhost}"
    with caplog.at_level(logging.DEBUG, "realtime"):
        outcome = await transport.send(outgoing(), consumer.endpoint())
    assert outcome.result is Result.RETRY
    assert words in outcome.error
    assert words in caplog.text
    assert "very-secret-word" not in outcome.error + caplog.text


# Broken connections


async def test_of_many_attempts_one_connects_to_a_broker_that_is_unreachable(
    forwarder, transport, consumer, monkeypatch, caplog
):
    monkeypatch.setattr(module, "RECONNECT_DELAY", 0.5)
    endpoints = [consumer.endpoint(id) for id in range(1, 51)]
    forwarder.is_refusing = True

    outcomes = []
    for _ in range(3):
        outcomes += await asyncio.gather(*(transport.send(outgoing(), endpoint) for endpoint in endpoints))
    assert {outcome.result for outcome in outcomes} == {Result.RETRY}
    assert all("cannot be reached" in outcome.error for outcome in outcomes)
    assert forwarder.connections == 1
    assert len(caplog.records) == 1

    forwarder.is_refusing = False
    await asyncio.sleep(0.6)
    assert await transport.send(outgoing(), endpoints[0]) == DELIVERED
    assert [record.getMessage() for record in caplog.records][1:] == ["RabbitMQ is back"]


async def test_a_connection_that_breaks_before_the_confirm_is_noticed_at_once_and_replaced(transport, consumer, proxy):
    endpoint = consumer.endpoint()
    assert await transport.send(outgoing(0), endpoint) == DELIVERED
    proxy.is_swallowing = True
    sending = [asyncio.ensure_future(transport.send(outgoing(seq), endpoint)) for seq in range(1, 21)]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in sending)

    began = time.monotonic()
    proxy.is_swallowing = False
    proxy.reset_all()
    outcomes = await asyncio.gather(*sending)
    assert time.monotonic() - began < module.TIMEOUT / 2
    assert {outcome.result for outcome in outcomes} == {Result.RETRY}
    assert all(outcome.error for outcome in outcomes)

    again = [await transport.send(outgoing(seq), endpoint) for seq in range(1, 21)]
    assert set(again) == {DELIVERED}
    assert set(await consumer.ids(queue_of(endpoint))) == {f"epoch.{seq}" for seq in range(21)}


async def test_on_a_dead_connection_no_attempt_outlasts_its_timeout(transport, consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    first, second = consumer.endpoint(7), consumer.endpoint(8)
    assert await transport.send(outgoing(0), first) == DELIVERED
    proxy.is_swallowing = True

    began = time.monotonic()
    # an open channel, a channel that is to be opened, and more bytes than the socket's buffers hold
    sending = [
        transport.send(outgoing(seq, body=bytes(1_000_000)), endpoint)
        for seq in range(1, 11)
        for endpoint in (first, second)
    ]
    outcomes = await asyncio.gather(*sending)
    assert time.monotonic() - began < 5
    assert {outcome.error for outcome in outcomes} == {"The broker did not confirm it within 1 seconds"}

    proxy.is_swallowing = False
    proxy.reset_all()
    await asyncio.sleep(0.2)
    assert [await transport.send(outgoing(11), endpoint) for endpoint in (first, second)] == [DELIVERED] * 2


async def test_connecting_to_a_silent_broker_times_out(transport, consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.5)
    proxy.is_swallowing = True
    outcome = await transport.send(outgoing(), consumer.endpoint())
    assert (outcome.result, "no answer in 0.5 seconds" in outcome.error) == (Result.RETRY, True)


async def test_a_caller_that_is_cancelled_is_cancelled(transport, consumer, proxy):
    endpoint = consumer.endpoint()
    await transport.send(outgoing(0), endpoint)
    proxy.is_swallowing = True
    sending = asyncio.ensure_future(transport.send(outgoing(1), endpoint))
    await asyncio.sleep(0.2)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for localhost: its file, and a server's context with it."""
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
async def test_amqps_needs_a_broker_with_a_valid_certificate(transport, consumer, settings, certificate, is_known):
    file, context = certificate
    forwarder = Forwarder()
    await forwarder.start(context)
    settings.RABBITMQ_URI = forwarder.uri("amqps", "localhost", f"?cafile={file}" if is_known else "")
    outcome = await transport.send(outgoing(), consumer.endpoint())
    await transport.close()
    await forwarder.stop()
    if is_known:
        assert outcome == DELIVERED
    else:
        assert (outcome.result, "CERTIFICATE_VERIFY_FAILED" in outcome.error) == (Result.RETRY, True)


# Limits


@pytest.mark.bound("LIMIT_RABBITMQ_CHANNELS")
async def test_the_number_of_open_channels_is_limited(forwarder, transport, consumer, monkeypatch):
    monkeypatch.setattr(module, "MAX_CHANNELS", 5)
    endpoints = [consumer.endpoint(id) for id in range(1, 21)]
    for endpoint in endpoints:
        assert await transport.send(outgoing(), endpoint) == DELIVERED
    for _ in range(100):
        if len(forwarder.channels) <= 5:
            break
        await asyncio.sleep(0.05)
    assert 0 < len(forwarder.channels) <= 5
    assert await transport.send(outgoing(2), endpoints[0]) == DELIVERED


def connections_and_channels() -> int:
    gc.collect()
    return sum(isinstance(found, (aiormq.Connection, aiormq.Channel)) for found in gc.get_objects())


async def test_after_closing_nothing_is_left_and_the_transport_can_be_used_again(consumer, proxy, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    transport, endpoint = RabbitMQ(), consumer.endpoint()
    before, left = asyncio.all_tasks(), connections_and_channels()
    for _ in range(3):
        assert await transport.send(outgoing(), endpoint) == DELIVERED
        proxy.is_swallowing = True
        await asyncio.gather(*(transport.send(outgoing(seq), endpoint) for seq in range(20)))
        proxy.is_swallowing = False
        proxy.reset_all()
        await asyncio.sleep(0.1)
        await transport.close()
    for _ in range(100):
        if asyncio.all_tasks() <= before and connections_and_channels() <= left:
            break
        await asyncio.sleep(0.05)
    assert asyncio.all_tasks() <= before
    assert connections_and_channels() <= left


# The client


def test_the_client_accepts_any_name():
    try:
        aiormq.spec.Exchange.Declare(exchange="São João", exchange_type="topic")
        aiormq.spec.Queue.Declare(queue="São João.call")
    except ValueError as error:
        pytest.fail(
            f"pamqp {version('pamqp')} does not check names by constants.DOMAIN_REGEX any more, which "
            f"realtime/delivery/transports/rabbitmq.py relaxes: {error}"
        )
