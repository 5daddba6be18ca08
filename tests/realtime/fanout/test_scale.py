"""What an event, a join and a leave cost does not grow with how much else there is: counted in calls, not in time."""

from __future__ import annotations

import cProfile
import uuid

import pytest
import socketio

from realtime.fanout.feeds import Audience, InstanceFeed, Listener
from realtime.fanout.relay import Relay
from realtime.log.models import Event
from realtime.socketio.engine_socket import EngineSocket
from realtime.socketio.server import Server

pytestmark = pytest.mark.any_database


class Doorman(socketio.AsyncNamespace):
    """Lets everybody in."""

    def __init__(self):
        super().__init__("*")

    async def on_connect(self, namespace, sid, environ, auth=None):
        pass

    async def on_joined(self, namespace, sid):
        pass

    async def on_disconnect(self, namespace, sid, reason):
        pass


class Written:
    """Takes the place of a transport that can always be written to."""

    is_paused = False

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data


class Crowd:
    """A server with clients that are on no network."""

    def __init__(self):
        self.server = Server()
        self.server.register_namespace(Doorman())
        self.relay = Relay(self.server)
        self.ids = {}

    async def join(self, name, namespace):
        session = self.server.eio.sockets[name] = EngineSocket(self.server.eio, name)
        session.transport, session.is_writable = Written(), True
        await self.server._handle_eio_connect(name, {"asgi.scope": {"headers": []}})
        await self.server._handle_connect(name, namespace, None)
        feed = self.feed(namespace)
        sid = self.server.manager.sid_from_eio_sid(name, namespace)
        listener = Listener(sid, namespace, feed.instance_id, 0, Audience())
        feed.listeners[sid] = listener
        self.relay._make_live(feed, listener)
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

    def tell(self, namespace):
        feed = self.feed(namespace)
        event = Event(instance_id=feed.instance_id, seq=feed.position + 1, type="call", envelope=b"{}", is_heard=True)
        self.relay.on_hint([event])
        self.server.eio.outbox.flush()


def counted(profile):
    """Calls of our own functions and of the libraries below them; asyncio's heap of timers is not ours."""
    stats = [entry for entry in profile.getstats() if not isinstance(entry.code, str)]
    return sum(entry.callcount for entry in stats if "/asyncio/" not in entry.code.co_filename)


async def cost_among(others, namespaces):
    """Calls for one more client's joining, an event for it, and its leaving."""
    crowd = Crowd()
    for number in range(others):
        await crowd.join(f"client {number}", f"/{number % namespaces}")
    for name in ("warm", "measured"):
        profile = cProfile.Profile()
        profile.enable()
        listener = await crowd.join(name, "/mine")
        crowd.tell("/mine")
        written = crowd.server.eio.sockets[name].transport.data
        await crowd.leave(listener)
        profile.disable()
        assert written.count(b'42/mine,["call",{}]') == 1
    return counted(profile)


@pytest.mark.parametrize("namespaces", [1, 1000])
async def test_a_client_costs_the_same_however_many_others_there_are(namespaces):
    assert await cost_among(1000, namespaces) == await cost_among(10, min(namespaces, 10))


async def cost_of_leaving(count):
    """Calls for each of so many clients of one namespace, who leave one after the other."""
    crowd = Crowd()
    listeners = [await crowd.join(f"client {number}", "/mine") for number in range(count)]
    profile = cProfile.Profile()
    profile.enable()
    for listener in listeners:
        await crowd.leave(listener)
    profile.disable()
    assert not crowd.server.rooms
    assert not crowd.server.manager.rooms
    return counted(profile) / count


async def test_thousands_who_leave_cost_as_much_each_as_a_few():
    assert round(await cost_of_leaving(2000)) == round(await cost_of_leaving(50))
