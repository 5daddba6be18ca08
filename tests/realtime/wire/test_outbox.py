"""Events on the wire: one frame for all, one write per turn, and the same over every transport and server."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import transaction
from websockets.frames import Frame, Opcode

from instances.events import EventType
from instances.models import Instance
from realtime.log.models import Event
from realtime.management.commands.serve import uvicorn_config
from realtime.wire import outbox as outbox_module
from realtime.wire.http import LimitedProtocol
from realtime.wire.outbox import EMPTY, Outbox, frame
from realtime.wire.websocket import WebSocketProtocol
from tests.clients.polling import Polling
from tests.clients.raw import Raw
from tests.in_process import InProcessServer, until

TOKEN = "token-of-the-test"


# Frames and the outbox


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_frame_equals_the_websockets_librarys(size, kind):
    payload = "é" * (size // 2) + "x" * (size % 2) if kind is str else b"\x00" * size
    opcode = Opcode.TEXT if kind is str else Opcode.BINARY
    data = payload.encode() if isinstance(payload, str) else payload

    assert frame(payload) == Frame(opcode, data).serialize(mask=False)


class Connection:
    def __init__(self):
        self.pending = EMPTY
        self.written = []

    def write(self, data):
        self.written.append(data)


async def test_frames_of_one_turn_are_one_write_shared_by_connections_with_the_same_frames():
    outbox, first, second, late = Outbox(), Connection(), Connection(), Connection()

    outbox.push([first, second], b"a")
    outbox.push([first, second], b"b")
    outbox.push([late, first, second], b"c")
    assert not first.written
    await asyncio.sleep(0)

    assert (first.written, second.written, late.written) == ([b"abc"], [b"abc"], [b"c"])
    assert first.written[0] is second.written[0]
    outbox.push([first], b"d")
    await asyncio.sleep(0)
    assert first.written == [b"abc", b"d"]
    assert first.pending is EMPTY


async def test_what_is_pushed_during_a_long_flush_waits_for_the_next_one_and_joins_more(monkeypatch):
    monkeypatch.setattr(outbox_module, "MAX_FLUSH", 0)
    monkeypatch.setattr(outbox_module, "WRITES_AT_ONCE", 1)
    monkeypatch.setattr(outbox_module, "MAX_GAP", 0.05)

    class SlowConnection(Connection):
        def write(self, data):
            time.sleep(0.02)
            super().write(data)

    outbox, connections = Outbox(), [SlowConnection() for _ in range(3)]
    outbox.push(connections, b"a")
    await asyncio.sleep(0)
    outbox.push(connections, b"b")
    for _ in range(3):
        await asyncio.sleep(0)
    assert [connection.written for connection in connections] == [[b"a"], [b"ab"], [b"ab"]]
    outbox.push(connections, b"c")
    await asyncio.sleep(0.3)
    assert [connection.written for connection in connections] == [[b"a", b"bc"], [b"ab", b"c"], [b"ab", b"c"]]


async def test_a_long_flush_is_made_in_several_turns(monkeypatch):
    monkeypatch.setattr(outbox_module, "MAX_FLUSH", 0)
    monkeypatch.setattr(outbox_module, "WRITES_AT_ONCE", 1)
    outbox, connections = Outbox(), [Connection() for _ in range(3)]
    outbox.push(connections, b"a")

    written = []
    for turn in range(3):
        await asyncio.sleep(0)
        written.append([b"".join(connection.written) for connection in connections])
        outbox.push(connections[:2], b"%d" % turn)
    await asyncio.sleep(0.01)

    assert written == [[b"a", b"", b""], [b"a", b"a0", b""], [b"a", b"a0", b"a"]]
    assert [b"".join(connection.written) for connection in connections] == [b"a012", b"a012", b"a"]


async def test_a_connection_that_fails_leaves_the_others_alone(caplog):
    outbox, broken, healthy = Outbox(), Connection(), Connection()
    broken.write = None

    outbox.push([broken, healthy], b"a")
    await asyncio.sleep(0)

    assert healthy.written == [b"a"]
    assert "could not be written to" in caplog.text


async def test_after_a_long_flush_the_next_one_is_delayed_and_joins_more(monkeypatch):
    monkeypatch.setattr(outbox_module, "MAX_GAP", 0.05)
    outbox, slow = Outbox(), Connection()
    slow.write = lambda data: (slow.written.append(data), threading.Event().wait(0.05))

    outbox.push([slow], b"a")
    await asyncio.sleep(0)
    outbox.push([slow], b"b")
    await asyncio.sleep(0)
    outbox.push([slow], b"c")
    assert slow.written == [b"a"]
    await asyncio.sleep(0.1)

    assert slow.written == [b"a", b"bc"]


# The server


@pytest.fixture
def instance(transactional_db):
    instance = Instance(name="loja")
    instance.give_token(TOKEN)
    instance.save()
    return instance


def record(instance, *numbers):
    with transaction.atomic():
        for number in numbers:
            Event.objects.record(instance, EventType.CALL, {"number": number, "text": "ção ✓"})


def test_serve_configures_the_protocol_classes_of_this_project():
    config = uvicorn_config("127.0.0.1", 0, 1)
    config.load()

    assert config.http_protocol_class is LimitedProtocol
    assert config.ws_protocol_class is WebSocketProtocol


def received_segments(client):
    """Return how many TCP segments with data the client has received: tcpi_data_segs_in of Linux's `struct tcp_info`.

    A write of less than the loopback's MSS, 64 KiB, is one segment.
    """
    tcp_info = client.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", tcp_info, 152)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's struct tcp_info")
def test_many_events_of_one_turn_reach_a_websocket_in_one_write(instance):
    with InProcessServer() as inside:
        client = Raw(inside.url)
        client.join("/loja", {"apikey": TOKEN})
        until(lambda: inside.application.server.rooms)
        before = received_segments(client)
        record(instance, *range(50))

        assert [client.event()[1]["data"]["number"] for _ in range(50)] == list(range(50))
        assert received_segments(client) - before == 1
        client.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"http": "httptools", "ws": "websockets-sansio"},
        {"http": "h11", "ws": "websockets-sansio", "ws_per_message_deflate": False},
    ],
    ids=str,
)
def test_all_servers_and_transports_deliver_the_same_in_the_same_order(instance, node, options):
    """Even servers without the extension, where packets are ASGI messages."""
    with InProcessServer(**options) as inside:
        clients = [
            node.connect(f"{inside.url}/loja", auth={"apikey": TOKEN, "recover": recover}, transports=transports)
            for recover in (False, True)
            for transports in (["websocket"], ["polling"], ["polling", "websocket"])
        ]
        for client in clients:
            client.connected()
        narrow = node.connect(f"{inside.url}/loja", auth={"apikey": TOKEN, "events": ["CONNECTION_UPDATE"]})
        narrow.connected()

        for number in range(0, 60, 3):
            record(instance, number, number + 1, number + 2)
        Event.objects.record(instance, EventType.CONNECTION_UPDATE, {"state": "open"})

        for client in clients:
            received = [client.event("call")["data"] for _ in range(60)]
            assert received == [{"number": number, "text": "ção ✓"} for number in range(60)]
            assert client.event("connection.update")["data"] == {"state": "open"}
            client.disconnect()
        assert narrow.event("connection.update")
        assert [line["event"] for line in narrow.seen if line["is"] == "event"] == ["connection.update"]
        narrow.disconnect()
        until(lambda: inside.is_clean)


def test_an_acknowledgement_comes_after_the_events_before_it(instance):
    """Packets of all kinds keep one order per client."""
    with InProcessServer() as inside:
        client = Raw(inside.url)
        client.join("/loja", {"apikey": TOKEN})
        until(lambda: inside.application.server.rooms)

        async def emit_event_then_answer():
            server = inside.application.server
            server.emit_event("/loja", next(iter(server.rooms)), event, event.seq, None)
            await server.emit("answer", {}, namespace="/loja")

        event = Event(type="call", seq=1, envelope=json.dumps({"event": "call"}).encode())
        inside.run(emit_event_then_answer()).result(10)

        assert client.event() == ["call", {"event": "call"}]
        assert client.event() == ["answer", {}]
        client.close()


def test_disconnected_clients_leave_no_trace(instance):
    with InProcessServer() as inside:
        with ThreadPoolExecutor(16) as threads:
            clients = list(threads.map(lambda _: Raw(inside.url), range(100)))
            list(threads.map(lambda client: client.join("/loja", {"apikey": TOKEN}), clients))
            until(lambda: sum(map(len, inside.application.server.rooms.values())) == 100)
            list(threads.map(Raw.close, clients))
        polling = Polling(inside.url)
        polling.join("/loja", apikey=TOKEN)
        polling.post("41/loja,")
        polling.post("1")
        until(lambda: inside.is_clean)
