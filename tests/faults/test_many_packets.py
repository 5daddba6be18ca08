"""As many packets as fit into one request: the event loop turns meanwhile, and nothing after a bad one is handled."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.clients.polling import SEPARATOR, Polling
from tests.faults.stuck import StuckReader
from tests.in_process import until

pytestmark = pytest.mark.any_database

#: Bytes that the body of a POST may have.
MAX_BODY = 1_000_000

#: Seconds that others may wait on a slow machine. Handled in one piece, these bodies take longer even on a fast one.
PATIENCE = 0.8

TEXT, PING = 1, 9

#: The first octet of a close frame; no other frame that the server sends here has it.
CLOSE_FRAME = b"\x88"


@pytest.fixture
def quiet_server(fresh_server):
    """A server whose log has no line of another test."""
    server = fresh_server()
    yield server
    server.stop()
    assert "Traceback" not in server.log.read_text()


@contextmanager
def others_served(server):
    """Repeat a request that the event loop answers; none may take longer than PATIENCE."""
    is_over, waits = threading.Event(), []

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not (waits and is_over.wait(0.005)):
            began_at = time.monotonic()
            connection.request("GET", "/socket.io/?EIO=4&transport=none")
            assert connection.getresponse().read()
            waits.append(time.monotonic() - began_at)
        connection.close()

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask)
        try:
            yield
        finally:
            is_over.set()
            asking.result(60)
    assert max(waits) < PATIENCE


def full(packet):
    """Return a body of as many of these packets as fit."""
    return SEPARATOR.join([packet] * (MAX_BODY // (len(packet) + 1))).encode()


def escaped(packet):
    """Return such a body as JSONP clients post it, with every character escaped."""
    one = "".join(f"%{ord(character):02x}" for character in packet + SEPARATOR)
    return b"d=" + (one * ((MAX_BODY - 2) // len(one))).removesuffix("%1e").encode()


def post_together(server, body, clients):
    """Post a body from several clients, all complete at the same time; returns the statuses of the responses."""
    with ExitStack() as stack:
        posting = []
        for _ in range(clients):
            path = Polling(server.url).path
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            client.sendall(head + body[:-1])
            posting.append(client)
        for client in posting:
            client.sendall(body[-1:])
        return [int(client.recv(65536).split()[1]) for client in posting]


def frames(opcode, *payloads):
    """Return a client's frames, to be sent in one piece."""
    return b"".join(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload.encode() for payload in payloads)


def logged(server):
    return sum("A client sent a malformed packet" in line for line in server.log.read_text().splitlines())


def say(instance):
    return f'42/{instance.name},["send_message",{{"text":"hello"}}]'


# The loop turns


@pytest.mark.parametrize("packet", ["4x", "49"])
def test_a_body_of_bad_packets_delays_nobody_and_is_logged_once(quiet_server, packet):
    with others_served(quiet_server):
        assert post_together(quiet_server, full(packet), clients=1) == [200]
    assert logged(quiet_server) == 1


@pytest.mark.bound("LIMIT_PACKETS_PER_TURN")
@pytest.mark.bound("LIMIT_BYTES_PER_TURN")
@pytest.mark.parametrize("packet", ["3", "43[]"])
def test_a_body_of_small_packets_delays_nobody(server, packet):
    with others_served(server):
        assert post_together(server, full(packet), clients=1) == [200]


@pytest.mark.parametrize("body", [escaped("3" + "a" * 1000), b"d=3" + b"&a=b" * 249_000], ids=["escapes", "fields"])
def test_forms_of_jsonp_delay_nobody(server, body):
    with others_served(server):
        assert post_together(server, body, clients=16) == [200] * 16


@pytest.mark.parametrize(
    ("opcode", "payload"), [(TEXT, "3"), (TEXT, "41"), (TEXT, "4x"), (PING, "")], ids=["3", "41", "4x", "ping"]
)
def test_frames_sent_together_delay_nobody(server, opcode, payload):
    sent = frames(opcode, *[payload] * 30_000) + frames(TEXT, "9")

    def send(client):
        with suppress(OSError):  # it is closed after a bad one
            client.socket.sendall(sent)
            while (data := client.socket.recv(65536)) and CLOSE_FRAME not in data:
                pass
        client.close()

    clients = [StuckReader(server.port) for _ in range(4)]
    with others_served(server), ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(send, clients))


# Nothing after a bad packet is handled


@pytest.mark.parametrize("bad", ["4", "4x", "4[]", "4true", "9", "b", "3\x1e\x1e3"])
def test_nothing_after_a_bad_packet_of_a_body_is_handled(server, bad):
    instance = server.create()
    client = Polling(server.url)
    client.join(f"/{instance.name}", apikey=instance.token)

    for body in (SEPARATOR.join([bad, say(instance)]), say(instance)):
        server.post(client.path, body.encode(), key=None)

    time.sleep(0.2)
    assert server.counts(instance)["Message"] == 0


@pytest.mark.parametrize("bad", ["4", "4x", "4[]", "4true", "9"])
def test_nothing_after_a_bad_frame_is_handled(server, bad):
    instance = server.create()
    client = StuckReader(server.port)
    client.join(f"/{instance.name}", apikey=instance.token)

    client.socket.sendall(frames(TEXT, bad, say(instance)))

    with pytest.raises(ConnectionError):
        client.event()
    client.close()
    assert server.counts(instance)["Message"] == 0


def test_packets_before_a_bad_one_are_handled(server):
    instance = server.create()
    client = Polling(server.url)
    client.join(f"/{instance.name}", apikey=instance.token)

    client.post(say(instance), "4x")

    until(lambda: server.counts(instance)["Message"] == 1)


def test_bad_frames_of_one_client_are_logged_once(quiet_server):
    client = StuckReader(quiet_server.port)

    client.socket.sendall(frames(TEXT, *["4x"] * 1000))

    with pytest.raises(ConnectionError):
        client.event()
    client.close()
    assert logged(quiet_server) == 1


def test_bad_packets_of_many_clients_are_logged_once_a_second(quiet_server):
    began_at = time.monotonic()
    for _ in range(200):
        Polling(quiet_server.url).post("4x")

    assert 1 <= logged(quiet_server) <= time.monotonic() - began_at + 1
    time.sleep(1)
    Polling(quiet_server.url).post("4x")
    skipped = re.findall(r"\((\d+) before it were not logged\)", quiet_server.log.read_text())
    assert logged(quiet_server) + sum(map(int, skipped)) == 201


# The body of an honest client is limited by its size alone


def test_five_thousand_emits_at_once_are_all_acknowledged(server, node):
    instance = server.create()
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=["polling"]
    ).connected()

    acknowledgements = client.call_all("send_message", ["no object"] * 5000)

    assert {ack["status"] for ack in acknowledgements} == {400, 429}
    client.disconnect()
