"""Recovery: a client that reconnects receives the events that it missed, once and in order."""

from __future__ import annotations

import secrets

import pytest

from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.faults.proxy import Proxy
from tests.realtime.fanout.pruning import prune


class Recording:
    """A stock client, and the events that it has received."""

    def __init__(self, node, url, **auth):
        self.client = node.connect(url, auth=auth, reconnectionDelay=50, reconnectionDelayMax=200).connected()

    def until(self, text, timeout=20):
        """Wait for the message with this text and return the arguments of all events."""
        while texts(self.received())[-1:] != [text]:
            self.client.wait_for("event", timeout)
        return self.received()

    def received(self):
        return [line["args"] for line in self.client.seen if line["is"] == "event"]

    def reconnected(self, timeout=20):
        """Wait for the next `connect`, after a disconnect."""
        return self.client.wait_for("connect", timeout)


def seqs(received):
    return [args[0]["seq"] for args in received]


def texts(received):
    return [
        args[0]["data"]["message"]["conversation"] for args in received if args[0].get("event") == "messages.upsert"
    ]


@pytest.fixture
def instance(server):
    return server.create()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def recording(node, proxy, instance):
    recording = Recording(node, f"{proxy.url}/{instance.name}", apikey=instance.token, recover=True)
    yield recording
    recording.client.disconnect()


def disconnect(proxy, recording):
    """Reset the client's connection and refuse new ones until `proxy.is_refusing` is False."""
    proxy.is_refusing = True
    proxy.reset_all()
    recording.client.wait_for("disconnect")


def test_a_client_that_reconnects_receives_the_events_that_it_missed(server, proxy, recording, instance):
    server.receive(instance, "first")
    recording.until("first")
    disconnect(proxy, recording)
    for number in range(5):
        server.receive(instance, f"missed {number}")
    proxy.is_refusing = False

    assert recording.reconnected()["recovered"] is True
    server.receive(instance, "live")
    received = recording.until("live")
    assert texts(received) == ["first", *(f"missed {n}" for n in range(5)), "live"]
    assert seqs(received) == list(range(2, 2 + len(received)))


def test_a_session_is_resumed_before_its_first_event_and_again_and_again(server, proxy, recording, instance):
    sent = []
    for number in range(4):
        disconnect(proxy, recording)
        sent.append(f"missed {number}")
        server.receive(instance, sent[-1])
        proxy.is_refusing = False
        assert recording.reconnected()["recovered"] is True
    server.receive(instance, "live")

    received = recording.until("live")
    assert texts(received) == [*sent, "live"]
    assert seqs(received) == list(range(2, 2 + len(received)))


@pytest.mark.slow
def test_a_session_is_resumed_after_a_restart_of_the_server(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    recording = Recording(node, f"{server.url}/{instance.name}", apikey=instance.token, recover=True)
    server.receive(instance, "before")
    recording.until("before")

    for number in range(2):
        server.kill()
        recording.client.wait_for("disconnect")
        server.shell(
            "from django.test import Client\n"
            f"body = {{'numberId': {instance.number!r}, 'key': {{'remoteJid': '1@s.whatsapp.net'}}, "
            f"'message': {{'conversation': 'down {number}'}}}}\n"
            f"client = Client(SERVER_NAME='localhost', headers={{'apikey': {instance.token!r}}})\n"
            "response = client.post('/webhook/evolution', body, content_type='application/json')\n"
            "assert response.status_code == 200, response.content"
        )
        server.start()
        assert recording.reconnected()["recovered"] is True
    server.receive(instance, "after")

    received = recording.until("after")
    assert texts(received) == ["before", "down 0", "down 1", "after"]
    assert seqs(received) == list(range(2, 2 + len(received)))
    recording.client.disconnect()


@pytest.mark.postgres
def test_a_session_is_resumed_at_another_process(server, start_server, proxy, recording, instance):
    other = start_server()
    for number in range(3):
        disconnect(proxy, recording)
        server.receive(instance, f"missed {number}")
        proxy.target = (other, server)[number % 2].port
        proxy.is_refusing = False
        assert recording.reconnected()["recovered"] is True
    server.receive(instance, "live")

    received = recording.until("live")
    assert texts(received) == ["missed 0", "missed 1", "missed 2", "live"]


def test_a_session_of_the_root_namespace_is_resumed_too(server, node, proxy):
    instances = [server.create() for _ in range(2)]
    recording = Recording(node, f"{proxy.url}/", apikey=GLOBAL_KEY, recover=True)
    server.receive(instances[0], "first")
    recording.until("first")
    disconnect(proxy, recording)
    for number in range(6):
        server.receive(instances[number % 2], f"missed {number}")
    proxy.is_refusing = False

    assert recording.reconnected()["recovered"] is True
    server.receive(instances[0], "live")
    received = recording.until("live")
    names = {instance.name for instance in instances}
    ours = [args for args in received if args[0]["instance"] in names]
    assert texts(ours) == ["first", *(f"missed {n}" for n in range(6)), "live"]
    for name in names:
        numbers = seqs([args for args in ours if args[0]["instance"] == name])
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    recording.client.disconnect()


def test_a_replay_that_is_interrupted_again_and_again_repeats_no_event(server, proxy, recording, instance):
    """5 MB are to be replayed, and the connection is reset after each 600 kB."""
    server.receive(instance, "first")
    recording.until("first")
    disconnect(proxy, recording)
    for number in range(100):
        server.receive(
            instance, f"missed {number}", padding="x", message={"conversation": f"{number}", "pad": "x" * 50_000}
        )
    proxy.reset_after = 600_000
    proxy.is_refusing = False
    while proxy.resets < 6:
        recording.client.wait_for("disconnect", keep=True)
    proxy.cut_after = None
    server.receive(instance, "live")

    received = recording.until("live", timeout=40)
    assert texts(received) == ["first", *map(str, range(100)), "live"]
    assert seqs(received) == list(range(2, 2 + len(received)))


def test_clients_without_recover_get_one_argument_and_no_recovery(server, node, proxy, instance):
    recording = Recording(node, f"{proxy.url}/{instance.name}", apikey=instance.token)
    server.receive(instance, "first")
    recording.until("first")
    disconnect(proxy, recording)
    server.receive(instance, "missed")
    proxy.is_refusing = False

    assert not recording.reconnected().get("recovered")
    server.receive(instance, "live")
    received = recording.until("live")
    assert texts(received) == ["first", "live"]
    assert all(len(args) == 1 for args in received)
    recording.client.disconnect()


def test_offsets_are_last_and_no_other_event_ends_in_a_string(server, recording, instance):
    recording.client.emit("send_message", {"message": 1})
    assert [type(arg) for arg in recording.client.wait_for("event", event="error")["args"]] == [dict]
    server.receive(instance, "first")

    offsets = [args for args in recording.until("first") if len(args) == 2]
    assert offsets
    assert all(offset == event["id"] for event, offset in offsets)


# Packets written by hand


@pytest.fixture
def raw(server):
    sessions = []

    def session():
        sessions.append(Raw(server.url))
        return sessions[-1]

    yield session
    for opened in sessions:
        opened.close()


def test_a_resumed_session_keeps_its_pid(server, raw, instance):
    namespace, auth = f"/{instance.name}", {"apikey": instance.token, "recover": True}
    _, connected = raw().join(namespace, auth)
    server.receive(instance, "missed")

    client = raw()
    assert client.join(namespace, auth | {"pid": connected["pid"]})[1]["pid"] == connected["pid"]
    name, event, offset = client.event()
    assert (name, event["seq"], offset) == ("messages.upsert", 2, event["id"])


INVALID = [None, "", "x", 0, 1, -1, True, [], {}, ["x"], "." * 1000, "a.1", "..", "\u0000", "9" * 400, 1e308]


@pytest.mark.parametrize("pid", INVALID, ids=repr)
def test_an_invalid_pid_starts_a_new_session(server, raw, instance, pid):
    server.receive(instance, "past")
    client = raw()
    kind, connected = client.join(f"/{instance.name}", {"apikey": instance.token, "recover": True, "pid": pid})

    assert kind == "0"
    assert connected["pid"] != pid
    server.receive(instance, "live")
    assert client.event()[1]["data"]["message"]["conversation"] == "live"


@pytest.mark.parametrize(
    "offset",
    [*[value for value in INVALID if value is not None], "{epoch}.99999", "{epoch}.-1", "{epoch}.", "{epoch}.1-2-3"],
    ids=repr,
)
def test_an_invalid_offset_starts_a_new_session(server, raw, instance, offset):
    namespace, auth = f"/{instance.name}", {"apikey": instance.token, "recover": True}
    client = raw()
    _, connected = client.join(namespace, auth)
    server.receive(instance, "past")
    epoch = client.event()[2].partition(".")[0]
    offset = offset.replace("{epoch}", epoch) if isinstance(offset, str) else offset

    client = raw()
    kind, again = client.join(namespace, auth | {"pid": connected["pid"], "offset": offset})
    assert kind == "0"
    assert again["pid"] != connected["pid"]


def test_a_session_of_another_instance_is_not_resumed(server, raw, instance):
    other = server.create()
    _, connected = raw().join(f"/{other.name}", {"apikey": other.token, "recover": True})

    _, mine = raw().join(f"/{instance.name}", {"apikey": instance.token, "recover": True, "pid": connected["pid"]})
    assert mine["pid"] != connected["pid"]


def test_a_pid_does_not_replace_a_key(server, raw, instance):
    namespace = f"/{instance.name}"
    _, connected = raw().join(namespace, {"apikey": instance.token, "recover": True})

    refused = {"message": "Unauthorized"}
    assert raw().join(namespace, {"apikey": "wrong", "recover": True, "pid": connected["pid"]}) == ("4", refused)
    assert raw().join(namespace, {"recover": True, "pid": connected["pid"]}) == ("4", refused)


def test_a_session_of_a_deleted_instance_is_not_resumed_at_one_of_the_same_name(server, raw):
    name = f"again-{secrets.token_hex(4)}"
    first = server.create(name, token="a-token-that-stays-the-same")
    auth = {"apikey": first.token, "recover": True}
    client = raw()
    _, connected = client.join(f"/{name}", auth)
    server.receive(first, "past")
    offset = client.event()[2]
    server.request("DELETE", server.path("/instance/delete", first))
    server.create(name, token="a-token-that-stays-the-same")

    _, again = raw().join(f"/{name}", auth | {"pid": connected["pid"], "offset": offset})
    assert again["pid"] != connected["pid"]


def test_since_replays_the_events_after_a_seq(server, raw, instance):
    for number in range(3):
        server.receive(instance, f"past {number}")
    client = raw()
    client.join(f"/{instance.name}", {"apikey": instance.token, "since": 2})

    server.receive(instance, "live")
    events = []
    while not events or events[-1]["seq"] < 16:
        events.append(client.event()[1])
    assert [event["seq"] for event in events] == list(range(3, 17))


@pytest.mark.slow
@pytest.mark.parametrize("namespace", ["instance", "/"])
def test_since_an_offset_from_before_what_is_kept_begins_with_the_oldest(fresh_server, namespace):
    server = fresh_server()
    instance = server.create()
    for text in ("first", "second"):
        server.receive(instance, text)
    namespace = "/" if namespace == "/" else f"/{instance.name}"
    before = Raw(server.url)
    before.join(namespace, {"apikey": GLOBAL_KEY, "recover": True})
    server.receive(instance, "third")
    _, first, offset = before.event()
    before.close()
    pruned = first["seq"] + 1
    prune(server, instance, upto=pruned)

    client = Raw(server.url)
    client.join(namespace, {"apikey": GLOBAL_KEY, "since": offset})
    event = client.event()[1]
    assert (event["seq"], event["prev"]) == (pruned + 1, pruned)
    client.close()


@pytest.mark.parametrize("names", [["CHATS_UPSERT"], ["chats.upsert"], ["chats.upsert", "CHATS_UPSERT"]], ids=repr)
def test_a_client_can_choose_event_types(server, raw, instance, names):
    server.receive(instance, "past")
    client = raw()
    client.join(f"/{instance.name}", {"apikey": instance.token, "events": names, "since": 0})
    server.receive(instance, "live")

    assert [client.event()[0] for _ in range(2)] == ["chats.upsert"] * 2


@pytest.mark.parametrize("names", [[], None], ids=repr)
def test_an_empty_list_of_event_types_is_no_filter_live_and_on_replay(server, raw, instance, names):
    server.receive(instance, "past")
    client = raw()
    client.join(f"/{instance.name}", {"apikey": instance.token, "events": names, "since": 1})
    replayed = [client.event()[0] for _ in range(3)]
    server.receive(instance, "live")

    assert replayed == ["messages.upsert", "contacts.upsert", "chats.upsert"]
    assert client.event()[0] == "messages.upsert"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["MESSAGE_UPSERT"], 'There is no event "MESSAGE_UPSERT"; the nearest are MESSAGES_UPSERT, '),
        (["call", "Messages.Upsert"], 'There is no event "Messages.Upsert"; the nearest are MESSAGES_UPSERT, '),
        (["nothing like it"], 'There is no event "nothing like it"; the events are APPLICATION_STARTUP, '),
        (["call", 5], "Events are listed by their names"),
        ("calls", 'There is no event "calls"; the nearest is CALL'),
        (["call"] * 1001, "Events are a list of names"),
        (["x" * 100_000], 'There is no event "' + "x" * 64 + '"; '),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_list_of_event_types_that_cannot_be_read_is_refused_with_the_nearest_names(
    server, raw, instance, names, text
):
    auth = {"apikey": instance.token, "events": names}
    kind, error = raw().join(f"/{instance.name}", auth)
    assert kind == "4"
    assert error["message"].startswith(f"auth.events: {text}")

    kind, error = raw().join(f"/{instance.name}", auth | {"apikey": "wrong"})
    assert (kind, error["message"]) == ("4", "Unauthorized")
