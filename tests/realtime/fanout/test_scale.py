"""The cost of an event, a join and a leave does not grow with the number of other clients; it is counted in calls."""

from __future__ import annotations

import cProfile
import uuid

import pytest
import socketio
from django.utils import timezone

from instances.access.gate import Caller
from realtime.fanout.feeds import Audience, InstanceFeed, Listener
from realtime.fanout.relay import Relay
from realtime.log.models import Event
from realtime.socketio.engine_socket import EngineSocket
from realtime.socketio.handshake import Handshake
from realtime.socketio.server import Server

pytestmark = pytest.mark.any_database


class OpenNamespaces(socketio.AsyncNamespace):
    """A handler that admits every client."""

    def __init__(self):
        super().__init__("*")

    async def on_connect(self, namespace, sid, environ, auth=None):
        pass

    async def on_joined(self, namespace, sid):
        pass

    async def on_disconnect(self, namespace, sid, reason):
        pass


class RecordingTransport:
    """A transport that can always be written to, and keeps the bytes."""

    is_paused = False

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data

    def limit_messages(self, size, holder):
        pass


class Clients:
    """A server, and clients of it without a network."""

    def __init__(self):
        self.server = Server()
        self.server.register_namespace(OpenNamespaces())
        self.relay = Relay(self.server)
        self.ids = {}

    async def join(self, name, namespace):
        session = self.server.eio.sockets[name] = EngineSocket(self.server.eio, name)
        session.transport, session.is_writable = RecordingTransport(), True
        await self.server.eio.handlers["connect"](
            name, Handshake((), Caller("127.0.0.1", "127.0.0.1", may_be_keyless=True))
        )
        await self.server.eio.handlers["message"](name, f"0{namespace},")
        feed = self.feed(namespace)
        sid = self.server.manager.sid_from_eio_sid(name, namespace)
        listener = Listener(sid, namespace, feed.instance_id, 0, Audience())
        await self.relay.follow(listener)
        return listener

    def feed(self, namespace):
        instance_id = self.ids.setdefault(namespace, uuid.uuid4())
        if instance_id not in self.relay.feeds:
            feed = self.relay.feeds[instance_id] = InstanceFeed(instance_id, namespace)
            feed.position = feed.target = 0
        return self.relay.feeds[instance_id]

    async def leave(self, listener):
        self.relay.remove_listener(listener)
        eio_sid = self.server.manager.eio_sid_from_sid(listener.sid, listener.namespace)
        await self.server.eio.sockets[eio_sid].close()

    def emit(self, namespace):
        feed = self.feed(namespace)
        number = {"instance_id": feed.instance_id, "seq": feed.position + 1, "created_at": timezone.now()}
        event = Event(**number, type="call", envelope=b"{}", is_heard=True)
        self.relay.on_hint([event])
        self.server.eio.outbox.flush()


def counted(profile):
    """Count the calls of Python functions outside asyncio, whose heap of timers grows with the number of clients."""
    stats = [entry for entry in profile.getstats() if not isinstance(entry.code, str)]
    return sum(entry.callcount for entry in stats if "/asyncio/" not in entry.code.co_filename)


async def cost_among(others, namespaces):
    """Count the calls for one more client that joins, gets an event and leaves."""
    clients = Clients()
    for number in range(others):
        await clients.join(f"client {number}", f"/{number % namespaces}")
    for name in ("warm", "measured"):
        profile = cProfile.Profile()
        profile.enable()
        listener = await clients.join(name, "/mine")
        clients.emit("/mine")
        written = clients.server.eio.sockets[name].transport.data
        await clients.leave(listener)
        profile.disable()
        assert written.count(b'42/mine,["call",{}]') == 1
    return counted(profile)


@pytest.mark.parametrize("namespaces", [1, 1000])
async def test_a_client_costs_the_same_however_many_others_there_are(namespaces):
    assert await cost_among(1000, namespaces) == await cost_among(10, min(namespaces, 10))


async def cost_of_leaving(count):
    """Count the calls per client for `count` clients that leave a namespace one after the other."""
    clients = Clients()
    listeners = [await clients.join(f"client {number}", "/mine") for number in range(count)]
    profile = cProfile.Profile()
    profile.enable()
    for listener in listeners:
        await clients.leave(listener)
    profile.disable()
    assert not clients.server.rooms
    assert not clients.server.manager.rooms
    return counted(profile) / count


async def test_a_client_that_leaves_costs_the_same_among_thousands_and_a_few():
    assert round(await cost_of_leaving(2000)) == round(await cost_of_leaving(50))
