"""A client that loses access is disconnected within two seconds, in every process, and receives no more events."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from instances.access.gate import Caller
from instances.events import EventType
from instances.models import AccessRevision, ApiKey, Instance
from realtime.database import Pool
from realtime.fanout.authorization import Credentials, Membership
from realtime.fanout.feeds import Listener
from realtime.fanout.namespaces import Member
from realtime.fanout.recovery import ResumeRequest
from realtime.log.models import Event
from realtime.socketio.handshake import Client
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.in_process import InProcessServer, until

#: Seconds to wait for a disconnect: 2 s are documented, and the rest is for a busy machine.
SOON = 8


@pytest.fixture
def instance(server):
    return server.create()


def new_key(server, **fields):
    """Create an API key of one instance in another process."""
    code = (
        "from instances.models import ApiKey, Instance\n"
        f"key, secret = ApiKey.objects.issue('test', ['listen'], expires_at={fields.get('expires_at')})\n"
        f"key.instances.set(Instance.objects.filter(name={fields['name']!r}))\n"
        "print(key.pk, secret)"
    )
    pk, secret = server.shell(code).split()
    return int(pk), secret


def change_key(server, pk, code):
    """Run code on the key `key` in another process."""
    server.shell(f"from instances.models import ApiKey, Instance\nkey = ApiKey.objects.get(pk={pk})\n{code}")


@pytest.mark.parametrize(
    "code",
    ["key.revoke()", "key.delete()", "key.instances.clear()", "key.scopes = ['read']; key.save()"],
)
def test_a_key_that_loses_access_in_another_process_ends_its_sockets(server, node, instance, code):
    pk, secret = new_key(server, name=instance.name)
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": secret}).connected()
    other = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    change_key(server, pk, code)

    disconnect = client.wait_for("disconnect", SOON)
    assert (disconnect["reason"], disconnect["active"]) == ("io server disconnect", False)
    server.receive(instance, "after")
    assert other.event("messages.upsert")["data"]["message"] == {"conversation": "after"}
    assert [line for line in client.quiet() if line["is"] == "event"] == []
    other.disconnect()


@pytest.mark.slow
def test_a_key_ends_its_sockets_when_it_expires(server, node, instance):
    in_four_seconds = (
        "__import__('django.utils.timezone').utils.timezone.now() + __import__('datetime').timedelta(seconds=4)"
    )
    _, secret = new_key(server, name=instance.name, expires_at=in_four_seconds)
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": secret}).connected()

    assert client.wait_for("disconnect", 4 + SOON)["active"] is False


def test_a_rotated_token_ends_the_sockets_of_the_former_one(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    with_global_key = node.connect(f"{server.url}/{instance.name}", auth={"apikey": GLOBAL_KEY}).connected()

    token = server.post(server.path("/instance/rotateToken", instance), {}).json["hash"]

    assert client.wait_for("disconnect", SOON)["active"] is False
    again = node.connect(f"{server.url}/{instance.name}", auth={"apikey": token}).connected()
    server.receive(instance, key=None)
    assert server.post("/webhook/evolution", {"numberId": instance.number}, key=instance.token).status == 401
    for socket in (again, with_global_key):
        socket.disconnect()


def test_renaming_an_instance_disconnects_its_listeners(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.shell(
        "from instances.models import Instance\n"
        f"instance = Instance.objects.get(name={instance.name!r})\ninstance.name += '-new'; instance.save()"
    )

    assert client.wait_for("disconnect", SOON)["active"] is False
    node.connect(f"{server.url}/{instance.name}-new", auth={"apikey": instance.token}).connected().disconnect()


def test_a_socket_leaves_only_the_namespace_that_it_lost(server, node, instance):
    pk, secret = new_key(server, name=instance.name)
    other = server.create()
    first = node.connect(f"{server.url}/{other.name}", auth={"apikey": other.token}).connected()
    second = node.connect(f"/{instance.name}", over=first, auth={"apikey": secret}).connected()

    change_key(server, pk, "key.revoke()")

    assert second.wait_for("disconnect", SOON)["active"] is False
    server.receive(other, "still here")
    assert first.event("messages.upsert")["data"]["message"] == {"conversation": "still here"}
    assert not [line for line in first.seen if line["is"] == "disconnect"]
    first.disconnect()


def test_a_page_with_a_minted_token_stays_until_the_minting_key_is_revoked(server, node, instance):
    pk, secret = new_key(server, name=instance.name)
    minted = server.post(server.path("/websocket/token", instance), {"expiresIn": 1}, key=secret)
    assert minted.status == 201, minted.body
    page = node.connect(f"{server.url}/{instance.name}", auth={"token": minted.json["token"]}).connected()
    late = node.connect(f"{server.url}/{instance.name}", auth={"token": minted.json["token"]})
    until(lambda: Raw(server.url).join(f"/{instance.name}", {"token": minted.json["token"]})[0] == "4", SOON)
    server.receive(instance, "still here")
    assert page.event("messages.upsert")["data"]["message"] == {"conversation": "still here"}

    change_key(server, pk, "key.revoke()")

    assert page.wait_for("disconnect", SOON)["active"] is False
    late.disconnect()


@pytest.mark.postgres
def test_a_token_that_one_process_rotates_ends_the_sockets_of_another(server, start_server, node, instance):
    other = start_server()
    client = node.connect(f"{other.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    server.post(server.path("/instance/rotateToken", instance), {})

    assert client.wait_for("disconnect", SOON)["active"] is False


# Races, with a server in this process


@pytest.fixture
def inside(transactional_db):
    with InProcessServer() as running:
        yield running


@pytest.fixture
def loja(transactional_db):
    return Instance.objects.create(name="loja")


@pytest.fixture
def key(loja):
    key, secret = ApiKey.objects.issue("test", ["listen"])
    key.instances.add(loja)
    key.secret = secret
    return key


def test_a_key_revoked_while_its_client_joins_gets_no_events(inside, node, loja, key):
    with inside.busy(Pool.READS):  # authorized, but not sent any event yet
        client = node.connect(f"{inside.url}/loja", auth={"apikey": key.secret}).connected()
        key.revoke()
        assert client.wait_for("disconnect", SOON)["active"] is False
    Event.objects.record(loja, EventType.CALL, {})

    assert client.quiet() == []
    until(lambda: inside.is_clean)


def test_a_key_revoked_between_authorization_and_membership_is_noticed(inside, loja, key):
    """The client is authorized, its key revoked and all members rechecked; only then it becomes a member."""
    namespaces = inside.application.namespaces
    membership = Membership.authorize(
        "/loja", Credentials((key.secret,), (), Caller("127.0.0.1", "127.0.0.1", may_be_keyless=True)), ResumeRequest()
    )
    key.revoke()
    until(lambda: namespaces.revision == AccessRevision.current())
    disconnected = threading.Event()
    listener = Listener("a client", "/loja", loja.pk, membership.start.position)

    inside.loop.call_soon_threadsafe(
        namespaces.add, Member(membership, listener, Client("", ""), disconnect=disconnected.set)
    )

    assert disconnected.wait(SOON)


def test_a_client_that_is_still_being_authorized_gets_no_events(inside, node, loja, key):
    """Its socket is in the namespace already, and in none of the rooms that events are sent to."""
    listening = node.connect(f"{inside.url}/loja", auth={"apikey": key.secret}).connected()
    until(lambda: any(feed.rooms for feed in inside.application.relay.feeds.values()))
    joining = Raw(inside.url)
    with ThreadPoolExecutor(1) as pool:
        with inside.busy(Pool.JOINS):
            response = pool.submit(joining.join, "/loja", {"apikey": "wrong"})
            until(lambda: len(inside.application.server.manager.rooms["/loja"][None]) == 2)
            Event.objects.record(loja, EventType.CALL, {})
            assert listening.event("call")["seq"] == 2
        assert response.result(10)[0] == "4", "CONNECT_ERROR is the first packet that it receives"
    joining.close()
    listening.disconnect()
