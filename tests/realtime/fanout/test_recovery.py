"""Resuming: what a client misses while it is away is told when it comes back, once and in order."""

from __future__ import annotations

import secrets

import pytest

from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.faults.proxy import Proxy


class Listening:
    """A stock client, and the events that it heard."""

    def __init__(self, node, url, **auth):
        self.client = node.connect(url, auth=auth, reconnectionDelay=50, reconnectionDelayMax=200).connected()

    def until(self, text, timeout=20):
        """All that it has heard, up to the message with that text."""
        while texts(self.heard())[-1:] != [text]:
            self.client.wait_for("event", timeout)
        return self.heard()

    def heard(self):
        return [line["args"] for line in self.client.seen if line["is"] == "event"]

    def back(self, timeout=20):
        """The next connect, after a cut."""
        return self.client.wait_for("connect", timeout)


def seqs(heard):
    return [args[0]["seq"] for args in heard]


def texts(heard):
    return [args[0]["data"]["message"]["conversation"] for args in heard if args[0].get("event") == "messages.upsert"]


@pytest.fixture
def instance(server):
    return server.create()


@pytest.fixture
def proxy(server):
    one = Proxy(server.port)
    yield one
    one.stop()


@pytest.fixture
def listening(node, proxy, instance):
    one = Listening(node, f"{proxy.url}/{instance.name}", apikey=instance.token, recover=True)
    yield one
    one.client.disconnect()


def cut(proxy, listening):
    proxy.is_refusing = True
    proxy.reset_all()
    listening.client.wait_for("disconnect")


def test_what_a_client_misses_is_told_when_it_comes_back(server, proxy, listening, instance):
    server.receive(instance, "first")
    listening.until("first")
    cut(proxy, listening)
    for number in range(5):
        server.receive(instance, f"missed {number}")
    proxy.is_refusing = False

    assert listening.back()["recovered"] is True
    server.receive(instance, "live")
    heard = listening.until("live")
    assert texts(heard) == ["first", *(f"missed {n}" for n in range(5)), "live"]
    assert seqs(heard) == list(range(2, 2 + len(heard)))


def test_a_session_is_resumed_before_its_first_event_and_again_and_again(server, proxy, listening, instance):
    sent = []
    for number in range(4):
        cut(proxy, listening)
        sent.append(f"missed {number}")
        server.receive(instance, sent[-1])
        proxy.is_refusing = False
        assert listening.back()["recovered"] is True
    server.receive(instance, "live")

    heard = listening.until("live")
    assert texts(heard) == [*sent, "live"]
    assert seqs(heard) == list(range(2, 2 + len(heard)))


def test_a_session_outlives_the_server_that_began_it(fresh_server, node):
    server = fresh_server()
    instance = server.create()
    listening = Listening(node, f"{server.url}/{instance.name}", apikey=instance.token, recover=True)
    server.receive(instance, "before")
    listening.until("before")

    for number in range(2):
        server.kill()
        listening.client.wait_for("disconnect")
        server.shell(
            "from django.test import Client\n"
            f"body = {{'numberId': {instance.number!r}, 'key': {{'remoteJid': '1@s.whatsapp.net'}}, "
            f"'message': {{'conversation': 'down {number}'}}}}\n"
            f"client = Client(SERVER_NAME='localhost', headers={{'apikey': {instance.token!r}}})\n"
            "response = client.post('/webhook/evolution', body, content_type='application/json')\n"
            "assert response.status_code == 200, response.content"
        )
        server.start()
        assert listening.back()["recovered"] is True
    server.receive(instance, "after")

    heard = listening.until("after")
    assert texts(heard) == ["before", "down 0", "down 1", "after"]
    assert seqs(heard) == list(range(2, 2 + len(heard)))
    listening.client.disconnect()


@pytest.mark.postgres
def test_a_session_is_resumed_at_another_process(server, start_server, proxy, listening, instance):
    other = start_server()
    for number in range(3):
        cut(proxy, listening)
        server.receive(instance, f"missed {number}")
        proxy.target = (other, server)[number % 2].port
        proxy.is_refusing = False
        assert listening.back()["recovered"] is True
    server.receive(instance, "live")

    heard = listening.until("live")
    assert texts(heard) == ["missed 0", "missed 1", "missed 2", "live"]


def test_the_root_is_resumed_too(server, node, proxy):
    instances = [server.create() for _ in range(2)]
    listening = Listening(node, f"{proxy.url}/", apikey=GLOBAL_KEY, recover=True)
    server.receive(instances[0], "first")
    listening.until("first")
    cut(proxy, listening)
    for number in range(6):
        server.receive(instances[number % 2], f"missed {number}")
    proxy.is_refusing = False

    assert listening.back()["recovered"] is True
    server.receive(instances[0], "live")
    heard = listening.until("live")
    ours = [args for args in heard if args[0]["instance"] in {one.name for one in instances}]
    assert texts(ours) == ["first", *(f"missed {n}" for n in range(6)), "live"]
    for one in instances:
        told = seqs([args for args in ours if args[0]["instance"] == one.name])
        assert told == list(range(told[0], told[0] + len(told)))
    listening.client.disconnect()


def test_a_replay_that_is_cut_again_and_again_tells_nothing_twice(server, proxy, listening, instance):
    """5 MB are owed, and the line is reset after each 600 kB."""
    server.receive(instance, "first")
    listening.until("first")
    cut(proxy, listening)
    for number in range(100):
        server.receive(
            instance, f"missed {number}", padding="x", message={"conversation": f"{number}", "pad": "x" * 50_000}
        )
    proxy.reset_after = 600_000
    proxy.is_refusing = False
    while proxy.resets < 6:
        listening.client.wait_for("disconnect", keep=True)
    proxy.reset_after = None
    server.receive(instance, "live")

    heard = listening.until("live", timeout=40)
    assert texts(heard) == ["first", *map(str, range(100)), "live"]
    assert seqs(heard) == list(range(2, 2 + len(heard)))


def test_clients_that_do_not_ask_for_it_get_one_argument_and_no_recovery(server, node, proxy, instance):
    listening = Listening(node, f"{proxy.url}/{instance.name}", apikey=instance.token)
    server.receive(instance, "first")
    listening.until("first")
    cut(proxy, listening)
    server.receive(instance, "missed")
    proxy.is_refusing = False

    assert not listening.back().get("recovered")
    server.receive(instance, "live")
    heard = listening.until("live")
    assert texts(heard) == ["first", "live"]
    assert all(len(args) == 1 for args in heard)
    listening.client.disconnect()


def test_offsets_come_last_and_are_all_that_ends_in_a_text(server, listening, instance):
    listening.client.emit("send_message", {"message": 1})
    assert [type(arg) for arg in listening.client.wait_for("event", event="error")["args"]] == [dict]
    server.receive(instance, "first")

    offsets = [args for args in listening.until("first") if len(args) == 2]
    assert offsets
    assert all(offset == event["id"] for event, offset in offsets)


# Spoken by hand


@pytest.fixture
def raw(server):
    sessions = []

    def session():
        sessions.append(Raw(server.url))
        return sessions[-1]

    yield session
    for one in sessions:
        one.close()


def test_a_pid_comes_back_unchanged_when_a_session_is_resumed(server, raw, instance):
    namespace, auth = f"/{instance.name}", {"apikey": instance.token, "recover": True}
    _, told = raw().join(namespace, auth)
    server.receive(instance, "missed")

    client = raw()
    assert client.join(namespace, auth | {"pid": told["pid"]})[1]["pid"] == told["pid"]
    name, event, offset = client.event()
    assert (name, event["seq"], offset) == ("messages.upsert", 2, event["id"])


ODD = [None, "", "x", 0, 1, -1, True, [], {}, ["x"], "." * 1000, "a.1", "..", "\u0000", "9" * 400, 1e308]


@pytest.mark.parametrize("pid", ODD, ids=repr)
def test_an_odd_pid_begins_a_fresh_session(server, raw, instance, pid):
    server.receive(instance, "past")
    client = raw()
    kind, told = client.join(f"/{instance.name}", {"apikey": instance.token, "recover": True, "pid": pid})

    assert kind == "0"
    assert told["pid"] != pid
    server.receive(instance, "live")
    assert client.event()[1]["data"]["message"]["conversation"] == "live"


@pytest.mark.parametrize(
    "offset",
    [*[odd for odd in ODD if odd is not None], "{epoch}.99999", "{epoch}.-1", "{epoch}.", "{epoch}.1-2-3"],
    ids=repr,
)
def test_an_odd_offset_begins_a_fresh_session(server, raw, instance, offset):
    namespace, auth = f"/{instance.name}", {"apikey": instance.token, "recover": True}
    client = raw()
    _, told = client.join(namespace, auth)
    server.receive(instance, "past")
    epoch = client.event()[2].partition(".")[0]
    offset = offset.replace("{epoch}", epoch) if isinstance(offset, str) else offset

    client = raw()
    kind, again = client.join(namespace, auth | {"pid": told["pid"], "offset": offset})
    assert kind == "0"
    assert again["pid"] != told["pid"]


def test_a_session_of_another_instance_is_not_resumed(server, raw, instance):
    other = server.create()
    _, told = raw().join(f"/{other.name}", {"apikey": other.token, "recover": True})

    _, mine = raw().join(f"/{instance.name}", {"apikey": instance.token, "recover": True, "pid": told["pid"]})
    assert mine["pid"] != told["pid"]


def test_a_session_does_not_stand_in_for_a_key(server, raw, instance):
    namespace = f"/{instance.name}"
    _, told = raw().join(namespace, {"apikey": instance.token, "recover": True})

    refused = {"message": "Unauthorized"}
    assert raw().join(namespace, {"apikey": "wrong", "recover": True, "pid": told["pid"]}) == ("4", refused)
    assert raw().join(namespace, {"recover": True, "pid": told["pid"]}) == ("4", refused)


def test_a_session_of_a_namesake_that_is_gone_is_not_resumed(server, raw):
    name = f"again-{secrets.token_hex(4)}"
    first = server.create(name, token="a-token-that-stays-the-same")
    auth = {"apikey": first.token, "recover": True}
    client = raw()
    _, told = client.join(f"/{name}", auth)
    server.receive(first, "past")
    offset = client.event()[2]
    server.request("DELETE", server.path("/instance/delete", first))
    server.create(name, token="a-token-that-stays-the-same")

    _, again = raw().join(f"/{name}", auth | {"pid": told["pid"], "offset": offset})
    assert again["pid"] != told["pid"]


def test_since_tells_what_came_after_a_seq(server, raw, instance):
    for number in range(3):
        server.receive(instance, f"past {number}")
    client = raw()
    client.join(f"/{instance.name}", {"apikey": instance.token, "since": 2})

    server.receive(instance, "live")
    heard = []
    while not heard or heard[-1]["seq"] < 16:
        heard.append(client.event()[1])
    assert [event["seq"] for event in heard] == list(range(3, 17))


@pytest.mark.parametrize("since", [-1, 10**30, 99999, "x", True, None, [], {}, 1.5], ids=repr)
def test_an_odd_since_begins_now(server, raw, instance, since):
    server.receive(instance, "past")
    client = raw()
    kind, _ = client.join(f"/{instance.name}", {"apikey": instance.token, "since": since})

    assert kind == "0"
    server.receive(instance, "live")
    assert client.event()[1]["data"]["message"]["conversation"] == "live"


@pytest.mark.parametrize("names", [["CHATS_UPSERT"], ["chats.upsert"], ["chats.upsert", "NOTHING", 5, None]], ids=repr)
def test_a_connection_can_narrow_what_it_hears(server, raw, instance, names):
    server.receive(instance, "past")
    client = raw()
    client.join(f"/{instance.name}", {"apikey": instance.token, "events": names, "since": 0})
    server.receive(instance, "live")

    assert [client.event()[0] for _ in range(2)] == ["chats.upsert"] * 2
