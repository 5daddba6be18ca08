"""An attempt to deliver a webhook, against receivers on real sockets that misbehave."""

import asyncio
import base64
import gc
import html
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from random import Random
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
from realtime.delivery.transports import retry, signing
from realtime.delivery.transports.base import Endpoint, OutgoingMessage, Result
from realtime.delivery.transports.webhook import Webhook

pytestmark = pytest.mark.any_database

BODY = b'{"event":"messages.upsert","instance":"loja","data":{"text":"ol\xc3\xa1"}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Seconds that no test should need; one that takes them hangs.
PATIENCE = 30


class Request:
    def __init__(self, head, peer):
        line, *fields = head.decode().split("\r\n")
        self.method, self.path, _ = line.split(" ", 2)
        self.fields = [tuple(field.split(": ", 1)) for field in fields if field]
        self.headers = {name.lower(): value for name, value in self.fields}
        self.peer = peer


class Receiver:
    """Keeps the `requests` that it receives, and responds with bytes or by a function of the streams."""

    def __init__(self):
        self.requests, self.open, self.response = [], set(), OK

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader, writer):
        self.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                request = Request(head, writer.get_extra_info("peername"))
                request.body = await reader.readexactly(int(request.headers["content-length"]))
                self.requests.append(request)
                if callable(self.response):
                    await self.response(reader, writer)
                    return
                writer.write(self.response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def is_disconnected(self):
        """Wait until all connections are closed; returns whether they are."""
        for _ in range(100 * PATIENCE):
            if self.open:
                await asyncio.sleep(0.01)
        return not self.open

    async def stop(self):
        for writer in [*self.open]:
            writer.transport.abort()
        self.server.close()
        await self.server.wait_closed()
        await self.is_disconnected()


@pytest.fixture
async def receiver(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 10_000
    started = Receiver()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def webhook():
    created = Webhook()
    yield created
    await created.close()


def endpoint(url, id=7, secrets=None, **options):
    return Endpoint(id, "webhook", {"url": url} | options, secrets or {})


def outgoing(body=BODY, type="messages.upsert"):
    return OutgoingMessage("epoch.7", type, body, 1)


async def send(webhook, receiver, **options):
    async with asyncio.timeout(PATIENCE):
        return await webhook.send(outgoing(), endpoint(receiver.url, **options))


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


def test_the_body_has_evolutions_keys_in_its_order():
    envelope = {"event": "call", "instance": "loja", "data": {"a": 1}, "server_url": "https://e.example"}
    envelope |= {"date_time": "2026-01-01T00:00:00.000Z", "sender": "55@s.whatsapp.net", "apikey": None}
    envelope |= {"id": "epoch.7", "seq": 7, "prev": 6}
    before = dict(envelope)
    body = json.loads(Webhook().body(envelope, endpoint("https://hook.example/in", byEvents=True)))
    assert list(body) == [
        *("event", "instance", "data", "destination", "date_time", "sender", "server_url", "apikey"),
        *("id", "seq", "prev"),
    ]
    assert body["destination"] == "https://hook.example/in"
    assert {name: body[name] for name in envelope} == envelope == before


def test_members_that_the_envelope_lacks_are_not_in_the_body():
    envelope = {"event": "call", "instance": "loja", "data": None, "date_time": "", "apikey": None, "id": "", "seq": 1}
    body = json.loads(Webhook().body(envelope, endpoint("https://hook.example/in")))
    assert list(body) == ["event", "instance", "data", "destination", "date_time", "apikey", "id", "seq"]


def test_a_password_in_the_operators_url_is_not_shown():
    ours = endpoint("https://user:pa55word@hook.example/in", id=0)
    assert destinations(ours) == ["https://hook.example/in", "https://hook.example/in"]


def destinations(of):
    envelope = {"event": "call", "instance": "loja", "data": None}
    return [Webhook().destination(EventType.CALL, of), json.loads(Webhook().body(envelope, of))["destination"]]


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


async def test_a_redirect_is_not_followed(webhook, receiver):
    receiver.response = f"HTTP/1.1 307 X\r\nLocation: {receiver.url}/other\r\nContent-Length: 0\r\n\r\n".encode()
    outcome = await send(webhook, receiver)
    assert outcome.result is Result.RETRY
    assert "redirect" in outcome.error
    assert len(receiver.requests) == 1


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


# Receivers that hang, drip, reset and lie


def stray(gap):
    """Respond with an error, and `gap` seconds later with a success that no request asked for."""

    async def respond(reader, writer):
        writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(gap)
        writer.write(OK)
        await reader.read()

    return respond


@pytest.mark.parametrize("gap", [0, 0.005, 0.05])
async def test_an_unsolicited_success_is_not_the_next_events(webhook, receiver, gap):
    receiver.response = stray(gap)
    for _ in range(4):
        assert (await send(webhook, receiver)).status == 500
        await asyncio.sleep(gap / 2)
    assert len(receiver.requests) == 4


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_bytes_on_an_idle_connection_are_no_response(webhook, settings, is_noticed):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    received, sent_more = [], threading.Event()

    def serve(listener):
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(OK)
                time.sleep(0.02)
                connection.sendall(OK)
                sent_more.set()
                with suppress(ConnectionResetError):
                    connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(2):
            sent_more.clear()
            assert (await webhook.send(outgoing(), endpoint(url))).result is Result.DELIVERED
            sent_more.wait(PATIENCE)
            await asyncio.sleep(0.05 if is_noticed else 0)
        await webhook.close()
        await asyncio.to_thread(thread.join, PATIENCE)
    assert len(received) == 2
    assert all(BODY in request for request in received)


@asynccontextmanager
async def responds_first(then):
    """Yield the URL of a receiver that responds OK to the head of a request, and then calls `then`."""
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        await then(reader, writer, int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=65536)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for writer in writers:
        writer.transport.abort()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def test_a_success_before_the_event_is_sent_waits_for_the_rest(webhook):
    body, read = b"x" * 20_000_000, asyncio.get_running_loop().create_future()

    async def read_on(reader, _, length):
        read.set_result(len(await reader.readexactly(length)))

    async with responds_first(read_on) as url:
        assert (await webhook.send(outgoing(body), endpoint(url, id=0))).result is Result.DELIVERED
        assert await asyncio.wait_for(read, PATIENCE) == len(body)


async def test_a_success_of_a_receiver_that_never_reads_does_not_count(webhook, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 500

    async def never_read(*_):
        pass

    async with responds_first(never_read) as url:
        outcome = await webhook.send(outgoing(b"x" * 50_000_000), endpoint(url, id=0))
    assert (outcome.result, outcome.error) == (Result.RETRY, "There was no answer within 0.5 seconds")


async def test_a_success_of_a_receiver_that_disconnects_before_it_has_the_event_does_not_count(webhook):
    async def hang_up(_, writer, __):
        writer.transport.abort()

    async with responds_first(hang_up) as url:
        outcome = await webhook.send(outgoing(b"x" * 50_000_000), endpoint(url, id=0))
    assert outcome.result is Result.RETRY
    assert outcome.error.startswith("The connection broke before")


async def test_a_response_of_chunk_headers_without_data_is_limited(webhook, receiver):
    receiver.response = flood(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 4000 + b"\r\nx\r\n"
    )
    began = time.monotonic()
    outcome = await send(webhook, receiver)
    assert outcome.result is Result.RETRY
    assert time.monotonic() - began < PATIENCE / 3
    receiver.response = flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536)
    assert (await send(webhook, receiver)).result is Result.RETRY
    assert await receiver.is_disconnected()


@pytest.mark.parametrize("status", [0, 101, 999])
async def test_a_status_that_ends_no_request_is_an_error(webhook, receiver, status):
    receiver.response = b"HTTP/1.1 %03d X\r\nContent-Length: 0\r\n\r\n" % status
    outcome = await send(webhook, receiver)
    assert outcome.result is Result.RETRY
    assert outcome.error


def silent(beginning=b""):
    async def respond(reader, writer):
        writer.write(beginning)
        await reader.read()

    return respond


def drip(beginning, data):
    async def respond(_, writer):
        writer.write(beginning)
        while True:
            for byte in data:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.02)

    return respond


def flood(beginning, repeated):
    async def respond(_, writer):
        writer.write(beginning)
        while True:
            writer.write(repeated)
            await writer.drain()
            await asyncio.sleep(0)

    return respond


def then_close(data, reset=False):
    async def respond(_, writer):
        writer.write(data)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            await writer.drain()

    return respond


LATE = {
    "silent": silent(),
    "drips the head": drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "drips the body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"a"),
    "drips chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "promises more": silent(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
}


@pytest.mark.parametrize("response", LATE.values(), ids=LATE)
async def test_one_timeout_covers_an_attempt(webhook, receiver, settings, response):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 300
    receiver.response = response
    began = time.monotonic()
    outcome = await send(webhook, receiver)
    assert time.monotonic() - began < 5
    assert outcome.result is Result.RETRY
    assert "within 0.3 seconds" in outcome.error
    assert await receiver.is_disconnected()


BROKEN = {
    "closes": then_close(b""),
    "resets": then_close(b"", reset=True),
    "closes in the head": then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "resets in the head": then_close(b"HTTP/1.1 200 OK\r\nContent-Le", reset=True),
    "closes in the body": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    "closes in a chunk": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"),
    "is no HTTP": then_close(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "is no HTTP at all": then_close(bytes(range(256)) * 50),
    "speaks HTTP/9": then_close(b"HTTP/9.9 200 OK\r\n\r\n"),
    "has no number": then_close(b"HTTP/1.1 abc OK\r\n\r\n"),
    "has a long line": then_close(b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n"),
    "has a long header": then_close(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "has headers without end": flood(b"HTTP/1.1 200 OK\r\n", b"X-A: abcdefghijkl\r\n" * 100),
    "has two lengths": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "has a negative length": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"),
    "has garbage for chunks": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    "is still at it, for ever": flood(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "switches protocols": then_close(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
}


@pytest.mark.parametrize("response", BROKEN.values(), ids=BROKEN)
async def test_a_broken_response_is_an_outcome(webhook, receiver, response, caplog):
    receiver.response = response
    began = time.monotonic()
    outcome = await send(webhook, receiver)
    assert time.monotonic() - began < 8, "it waited for the timeout"
    assert outcome.result is Result.RETRY
    assert outcome.error or outcome.status == 101
    assert "failed" not in outcome.error
    assert "127.0.0.1" not in outcome.error
    assert await receiver.is_disconnected()
    assert not caplog.records
    receiver.response = OK
    assert (await send(webhook, receiver)).result is Result.DELIVERED


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
    ],
)
async def test_of_an_endless_response_the_beginning_is_read(webhook, receiver, beginning):
    receiver.response = flood(beginning, b"x" * 65536)
    outcome = await send(webhook, receiver)
    assert (outcome.result, outcome.status, outcome.excerpt) == (Result.DELIVERED, 200, "x" * 2000)
    assert await receiver.is_disconnected()


async def test_little_of_a_response_is_buffered_by_the_kernel(webhook, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    loop, begun, waiting = asyncio.get_running_loop(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [0]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                loop.call_soon_threadsafe(time.sleep, 1)  # the loop reads nothing meanwhile
                time.sleep(0.2)
                connection.sendall(begun)
                connection.setblocking(False)
                chunks, until = memoryview(b"1\r\na\r\n" * 200_000), time.monotonic() + 0.5
                while time.monotonic() < until:
                    with suppress(BlockingIOError):
                        waiting[0] += connection.send(chunks[waiting[0] :])
                connection.setblocking(True)
                connection.sendall(chunks[waiting[0] :])

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outcome = await webhook.send(outgoing(), endpoint(url))
        await webhook.close()
        await asyncio.to_thread(serving.join, PATIENCE)
    assert (outcome.status, outcome.excerpt) == (200, "a" * 2000)
    assert 0 < waiting[0] < 100_000


async def test_a_surplus_response_is_not_taken_for_the_next_events(webhook, receiver):
    receiver.response = OK + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    for _ in range(3):
        assert (await send(webhook, receiver)).result is Result.DELIVERED


async def test_sending_to_a_receiver_that_does_not_read_times_out(webhook, receiver, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 300

    done = asyncio.Event()

    async def not_reading(_, writer):
        writer.transport.pause_reading()
        await done.wait()
        writer.transport.abort()

    server = await asyncio.start_server(not_reading, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    outcome = await webhook.send(outgoing(b"x" * 16_000_000), endpoint(f"http://127.0.0.1:{port}/"))
    assert outcome.result is Result.RETRY
    done.set()
    server.close()
    await server.wait_closed()


async def test_a_refused_connection_is_an_outcome(webhook, receiver):
    await receiver.stop()
    outcome = await send(webhook, receiver)
    assert (outcome.result, outcome.status) == (Result.RETRY, None)
    assert outcome.error == "There was no connection to the host: Connection refused"


async def test_a_name_without_an_address_is_an_outcome(webhook, monkeypatch):
    def getaddrinfo(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    outcome = await webhook.send(outgoing(), endpoint("http://nowhere.example/"))
    assert (outcome.result, outcome.error) == (Result.RETRY, "The host of the URL was not found")


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "http://[::1/", "", "/hook", "http://127.1/", "tcp://a.example/"]
)
async def test_an_invalid_url_is_an_outcome(webhook, url, caplog):
    outcome = await webhook.send(outgoing(), endpoint(url))
    assert outcome.result is Result.RETRY
    assert outcome.error.startswith("The ")
    assert not caplog.records


async def test_invalid_secrets_are_an_outcome_that_does_not_show_them(webhook, receiver):
    outcome = await send(webhook, receiver, secrets={"signing": ["whsec_not-base64-é"]})
    assert outcome.result is Result.RETRY
    assert "whsec" not in outcome.error
    outcome = await send(webhook, receiver, secrets={"headers": {"X-A": "secret\r\nX-B: y"}})
    assert outcome.result is Result.RETRY
    assert "secret\r" not in outcome.error
    assert receiver.requests == []


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
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0, ssl=self_signed)
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
    assert outcome.error == "The URL leads to an address that is not public"
    assert receiver.requests == []


async def test_the_operators_url_may_have_a_private_address(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    assert (await send(webhook, receiver, id=0)).result is Result.DELIVERED


async def test_a_connection_of_the_operator_is_not_reused_for_a_tenant(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    await send(webhook, receiver, id=0)
    assert (await send(webhook, receiver, id=7)).result is Result.RETRY
    assert len(receiver.requests) == 1


# Many at once


async def test_a_thousand_receivers_that_hang_leave_nothing_behind(webhook, receiver, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 3000
    receiver.response = silent()
    await webhook.send(outgoing(), endpoint("http://127.0.0.1:9/"))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    outcomes = await asyncio.gather(*(send(webhook, receiver) for _ in range(1000)))
    assert {outcome.result for outcome in outcomes} == {Result.RETRY}
    assert await receiver.is_disconnected()
    await asyncio.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before + 5
    receiver.response = OK
    assert (await send(webhook, receiver)).result is Result.DELIVERED


async def test_receivers_that_hang_delay_no_other(webhook, receiver, settings):
    hanging = Receiver()
    await hanging.start()
    hanging.response = silent()
    stuck = [asyncio.create_task(send(webhook, hanging)) for _ in range(300)]
    outcomes = await asyncio.gather(*(send(webhook, receiver) for _ in range(300)))
    assert {outcome.result for outcome in outcomes} == {Result.DELIVERED}
    assert not any(task.done() for task in stuck)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert await hanging.is_disconnected()
    await hanging.stop()


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


# Retries


def delays(settings, **variables):
    for name, value in variables.items():
        setattr(settings, f"WEBHOOK_RETRY_{name}", value)
    found = []
    while (wait := retry.delay(len(found) + 1, Random(7))) is not None:
        found.append(wait)
    return found


def test_by_default_an_event_is_retried_for_72_hours(settings):
    assert sum(retry.SCHEDULE) == 72 * 3600
    found = delays(settings)
    assert len(found) == len(retry.SCHEDULE)
    for wait, planned in zip(found, retry.SCHEDULE, strict=True):
        assert 0.8 * planned <= wait <= 1.2 * planned


def test_delays_have_jitter():
    assert len({round(retry.delay(2, Random(number)), 3) for number in range(50)}) > 40


def test_evolutions_variables_apply(settings):
    assert delays(settings, JITTER_FACTOR=0) == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert delays(settings, MAX_ATTEMPTS=3, INITIAL_DELAY_SECONDS=2) == [2, 4]
    assert delays(settings, MAX_DELAY_SECONDS=3, MAX_ATTEMPTS=5) == [2, 3, 3, 3]
    assert delays(settings, USE_EXPONENTIAL_BACKOFF=False) == [2, 2, 2, 2]


def test_evolutions_jitter_never_makes_a_delay_shorter_than_the_first(settings):
    settings.WEBHOOK_RETRY_MAX_ATTEMPTS = 10
    waits = [retry.delay(1, Random(number)) for number in range(200)]
    assert min(waits) == 5
    assert 5.5 < max(waits) <= 6
    assert all(240 <= retry.delay(9, Random(number)) <= 360 for number in range(200))


def test_evolutions_final_statuses_apply(settings):
    settings.WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES = frozenset({404, 410, 200})
    assert retry.result_of_status(404) is Result.DEAD
    assert retry.result_of_status(400) is Result.RETRY
    assert retry.result_of_status(410) is Result.GONE
    assert retry.result_of_status(200) is Result.DELIVERED


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("99999999999999999999", 24 * 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 24 * 3600),
        ("Fri, 01 May 2026 12:00:30", 30),
        *[(header, None) for header in (None, "", "-1", "1.5", "soon", "٣", "9" * 500)],
        ("Fri, 99 May 99999 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_within_limits(header, seconds):
    assert retry.retry_after(header, NOW) == seconds
