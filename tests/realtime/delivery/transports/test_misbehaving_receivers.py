"""Attempts to deliver to receivers on real sockets that hang, drip, reset and lie."""

import asyncio
import gc
import os
import re
import socket
import threading
import time
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network

import pytest

from realtime.delivery.transports.base import Result
from tests.realtime.delivery.transports.raw_receiver import (
    BODY,
    OK,
    PATIENCE,
    Receiver,
    drip,
    endpoint,
    flood,
    outgoing,
    send,
    silent,
    then_close,
)

pytestmark = pytest.mark.any_database


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
    "has garbage in an error": then_close(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    "has garbage after a hint": then_close(b"HTTP/1.1 103 Early Hints\r\n\r\nHello!\r\n\r\n"),
    "closes after chunks": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
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


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Responses whose head says that the event was taken, and that are malformed from there on: status and excerpt.
GARBLED = {
    "204 with a body": (NO_CONTENT + b'\r\n{"ok": true}', 204, ""),
    "204 with a length": (NO_CONTENT + b"Content-Length: 2\r\n\r\nok", 204, ""),
    "204 with chunks": (NO_CONTENT + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 204, ""),
    "204 with much": (NO_CONTENT + b"\r\n" + b"x" * 500_000, 204, ""),
    "204 with a length of zero": (NO_CONTENT + b"Content-Length: 0\r\n\r\n{}", 204, ""),
    "204 after an interim response": (b"HTTP/1.1 102 Processing\r\n\r\n" + NO_CONTENT + b"\r\nok", 204, ""),
    "204 in single line feeds": (b"HTTP/1.1 204 No Content\nX: a\n\nok", 204, ""),
    "more than its length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, thank you\r\n", 200, "ok"),
    "garbage for chunks": (CHUNKED + b"zz\r\nhello\r\n", 200, ""),
    "garbage after a chunk": (CHUNKED + b"2\r\nok\r\n!\r\nhello\r\n", 200, "ok"),
    "garbage after chunks": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n{}\r\n", 200, "ok"),
}


@pytest.mark.parametrize("size", [None, 1, 1000])
@pytest.mark.parametrize(("response", "status", "excerpt"), GARBLED.values(), ids=GARBLED)
async def test_a_success_counts_whatever_follows_it(webhook, receiver, caplog, response, status, excerpt, size):
    """The receiver has taken the event, and would get it ten times, and then nothing any more."""

    async def in_pieces(_, writer):
        for start in range(0, len(response), size):
            if writer.transport.is_closing():
                break
            writer.write(response[start : start + size])
            await asyncio.sleep(0.001)

    receiver.response = in_pieces if size and len(response) < 1000 * size else response
    for _ in range(3):
        outcome = await send(webhook, receiver)
        assert (outcome.result, outcome.status, outcome.error) == (Result.DELIVERED, status, "")
        assert outcome.excerpt == excerpt
        assert await receiver.is_disconnected()
    assert not [record for record in caplog.records if record.name != "asyncio"]
    receiver.response = OK
    assert (await send(webhook, receiver)).excerpt == "ok"


@pytest.mark.slow
async def test_a_garbled_success_before_the_event_is_sent_does_not_count(webhook):
    async def garble(_, writer, __):
        writer.write(b"no HTTP\r\n\r\n")

    async with responds_first(garble) as url:
        outcome = await webhook.send(outgoing(b"x" * 50_000_000), endpoint(url, id=0))
    assert outcome.result is Result.RETRY


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
