"""The clients that are connected to a process: who they are, what they were sent and are owed, and the end of one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from instances.events import EventType
from instances.models import Instance
from realtime.fanout import connected
from realtime.fanout.connected import ClientPage, Connected, NotServing, Selection, listeners_by_instance
from realtime.log.models import Event
from tests.clients.raw import Raw
from tests.faults.stuck import StuckReader
from tests.in_process import InProcessServer, until
from tests.realtime.fanout.test_sse import Stream

pytestmark = pytest.mark.any_database

TOKEN = "token-of-the-test"
PADDING = "x" * 50_000


@pytest.fixture
def inside(transactional_db):
    with InProcessServer() as running:
        yield running


def create(name, token=TOKEN):
    instance = Instance(name=name)
    instance.give_token(token)
    instance.save()
    return instance


@pytest.fixture
def loja(transactional_db):
    return create("loja")


def clients(**selection) -> ClientPage:
    return Connected.here().page(Selection(**selection), 0, 100)


def record(instance, count, padding=""):
    for number in range(count):
        Event.objects.record(instance, EventType.CALL, {"number": number, "padding": padding})


@pytest.mark.bound("LIMIT_USER_AGENT_CHARACTERS")
def test_a_socket_is_described_with_its_client_key_time_and_events(inside, node, loja):
    before = timezone.now()
    agent = {"User-Agent": "shop/1.0 " + "y" * 500}
    socket = node.connect(f"{inside.url}/loja", auth={"apikey": TOKEN}, extraHeaders=agent).connected()
    until(lambda: inside.application.relay.feeds[loja.pk].rooms)

    record(loja, 3)
    for _ in range(3):
        socket.event("call")

    [client], total = clients()
    assert (total, client.namespace, client.instance_id, client.address) == (1, "/loja", loja.pk, "127.0.0.1")
    assert client.user_agent.startswith("shop/1.0 yyy")
    assert len(client.user_agent) == 160
    assert client.transport == "websocket"
    assert client.key == "the instance's own token"
    assert before - timedelta(seconds=1) <= client.since <= timezone.now()
    assert (client.sent, client.owed_packets, client.owed_bytes, client.is_behind) == (3, 0, 0, False)


def test_events_that_are_replayed_count_as_sent_and_those_to_come_as_behind(inside, loja):
    record(loja, 2)
    stream = Stream(inside, "loja", "?since=1", apikey=TOKEN)
    resumed = Raw(inside.url, user_agent_header="resumed")
    resumed.join("/loja", {"apikey": TOKEN, "since": 1})
    for _ in range(2):
        stream.event()
        resumed.event()
    record(loja, 1)
    stream.event()
    resumed.event()

    found = {client.transport: client for client in clients().clients}
    assert (found["event stream"].sent, found["event stream"].is_behind) == (3, False)
    assert (found["websocket"].sent, found["websocket"].user_agent) == (3, "resumed")
    assert listeners_by_instance([loja.pk]) == {loja.pk: 2}
    stream.close()
    resumed.close()
    until(lambda: listeners_by_instance([loja.pk]) == {loja.pk: 0})


def test_a_client_that_reads_nothing_is_owed_and_dropped_events_do_not_count_as_sent(inside, loja):
    reader = StuckReader(inside.port)
    reader.join("/loja", apikey=TOKEN)
    until(lambda: inside.application.relay.feeds and inside.application.relay.feeds[loja.pk].rooms)

    for _ in range(4):
        record(loja, 40, PADDING)
    until(lambda: clients(only_behind=True).total)

    [client] = clients(only_behind=True).clients
    assert client.owed_bytes > 10_000
    assert client.is_behind
    assert 0 < client.behind <= 160
    assert client.sent + client.behind == 160
    for _ in range(160):
        reader.event()
    until(lambda: not clients(only_behind=True).total)
    assert clients().clients[0].sent == 160
    reader.close()


def test_clients_are_selected_by_instance_and_by_any_part_and_counted_page_by_page(inside, loja):
    other = create("other shop", "another-token-of-the-test")
    sockets = [Raw(inside.url, user_agent_header=f"agent-{number}") for number in range(5)]
    for number, socket in enumerate(sockets):
        socket.join(*(("/loja", {"apikey": TOKEN}) if number else ("/other shop", {"apikey": other.token.reveal()})))
    until(lambda: listeners_by_instance([loja.pk, other.pk]) == {loja.pk: 4, other.pk: 1})

    assert [client.user_agent for client in clients().clients] == [f"agent-{number}" for number in (4, 3, 2, 1, 0)]
    of_loja = Selection(instance_ids=frozenset({loja.pk}))
    page = Connected.here().page(of_loja, 1, 2)
    assert ([client.user_agent for client in page.clients], page.total) == (["agent-3", "agent-2"], 4)
    assert clients(text="AGENT-0").clients[0].namespace == "/other shop"
    assert clients(text="other shop", instance_ids=frozenset({loja.pk})).total == 0
    for socket in sockets:
        socket.close()


def test_a_client_that_is_cut_sees_a_disconnect_by_the_server_and_others_stay(inside, node, loja):
    first = node.connect(f"{inside.url}/loja", auth={"apikey": TOKEN}, extraHeaders={"User-Agent": "first"}).connected()
    second = node.connect(f"{inside.url}/loja", auth={"apikey": TOKEN}).connected()
    [client] = clients(text="first").clients

    assert Connected.here().cut(client.sid, frozenset()) is None, "it is of no instance that the caller may see"
    assert Connected.here().cut("no such sid", None) is None
    assert Connected.here().cut(client.sid, frozenset({loja.pk})).user_agent == "first"

    assert first.wait_for("disconnect")["reason"] == "io server disconnect"
    assert clients().total == 1
    record(loja, 1)
    assert second.event("call")["data"]["number"] == 0


def test_all_clients_of_an_instance_are_cut_at_once(inside, loja):
    stream = Stream(inside, "loja", apikey=TOKEN)
    socket = Raw(inside.url)
    socket.join("/loja", {"apikey": TOKEN})
    until(lambda: clients().total == 2)

    assert Connected.here().cut_all(Selection(instance_ids=frozenset({loja.pk}))) == 2

    assert stream.response.read().endswith(b"\n\n")
    until(lambda: clients().total == 0)
    stream.close()
    socket.close()


def test_a_process_without_sockets_says_so_and_one_that_does_not_answer_too(inside, loja, monkeypatch):
    monkeypatch.setattr(connected, "DEADLINE", 0.01)
    server = Connected.here()
    inside.loop.call_soon_threadsafe(lambda: __import__("time").sleep(0.2))
    with pytest.raises(NotServing, match="did not answer within"):
        server.page(Selection(), 0, 10)
    server.stop()
    with pytest.raises(NotServing, match="serves no sockets"):
        Connected.here()
