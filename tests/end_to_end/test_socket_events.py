"""Events on sockets: each client receives those of its audience once and in order, over every transport."""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
import socketio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_websocket

import realtime.socketio.engine_socket
from instances.models import Instance
from tests.clients.polling import Polling
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.in_process import InProcessServer

pytestmark = pytest.mark.any_database

TRANSPORTS = {
    "websocket": {"transports": ["websocket"]},
    "polling": {"transports": ["polling"]},
    "upgrade": {"transports": ["polling", "websocket"]},
    "websocket, else polling": {"transports": ["websocket", "polling"]},
}


@pytest.fixture
def instance(server):
    return server.create()


def websocket_url(server):
    return f"{server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"


def texts(events):
    return [event["data"]["message"]["conversation"] for event in events if event["event"] == "messages.upsert"]


def received(client, last, instances=None):
    """Receive the events (of these instances) up to the message with the text `last`."""
    events = []
    while texts(events[-1:]) != [last]:
        line = client.wait_for("event")
        assert line["event"] == line["args"][0]["event"]
        assert len(line["args"]) == 1
        if instances is None or line["args"][0]["instance"] in instances:
            events.append(line["args"][0])
    return events


def is_gapless(events):
    """Return whether each event names the one before it."""
    return all(event["prev"] == before["seq"] for before, event in itertools.pairwise(events))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_event_of_an_instance_is_received_once_and_in_order(server, node, instance, transport):
    other = server.create()
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, **TRANSPORTS[transport]
    ).connected()

    for number in range(50):
        assert server.receive(instance, f"{number}").status == 200
        assert server.receive(other, f"not {number}").status == 200
    server.receive(instance, "the end")

    events = received(client, "the end")
    assert texts(events) == [*map(str, range(50)), "the end"]
    assert {event["instance"] for event in events} == {instance.name}
    assert is_gapless(events)
    if transport == "upgrade" and not any(line["is"] == "upgrade" for line in client.seen):
        client.wait_for("upgrade", transport="websocket")
    client.disconnect()


def test_an_event_is_an_object_with_evolutions_members_in_their_order(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.receive(instance, "Olá, João 👋", id="an-id")

    event = client.event("messages.upsert")
    assert list(event) == ["event", "instance", "data", "date_time", "apikey", "id", "seq", "prev"]
    assert (event["event"], event["instance"], event["apikey"]) == ("messages.upsert", instance.name, None)
    assert event["date_time"].endswith("Z")
    assert event["seq"] == 2  # the first was its creation
    assert event["prev"] == 1
    data = event["data"]
    assert data["key"] == {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False, "id": "an-id"}
    assert data["message"] == {"conversation": "Olá, João 👋"}
    assert (data["pushName"], data["messageType"], data["source"]) == ("Ana", "conversation", "unknown")
    assert isinstance(data["messageTimestamp"], int)
    assert data["instanceId"] == instance.id
    assert [client.wait_for("event")["args"][0]["seq"] for _ in range(2)] == [3, 4]
    client.disconnect()


# Websocket settings


def test_websocket_settings_choose_the_events_and_apply_to_open_sockets(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    def setting(**websocket):
        response = server.post(server.path("/websocket/set", instance), {"websocket": websocket}, key=instance.token)
        assert response.status == 201

    setting(enabled=True, events=["MESSAGES_UPSERT"])
    server.receive(instance, "messages alone")
    setting(enabled=False, events=[])
    server.receive(instance, "while disabled")
    setting(enabled=True, events=[])
    server.receive(instance, "everything")
    setting(enabled=True, events=["CHATS_UPSERT"])
    server.receive(instance, "chats alone")
    setting(enabled=True, events=["MESSAGES_UPSERT", "SEND_MESSAGE"])
    server.receive(instance, "the end")

    events = received(client, "the end")
    assert texts(events) == ["messages alone", "everything", "the end"]
    assert [event["event"] for event in events] == [
        "messages.upsert",
        *("messages.upsert", "contacts.upsert", "chats.update", "chats.upsert"),
        "chats.upsert",
        "messages.upsert",
    ]
    # `seq` has gaps for the events that were left out; `prev` shows that none is missing
    assert is_gapless(events)
    assert events[0]["prev"] == 1
    assert len([line for line in client.seen if line["is"] == "connect"]) == 1
    client.disconnect()


def test_the_root_namespace_ignores_the_websocket_settings(server, node, instance):
    server.post(server.path("/websocket/set", instance), {"websocket": {"enabled": False, "events": []}})
    root = node.connect(server.url, auth={"apikey": GLOBAL_KEY}).connected()

    server.receive(instance, "for / alone")

    event = root.event("messages.upsert", instance=instance.name)
    assert event["data"]["message"] == {"conversation": "for / alone"}
    root.disconnect()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_root_namespace_receives_the_events_of_all_instances_each_in_order(server, node, transport):
    instances = [server.create() for _ in range(4)]
    root = node.connect(server.url, auth={"apikey": GLOBAL_KEY}, **TRANSPORTS[transport]).connected()

    def send(instance):
        for number in range(10):
            server.receive(instance, f"{number}")

    with ThreadPoolExecutor() as threads:
        list(threads.map(send, instances))
    server.receive(instances[0], "the end")

    events = received(root, "the end", instances={instance.name for instance in instances})
    for instance in instances:
        own = [event for event in events if event["instance"] == instance.name]
        assert texts(own) == [*map(str, range(10))] + ["the end"] * (instance is instances[0])
        assert is_gapless(own)
    root.disconnect()


# Joining while events are recorded


def test_a_client_that_joins_while_events_are_recorded_misses_and_repeats_none(server, node, instance):
    is_over = threading.Event()

    def send_continuously():
        for number in itertools.count():
            server.receive(instance, f"{number}")
            if is_over.is_set():
                return server.receive(instance, "the end")

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send_continuously)
        clients = []
        for transport in itertools.islice(itertools.cycle(TRANSPORTS), 10):
            options = {"auth": {"apikey": instance.token}, **TRANSPORTS[transport]}
            clients.append(node.connect(f"{server.url}/{instance.name}", **options).connected())
            clients[-1].event("messages.upsert")
        is_over.set()
        assert sending.result(20).status == 200

    for client in clients:
        received(client, "the end")
        events = [line["args"][0] for line in client.seen if line["is"] == "event"]
        assert is_gapless(events)
        assert len({event["seq"] for event in events}) == len(events)
        client.disconnect()


def test_a_client_receives_the_events_after_its_join(server, node, instance):
    """An event may follow right after CONNECT: each join here is followed by one at once."""
    for number in range(10):
        client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
        server.receive(instance, f"{number}")
        assert texts(received(client, f"{number}")) == [f"{number}"]
        client.disconnect()


# Polling


def test_a_poll_returns_at_most_sixteen_packets_and_loses_none(server, node, instance):
    slow = Polling(server.url, apikey=instance.token)
    slow.join(f"/{instance.name}")
    quick = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    for number in range(20):
        server.receive(instance, f"{number}")
    server.receive(instance, "the end")
    expected = received(quick, "the end")
    payloads = []
    while sum(map(len, payloads)) < len(expected):
        payloads.append(slow.poll())

    sizes = [len(payload) for payload in payloads]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {16}
    assert sizes[-1] <= 16
    assert [slow.event(packet)[1] for payload in payloads for packet in payload][: len(expected)] == expected
    quick.disconnect()


def test_a_client_that_polls_late_receives_the_events_before_its_disconnect(server, node):
    instance = server.create()
    slow = Polling(server.url, apikey=instance.token)
    slow.join(f"/{instance.name}")
    quick = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.request("DELETE", server.path("/instance/delete", instance))
    quick.wait_for("disconnect")
    packets = slow.poll_until(lambda packet: packet == f"41/{instance.name},")

    assert [slow.event(packet)[0] for packet in packets[-3:-1]] == ["instance.delete", "remove.instance"]
    assert slow.poll() == [""]  # the end of the session, as stock clients understand it
    with pytest.raises(AssertionError, match="400"):
        slow.poll()


def test_a_client_may_post_many_packets_at_once(server, instance):
    client = Polling(server.url, apikey=instance.token)
    client.join(f"/{instance.name}")

    client.post(*(f'42/{instance.name},["send_message",{{"text":"{number}"}}]' for number in range(50)))

    events = []
    while len(events) < 50:
        events += [client.event(packet)[1] for packet in client.poll() if packet != "2"]
    assert sorted(int(event["data"]["message"]["conversation"]) for event in events) == [*range(50)]
    assert is_gapless(events)


# python-socketio's clients


@contextmanager
def listening(client) -> Iterator[queue.Queue]:
    """Collect the events that a synchronous client receives."""
    events: queue.Queue = queue.Queue()
    client.on("*", lambda event, *args: events.put((event, args)), namespace="*")
    try:
        yield events
    finally:
        client.disconnect()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], None], ids=str)
def test_python_socketios_client_receives_events_as_the_official_client_does(server, transports):
    instance = server.create(f"loja {json.dumps(transports)} São Paulo".replace("/", ""))
    namespace = f"/{instance.name}"
    client = socketio.Client()
    with listening(client) as found:
        client.connect(
            f"{server.url}?apikey={instance.token}", transports=transports, namespaces=[namespace], wait_timeout=30
        )
        client.emit("subscribe", {"instance": instance.name}, namespace=namespace)
        for number in range(30):
            server.receive(instance, f"{number}")

        events = []
        while texts(events[-1:]) != ["29"]:
            event, (_, envelope) = found.get(timeout=10)
            assert event == envelope["event"]
            events.append(envelope)

    assert texts(events) == [*map(str, range(30))]
    assert is_gapless(events)


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], None], ids=str)
async def test_python_socketios_asyncio_client_receives_events(server, instance, transports):
    namespace, found = f"/{instance.name}", asyncio.Queue()
    client = socketio.AsyncClient()
    client.on("*", lambda event, envelope: found.put_nowait((event, envelope)), namespace=namespace)
    await client.connect(server.url, auth={"apikey": instance.token}, transports=transports, namespaces=[namespace])
    try:
        await client.emit("subscribe", {"instance": instance.name}, namespace=namespace)
        await asyncio.to_thread(server.receive, instance, "to asyncio")
        event, envelope = await asyncio.wait_for(found.get(), 10)
        assert (event, texts([envelope])) == ("messages.upsert", ["to asyncio"])
        assert await client.call("send_message", {"text": "from asyncio"}, namespace=namespace)
    finally:
        await client.disconnect()


def test_python_socketios_client_receives_the_reason_of_a_refusal(server, instance):
    client, refusals = socketio.Client(reconnection=False), queue.Queue()
    client.on("connect_error", refusals.put, namespace="/unknown")

    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(f"{server.url}?apikey={instance.token}", namespaces=["/unknown"])

    assert refusals.get(timeout=10) == {"message": "Invalid namespace"}
    client.disconnect()


# Unknown events and invalid packets


def test_unknown_events_are_ignored_and_refused_where_a_callback_waits(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    unknown = ["subscribe", "message", "joined", "trigger_event", "sendNode", "error", "*", "", "messages.upsert"]

    for event in unknown:
        client.emit(event, {"instance": instance.name}, "more")
        error = client.call(event)
        assert (error["status"], f'event to emit "{event}"' in error["response"]["message"][0]) == (400, True)
    ack = client.call("send_message", {"text": "still usable"})

    assert ack["message"] == {"conversation": "still usable"}
    assert client.event("send.message")
    assert {line["is"] for line in client.seen} <= {"upgrade", "connect", "event", "ack"}
    assert [line["event"] for line in client.seen if line["is"] == "event"] == ["send.message"]
    assert len([line for line in client.seen if line["is"] == "ack"]) == len(unknown) + 1
    client.disconnect()


RAW = [
    *('["connect"]', '["connect",{}]', '["disconnect"]', '["disconnect","transport close"]', '["connect_error",{}]'),
    *('["disconnecting"]', '["newListener"]', '["removeListener"]', '["joined"]', '["joined",1,2]'),
    *("[5]", "[null]", "[true]", "[{}]", "[[]]", "[]", "{}", '"x"', "null", "5", "true", ""),
    *('["__class__"]', '["on_connect"]', '[" send_message"]', '["SEND_MESSAGE",{"text":"no"}]'),
]


def test_a_text_in_place_of_an_attachment_ends_the_session(server, instance):
    with closing(Raw(server.url)) as client:
        client.join(f"/{instance.name}", {"apikey": instance.token})
        client.socket.send(f'451-/{instance.name},["send_message",{{"_placeholder":true,"num":0}}]')
        client.socket.send("4no attachment")
        with pytest.raises(ConnectionClosed):
            client.event()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_reserved_names_and_invalid_events_reach_no_handler(server, node, instance, transport):
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=[transport]
    ).connected()

    for content in RAW:
        client.raw(f"2/{instance.name},{content}")
        client.raw(f"2/{instance.name},7{content}")
    client.raw(f"3/{instance.name},7[]")  # an ACK without an event
    client.raw('2/unknown,["send_message",{"text":"not joined there"}]')
    client.raw('2["send_message",{"text":"nor there"}]')
    client.raw("1/unknown,")
    ack = client.call("send_message", {"text": "still usable"})

    assert ack["message"] == {"conversation": "still usable"}
    server.receive(instance, "and received")
    events = received(client, "and received")
    assert [event["event"] for event in events] == ["send.message", "messages.upsert"]
    assert {line["is"] for line in client.seen} == {"connect", "event", "ack"}
    client.disconnect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    "packet",
    [
        "",
        "x",
        "9",
        "2/{name},[",
        "2/{name},[" * 200,
        "0/{name},nonsense",
        "4/{name},{{}}",
        "51-[]",
        "511-/{name},[]",
    ],
)
def test_an_invalid_packet_closes_its_own_connection_alone(server, node, instance, transport, packet):
    options = {"auth": {"apikey": instance.token}, "transports": [transport], "reconnectionDelay": 1}
    client = node.connect(f"{server.url}/{instance.name}", **options).connected()
    other = node.connect(f"{server.url}/{instance.name}", **options).connected()

    client.raw(packet.format(name=instance.name))

    assert client.wait_for("disconnect")["active"] is True
    client.connected()  # it has reconnected
    server.receive(instance, "all is well")
    for listener in (client, other):
        assert texts(received(listener, "all is well")) == ["all is well"]
        listener.disconnect()


@contextmanager
def no_traceback(server) -> Iterator[None]:
    """Check that the block logs no traceback: clients without a key must not be able to fill the log."""
    before = len(server.log.read_text())
    yield
    assert "Traceback" not in server.log.read_text()[before:]


@pytest.mark.parametrize("frame", ["", "x", "²", "9", "bA", "0", "1", "4\ud7ff", b"", b"\xff"], ids=ascii)
def test_an_invalid_frame_ends_a_session_without_a_traceback(server, frame):
    with no_traceback(server), open_websocket(websocket_url(server)) as client:
        assert client.recv().startswith("0{")

        with suppress(ConnectionClosed):
            client.send(frame)
            client.send(frame)
            client.send("40/unknown,{}")
            assert client.recv(5) == '44/unknown,{"message":"Unauthorized"}'  # or it was ignored


@pytest.mark.parametrize(
    "body", ["x", "9", "²", "1\x1e40/x,", "4x\x1e", "\x1e\x1e", "bA", "d=", "4" * 1_000_001], ids=lambda b: b[:5]
)
def test_an_invalid_payload_ends_a_session_without_a_traceback(server, body):
    client = Polling(server.url)
    with no_traceback(server):
        with suppress(AssertionError):
            client.post(body)
            client.poll()
        with pytest.raises(AssertionError, match="400"):
            client.poll()


@pytest.mark.parametrize("frames", [(), ("",), ("x",), ("4",), ("2probe",), ("2probe", "x")], ids=str)
def test_a_client_whose_upgrade_fails_goes_on_polling(server, instance, frames):
    client = Polling(server.url, apikey=instance.token)
    client.join(f"/{instance.name}")

    with no_traceback(server), open_websocket(f"{websocket_url(server)}&sid={client.query['sid']}") as websocket:
        for frame in frames:
            websocket.send(frame)
        if "2probe" in frames:
            assert websocket.recv() == "3probe"
    server.receive(instance, "still by polling")

    packets = client.poll_until(lambda packet: packet.startswith("42"))
    assert "messages.upsert" in [client.event(packet)[0] for packet in packets if packet.startswith("42")]


@pytest.mark.bound("LIMIT_UPGRADE_SECONDS")
def test_a_client_whose_upgrade_times_out_goes_on_polling(transactional_db, monkeypatch):
    """Some proxies open websockets and pass no frames on."""
    monkeypatch.setattr(realtime.socketio.engine_socket, "UPGRADE_SECONDS", 0.2)
    instance = Instance(name="an instance")
    instance.save()
    with InProcessServer() as inside:
        client = Polling(inside.url, apikey=instance.token.reveal())
        client.join(f"/{instance.name}")
        with open_websocket(f"{websocket_url(inside)}&sid={client.query['sid']}") as websocket:
            assert client.poll() == ["6"]  # during an upgrade, a poll gets no events
            with pytest.raises(ConnectionClosed):
                websocket.recv(5)
        instance.connection_state = "open"
        instance.save()
        packets = client.poll_until(lambda packet: packet.startswith("42"))
    assert client.event(packets[-1])[0] == "connection.update"
