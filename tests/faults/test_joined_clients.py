"""What a client may cost that has a key and has joined: its replies, its packets, its namespaces."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from tests.clients.polling import SEPARATOR, Polling
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.faults.floods import Bystander
from tests.faults.stuck import StuckReader

pytestmark = pytest.mark.any_database


def emit(instance, number):
    """Return an emit that is refused, and so acknowledged at once."""
    return f'42/{instance.name},{number}["send_message",[]]'


def text_frame(text):
    payload = text.encode()
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return b"\x81" + size + b"\0\0\0\0" + payload


# Replies


@pytest.mark.bound("LIMIT_REPLY_BYTES")
def test_a_client_that_polls_no_replies_causes_no_more(fresh_server):
    server = fresh_server(LIMIT_STUCK_SECONDS="2")
    instance = server.create()
    clients = [Polling(server.url) for _ in range(5)]
    body = SEPARATOR.join(emit(instance, number) for number in range(20_000)).encode()
    for client in clients:
        client.join(f"/{instance.name}", apikey=instance.token)
    with Bystander(server) as bystander, ThreadPoolExecutor(len(clients)) as threads:
        responses = list(threads.map(lambda client: server.post(client.path, body, key=None), clients))
    assert {response.status for response in responses} == {400}
    assert "were not polled" in responses[0].json["response"]["message"][0]
    assert bystander.growth < 25_000_000


@pytest.mark.slow
@pytest.mark.bound("LIMIT_STUCK_SECONDS")
def test_a_websocket_that_reads_no_replies_causes_no_more(fresh_server):
    server = fresh_server(LIMIT_STUCK_SECONDS="2")
    instance = server.create()
    clients = [StuckReader(server.port) for _ in range(5)]
    for client in clients:
        client.join(f"/{instance.name}", apikey=instance.token)
    packets = b"".join(text_frame(emit(instance, number)) for number in range(100_000, 150_000))

    def flood(client):
        client.socket.settimeout(30)
        with suppress(ConnectionError):
            client.socket.sendall(packets)
            for _ in range(200):  # until it is reset
                client.socket.sendall(text_frame("3"))
                threading.Event().wait(0.1)

    with Bystander(server) as bystander, ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(flood, clients))
    for client in clients:
        client.close()
    assert bystander.growth < 40_000_000


def test_a_client_that_reads_late_gets_all_replies(server):
    instance = server.create()
    client = StuckReader(server.port)
    client.join(f"/{instance.name}", apikey=instance.token)
    with ThreadPoolExecutor(1) as threads:
        packets = b"".join(text_frame(emit(instance, number)) for number in range(20_000))
        sending = threads.submit(client.socket.sendall, packets)
        threading.Event().wait(0.5)
        replies = {client.packet().partition("[")[0] for _ in range(20_000)}
        sending.result(20)
    client.close()
    assert replies == {f"43/{instance.name},{number}" for number in range(20_000)}


# Packets


#: Texts that take long to parse in one piece, if they are repaired.
BAD_TEXTS = {
    "lone surrogates": "\\ud800" * 160_000,
    "backslashes": "\\\\" * 490_000 + "\\ud800",
    "no end": "a" * 900_000 + "\\",
}


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_large_packets_that_are_no_json_delay_nobody(server, kind):
    instance = server.create()
    clients = [Polling(server.url) for _ in range(8)]
    for client in clients:
        client.join(f"/{instance.name}", apikey=instance.token)
    packet = f'42/{instance.name},["x","{BAD_TEXTS[kind]}"]'
    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(lambda client: client.post(packet), clients))
    assert [client.poll() for client in clients] == [[""]] * len(clients)


MUCH = {
    "objects": f"[{'{},' * 300_000}0]",
    "lists": f"[{'[],' * 300_000}0]",
    "numbers": f"[{'0,' * 450_000}0]",
    "members": json.dumps(dict.fromkeys(map(str, range(70_000)), 0)),
}


@pytest.mark.parametrize("kind", MUCH)
def test_a_packet_of_much_structure_ends_the_session_and_delays_nobody(server, kind):
    instance = server.create()
    for event in ("send_message", "x"):
        client = Polling(server.url)
        client.join(f"/{instance.name}", apikey=instance.token)
        client.post(f'42/{instance.name},["{event}",{MUCH[kind]}]')
        assert client.poll() == [""]


@pytest.mark.bound("LIMIT_PACKET_STRUCTURE")
@pytest.mark.parametrize(("inner", "count"), [("{},", 9_990), ("[],", 9_990), ('"\\ud800",', 14_000)])
def test_a_packet_of_the_most_structure_is_handled_and_delays_nobody(server, inner, count):
    instance = server.create()
    client = Polling(server.url)
    client.join(f"/{instance.name}", apikey=instance.token)
    client.post(f'42/{instance.name},7["send_message",{{"text":[{inner * count}0]}}]')
    assert client.poll_until(lambda packet: packet.startswith(f"43/{instance.name},7["))


@pytest.mark.bound("LIMIT_ATTACHMENTS")
def test_attachments_are_bounded_together(server):
    instance = server.create()
    client = Raw(server.url)
    client.join(f"/{instance.name}", {"apikey": instance.token})
    client.socket.send(f'453-/{instance.name},["x",{json.dumps({"_placeholder": True, "num": 0})}]')
    client.socket.send(b"a" * 600_000)
    client.socket.send(b"a" * 600_000)
    with pytest.raises(ConnectionClosed):
        client.event()
    client.close()


# Namespaces


@pytest.fixture(scope="module")
def names(server):
    names = [f"namespace-{number}" for number in range(1000)]
    server.shell(
        "from instances.models import Instance\n"
        "from django.db import transaction\n"
        "with transaction.atomic():\n"
        f"    for name in {names!r}:\n"
        "        Instance(name=name).save()\n"
    )
    return names


def joins(names):
    return [f'40/{name},{{"apikey":"{GLOBAL_KEY}"}}' for name in names]


def post_and_poll(client, packets, joined):
    """Post packets, and poll until so many namespaces are joined: replies that nobody takes would keep the POST."""
    with ThreadPoolExecutor(1) as threads:
        posting = threads.submit(client.post, *packets)
        while joined > 0:
            joined -= len([packet for packet in client.poll() if packet.startswith("40/")])
        posting.result(60)


@pytest.mark.slow
def test_a_thousand_namespaces_joined_and_left_at_once_delay_nobody(server, names):
    for leave in (lambda client: client.close(), lambda client: client.socket.send("1")):
        client = Raw(server.url)
        for packet in joins(names):
            client.socket.send(packet)
        for _ in names:
            assert client.socket.recv(20).startswith("40/")
        leave(client)
        client.close()
    polling = Polling(server.url)
    post_and_poll(polling, joins(names), len(names))
    polling.post(*[f"41/{name}," for name in names])


@pytest.mark.slow
def test_a_client_that_joins_and_leaves_without_end_delays_nobody(server, names):
    packets = [packet for name in names[:500] for packet in (*joins([name]), f"41/{name},")] * 2
    clients = [Polling(server.url) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda client: post_and_poll(client, packets, 1000), clients))


@pytest.mark.bound("LIMIT_NAMESPACES")
def test_a_namespace_beyond_the_bound_ends_the_session(fresh_server):
    server = fresh_server(LIMIT_NAMESPACES="2")
    instances = [server.create() for _ in range(3)]
    client = Raw(server.url)
    for instance in instances[:2]:
        assert client.join(f"/{instance.name}", {"apikey": instance.token})[0] == "0"
    client.socket.send(f'40/{instances[2].name},{{"apikey":"{instances[2].token}"}}')
    with pytest.raises(ConnectionClosed):
        client.event()
    client.close()
