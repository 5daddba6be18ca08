"""Requests of the webhook transport, and the outcomes of responses."""

import asyncio
import base64
import gc
import html
import json
import os
import ssl
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from standardwebhooks.webhooks import Webhook as Verifier

from instances.events import EventType
from instances.outbound.webhook_secrets import new_secret
from realtime.delivery.bodies import Body
from realtime.delivery.transports import signing
from realtime.delivery.transports.base import Result
from realtime.delivery.transports.webhook import Webhook
from tests.realtime.delivery.transports.raw_receiver import (
    BODY,
    OK,
    PATIENCE,
    Receiver,
    endpoint,
    outgoing,
    send,
)

pytestmark = pytest.mark.any_database

# Requests


async def test_the_stored_bytes_are_posted_and_a_2xx_is_a_delivery(webhook, receiver):
    outcome = await send(webhook, receiver)
    assert outcome.result is Result.DELIVERED
    assert (outcome.status, outcome.excerpt, outcome.error) == (200, "ok", "")
    [request] = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook", BODY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["user-agent"].startswith("evoapi-webhook/")
    assert "transfer-encoding" not in request.headers


async def test_a_large_body_is_signed_and_sent_in_pieces(webhook, receiver):
    parts, secrets = [b'{"text":"' + b"x" * 1_000_001, b"y", b"z" * 500_000 + b'"}'], [new_secret(), new_secret()]
    message = outgoing(*parts, type="call")

    outcome = await webhook.send(message, endpoint(receiver.url, secrets={"signing": secrets}))

    assert outcome.result is Result.DELIVERED
    [request] = receiver.requests
    assert request.body == b"".join(parts)
    assert request.headers["content-length"] == str(len(request.body))
    for secret in secrets:
        assert Verifier(secret).verify(request.body, request.headers)["text"].endswith("xyz" + "z" * 499_999)


async def test_a_large_body_arrives_complete(webhook, receiver):
    body = os.urandom(3_000_000)
    outcome = await webhook.send(outgoing(body), endpoint(receiver.url))
    assert outcome.result is Result.DELIVERED
    assert receiver.requests[0].body == body


async def test_each_attempt_is_signed_anew_with_the_events_id(webhook, receiver):
    secrets = {"signing": [new_secret(), new_secret()]}
    await send(webhook, receiver, secrets=secrets)
    await send(webhook, receiver, secrets=secrets)
    for request in receiver.requests:
        assert request.headers["webhook-id"] == "epoch.7"
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < PATIENCE
        for secret in secrets["signing"]:
            assert Verifier(secret).verify(request.body, request.headers)["instance"] == "loja"


async def test_stored_headers_are_sent_and_replace_ours(webhook, receiver):
    stored = {"apikey": "B6D711FC", "X-Loja": "São João", "content-type": "application/json; v=2", "Authorization": "x"}
    await send(webhook, receiver, secrets={"headers": stored})
    [request] = receiver.requests
    assert request.headers["apikey"] == "B6D711FC"
    assert request.headers["x-loja"] == "São João"
    assert request.headers["authorization"] == "x"
    assert [value for name, value in request.fields if name.lower() == "content-type"] == ["application/json; v=2"]


async def test_the_jwt_key_is_not_sent_and_signs_a_token(webhook, receiver):
    await send(webhook, receiver, secrets={"headers": {"authorization": "Basic x", "jwt_key": "s3cret-key"}})
    [request] = receiver.requests
    assert "jwt_key" not in request.headers
    [bearer] = [value for name, value in request.fields if name.lower() == "authorization"]
    claims = json.loads(base64.urlsafe_b64decode(bearer.split(".")[1] + "=="))
    assert abs(claims["iat"] - time.time()) < PATIENCE
    assert bearer == f"Bearer {signing.token('s3cret-key', claims['iat'])}"


@pytest.mark.parametrize(
    ("type", "slug"),
    [
        ("messages.upsert", "messages-upsert"),
        ("group-participants.update", "group-participants-update"),
        ("send.message.update", "send-message-update"),
        ("typebot.change-status", "typebot-change-status"),
        ("call", "call"),
    ],
)
async def test_by_events_the_path_ends_with_the_events_name(webhook, receiver, type, slug):
    outcome = await webhook.send(outgoing(type=type), endpoint(receiver.url, byEvents=True))
    assert outcome.result is Result.DELIVERED
    assert receiver.requests[0].path == f"/hook/{slug}"
    target = webhook.destination(EventType.MESSAGES_UPSERT, endpoint("https://a.example/in", byEvents=True))
    assert target == "https://a.example/in/messages-upsert"


async def test_events_share_a_connection(webhook, receiver):
    for _ in range(5):
        await send(webhook, receiver)
    assert len({request.peer for request in receiver.requests}) == 1


async def test_cookies_of_a_response_are_not_sent_back(webhook, receiver):
    receiver.response = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    await send(webhook, receiver)
    await send(webhook, receiver)
    assert "cookie" not in receiver.requests[1].headers


async def test_a_proxy_in_the_environment_is_not_used(webhook, receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await send(webhook, receiver)).result is Result.DELIVERED


def body_of(envelope, of):
    data, offset = Webhook().body(envelope)
    return json.loads(bytes(Body(data=data, offset=offset).with_part(Webhook().own_part(of))))


def test_the_body_has_evolutions_keys_in_its_order():
    envelope = {"event": "call", "instance": "loja", "data": {"a": 1}, "server_url": "https://e.example"}
    envelope |= {"date_time": "2026-01-01T00:00:00.000Z", "sender": "55@s.whatsapp.net", "apikey": None}
    envelope |= {"id": "epoch.7", "seq": 7, "prev": 6}
    before = dict(envelope)
    body = body_of(envelope, endpoint("https://hook.example/in", byEvents=True))
    assert list(body) == [
        *("event", "instance", "data", "destination", "date_time", "sender", "server_url", "apikey"),
        *("id", "seq", "prev"),
    ]
    assert body["destination"] == "https://hook.example/in"
    assert {name: body[name] for name in envelope} == envelope == before


def test_members_that_the_envelope_lacks_are_not_in_the_body():
    envelope = {"event": "call", "instance": "loja", "data": None, "date_time": "", "apikey": None, "id": "", "seq": 1}
    body = body_of(envelope, endpoint("https://hook.example/in"))
    assert list(body) == ["event", "instance", "data", "destination", "date_time", "apikey", "id", "seq"]


def test_a_password_in_the_operators_url_is_not_shown():
    ours = endpoint("https://user:pa55word@hook.example/in", id=0)
    assert destinations(ours) == ["https://hook.example/in", "https://hook.example/in"]


@pytest.mark.parametrize(
    ("url", "extended"),
    [
        ("https://hook.example", "https://hook.example/call"),
        ("https://hook.example/", "https://hook.example/call"),
        ("https://hook.example/in", "https://hook.example/in/call"),
        ("https://hook.example/in/", "https://hook.example/in/call"),
        ("https://hook.example/in?token=x", "https://hook.example/in/call?token=x"),
        ("https://hook.example/in/?token=x/y&a=?", "https://hook.example/in/call?token=x/y&a=?"),
        ("https://hook.example?token=x", "https://hook.example/call?token=x"),
        ("https://hook.example/in#part", "https://hook.example/in/call#part"),
        ("https://hook.example/in?a=b#part?c", "https://hook.example/in/call?a=b#part?c"),
        ("https://hook.example/in%3Fa%2Fb?c=%23%3F", "https://hook.example/in%3Fa%2Fb/call?c=%23%3F"),
        ("https://hook.example/ção?a=é", "https://hook.example/ção/call?a=é"),
    ],
)
def test_by_events_extends_the_path_and_keeps_the_rest(url, extended):
    assert Webhook().destination(EventType.CALL, endpoint(url, byEvents=True)) == extended
    assert Webhook().destination(EventType.CALL, endpoint(url)) == url


async def test_by_events_sends_to_the_extended_path(webhook, receiver):
    url = f"{receiver.url}%2Fa?token=x#part"
    await webhook.send(outgoing(type="group-participants.update"), endpoint(url, byEvents=True))
    assert receiver.requests[0].path == "/hook%2Fa/group-participants-update?token=x"


def destinations(of):
    envelope = {"event": "call", "instance": "loja", "data": None, "id": "epoch.7"}
    return [Webhook().destination(EventType.CALL, of), body_of(envelope, of)["destination"]]


def test_urls_are_not_kept_in_memory():
    def use(numbers):
        for number in numbers:
            destinations(endpoint(f"https://hook.example/{number}/{'x' * 2000}"))

    use(range(100))
    tracemalloc.start()
    try:
        use(range(100, 3100))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


# Results of responses


@pytest.mark.parametrize(
    ("status", "result"),
    [
        *[(status, Result.DELIVERED) for status in (200, 201, 202, 204, 299)],
        *[(status, Result.RETRY) for status in (300, 301, 302, 303, 304, 307, 308)],
        *[(status, Result.RETRY) for status in (401, 403, 404, 405, 408, 409, 413, 425, 429, 451)],
        *[(status, Result.RETRY) for status in (500, 501, 502, 503, 504, 599, 999)],
        *[(status, Result.DEAD) for status in (400, 422)],
        (410, Result.GONE),
    ],
)
async def test_a_status_has_a_result(webhook, receiver, status, result):
    receiver.response = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    outcome = await send(webhook, receiver)
    assert (outcome.status, outcome.result) == (status, result)


async def test_a_receiver_can_ask_for_a_later_retry(webhook, receiver):
    receiver.response = b"HTTP/1.1 503 X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    assert (await send(webhook, receiver)).retry_after == 120


async def test_an_excerpt_escapes_characters_that_are_not_printable(webhook, receiver):
    text = b"a\x00b\x1b[31m\xe2\x80\xae\xff\r\nc"
    receiver.response = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    assert (await send(webhook, receiver)).excerpt == "a\\x00b\\x1b[31m\\u202e�\\r\nc"


async def test_an_excerpt_is_short_and_has_no_secret_that_the_receiver_repeats(webhook, receiver):
    async def echo(_, writer):
        request = receiver.requests[0]
        text = "".join(f"{name}: {value}\n" for name, value in request.fields).encode() + b"x" * 5000
        writer.write(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        await writer.drain()

    receiver.response = echo
    secrets = {"headers": {"apikey": "B6D711FC-key", "X-Auth": "Token tok-123456", "jwt_key": "k"}}
    outcome = await send(webhook, receiver, secrets=secrets)
    assert len(outcome.excerpt) == 2000
    assert "apikey: ********" in outcome.excerpt
    assert "Bearer" not in outcome.excerpt
    for secret in ("B6D711FC-key", "tok-123456"):
        assert secret not in outcome.excerpt


HIDDEN = 'a"b\\c/d<é>+=&1'


@pytest.mark.parametrize(
    "written",
    [
        lambda value: value.encode(),
        lambda value: value.encode("latin-1"),
        lambda value: value.encode().decode("latin-1").encode(),
        lambda value: json.dumps({"x-key": value}).encode(),
        lambda value: json.dumps({"x-key": value}, ensure_ascii=False).encode(),
        lambda value: json.dumps({"x-key": value}).replace("/", "\\/").replace("00e9", "00E9").encode(),
        lambda value: json.dumps({"x-key": value.encode().decode("latin-1")}).encode(),
        lambda value: html.escape(value).encode(),
        lambda value: html.escape(value, quote=False).encode(),
        lambda value: quote(value).encode(),
        lambda value: quote(value, safe="").lower().encode(),
        lambda value: urlencode({"x-key": value}).encode(),
    ],
)
async def test_a_secret_that_the_receiver_repeats_is_masked_in_each_notation(webhook, receiver, written):
    text = b"<before " + written(HIDDEN) + b" after>"
    receiver.response = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    outcome = await send(webhook, receiver, secrets={"headers": {"X-Key": HIDDEN}})
    assert receiver.requests[0].headers["x-key"] == HIDDEN
    assert "********" in outcome.excerpt
    assert outcome.excerpt.removeprefix("<before ").removesuffix(" after>").strip('{}": ') in (
        "********",
        'x-key": "********',
        "x-key=********",
    )


async def test_an_excerpt_does_not_repeat_the_password_in_the_operators_url(webhook, receiver):
    login = base64.b64encode(b"operator:pa55-w0rd").decode()
    text = f"Basic {login} pa55-w0rd".encode()
    receiver.response = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    url = receiver.url.replace("http://", "http://operator:pa55-w0rd@")
    outcome = await webhook.send(outgoing(), endpoint(url, id=0))
    assert receiver.requests[0].headers["authorization"] == f"Basic {login}"
    assert outcome.excerpt == "******** ********"


# TLS


async def test_a_host_without_tls_is_an_outcome(webhook, receiver):
    async def in_plain(reader, writer):
        writer.write(OK)
        await reader.read()
        writer.close()

    plain = await asyncio.start_server(in_plain, "127.0.0.1", 0)
    outcome = await webhook.send(outgoing(), endpoint(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"))
    assert (outcome.result, outcome.error) == (Result.RETRY, "There was no encrypted connection to the host")
    plain.close()
    await plain.wait_closed()


@pytest.fixture
def self_signed(tmp_path):
    """The TLS context of a server with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, SHA256())
    pem = tmp_path / "host.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_self_signed_certificate_is_not_accepted(webhook, receiver, self_signed):
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=self_signed)
    outcome = await webhook.send(outgoing(), endpoint(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert outcome.result is Result.RETRY
    assert outcome.error.startswith("The certificate of the host is not valid: self")
    assert receiver.requests == []
    server.close()
    await server.wait_closed()


# Addresses


async def test_a_tenants_url_of_a_private_address_is_blocked(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    outcome = await send(webhook, receiver)
    assert outcome.result is Result.RETRY
    assert outcome.error.startswith(
        "The URL leads to an address that is not public: the operator can allow its network"
    )
    assert receiver.requests == []


async def test_the_operators_url_may_have_a_private_address(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    assert (await send(webhook, receiver, id=0)).result is Result.DELIVERED


async def test_a_connection_of_the_operator_is_not_reused_for_a_tenant(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    await send(webhook, receiver, id=0)
    assert (await send(webhook, receiver, id=7)).result is Result.RETRY
    assert len(receiver.requests) == 1


def sessions():
    gc.collect()
    return sum(isinstance(found, aiohttp.ClientSession) for found in gc.get_objects())


def test_each_event_loop_has_connections_of_its_own(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    webhook = Webhook()

    async def once():
        receiver = Receiver()
        await receiver.start()
        outcome = await send(webhook, receiver)
        await webhook.close()
        assert await receiver.is_disconnected()
        await receiver.stop()
        return outcome.result

    before = sessions()
    assert [asyncio.run(once()) for _ in range(2)] == [Result.DELIVERED] * 2
    assert sessions() == before
