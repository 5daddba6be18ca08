"""The Socket.IO server: python-socketio's, with what it leaves open closed.

Touches python-socketio 5.18 and python-engineio 4.15 below their public surface (methods named `_handle_…`, the class
of a session's socket); requirements.in pins both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
import socketio
from django.conf import settings
from engineio import exceptions as engineio_exceptions
from engineio import packet as engineio_packet
from engineio.async_socket import AsyncSocket
from engineio.payload import Payload
from rest_framework.exceptions import APIException
from socketio import packet

from instances import bodies, errors
from realtime.models import Cursor, Event
from realtime.protocol import EXTENSION, Link

if TYPE_CHECKING:
    from realtime.relay import Listener

logger = logging.getLogger(__name__)

#: Packets in one answer to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Bytes from where on nothing more is taken at once: who takes that much within STUCK_TIMEOUT is slow, not stuck.
MAX_POLLED_BYTES = 64 * 1024

#: Seconds after which a websocket that took nothing of what it is owed is reset.
STUCK_TIMEOUT = 30

#: Seconds that a websocket whose session has ended may take to send what it holds.
CLOSE_TIMEOUT = 5

#: Bytes in a session's queue from where on a replay waits.
HIGH_WATER = 256 * 1024

#: Seconds that a client may take to join its first namespace.
CONNECT_TIMEOUT = 45

#: Seconds that a client may take from opening a websocket beside its polling to moving over.
UPGRADE_TIMEOUT = 10

#: Namespaces that one connection may be in.
MAX_NAMESPACES = 1000

#: Pieces of binary data that a packet may have; the server has no use for any.
MAX_ATTACHMENTS = 10

#: Names that Socket.IO's own protocol uses: no client may send them as events.
RESERVED_EVENTS = {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
#: What the server itself tells the namespaces' handler, besides `connect` and `disconnect`.
JOINED = "joined"


class Json:
    """orjson in the shape of the standard module; it also passes on bytes that are JSON already (`orjson.Fragment`)."""

    @staticmethod
    def dumps(value: Any, **kwargs: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes) -> Any:
        return bodies.load(text.encode() if isinstance(text, str) else text)


class LoggedPacket(engineio_packet.Packet):
    """An event of the log on its way: what is dropped of these is read again."""

    def __init__(self, namespace: str, before: Any, data: str) -> None:
        super().__init__(engineio_packet.MESSAGE, data)
        self.namespace = namespace
        #: The place in the log after which it comes.
        self.before = before
        self.size = len(data)


class EngineSocket(AsyncSocket):
    """A session. None in its queue ends it so that the client comes back by itself: after what is owed to it, and
    without Engine.IO's CLOSE, which it would obey."""

    #: Whether somebody waits for packets: a websocket that can be written to, or a poll.
    is_taking = False
    #: Bytes of logged events that came while nobody did.
    owed = 0
    #: Bytes of logged events in the queue.
    queued = 0
    #: Set while somebody waits and the queue is empty.
    idle: asyncio.Event
    #: Where the server lends it: the transport of a websocket.
    link: Link | None = None
    _giving_up: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Called once, in place of a constructor: the class is set on a session that exists."""
        self.idle = asyncio.Event()

    async def poll(self) -> list[Any]:
        """Wait for packets and take those that fit into one answer; empty once the session is to end."""
        timeout = self.server.ping_interval + self.server.ping_timeout
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None
        if self.queue.empty():
            self.is_taking, self.owed = True, 0
            self.idle.set()
        try:
            packets = [await asyncio.wait_for(self.queue.get(), timeout)]
        except (TimeoutError, asyncio.CancelledError):
            raise engineio_exceptions.QueueEmpty from None
        finally:
            self.is_taking = False
        size = 0
        while packets[-1] is not None and len(packets) < MAX_POLLED_PACKETS and not self.queue.empty():
            size += len(packets[-1].data or "")
            if size > MAX_POLLED_BYTES:
                break
            packets.append(self.queue.get_nowait())
        self.queued -= sum(packet.size for packet in packets if isinstance(packet, LoggedPacket))
        for _ in packets:
            self.queue.task_done()
        if packets[-1] is None and len(packets) > 1:
            self.queue.put_nowait(None)  # what is owed first; the next poll ends the session
        elif packets[-1] is None and not self.upgraded:
            await self.close(abort=True)
        return [one for one in packets if one is not None]

    def push(self, packet: Any) -> None:
        """Queue a packet without waiting; logged events are counted while nobody takes any."""
        if self.closed or self.closing:
            return
        if isinstance(packet, LoggedPacket):
            self.queued += packet.size
            self.owed += 0 if self.is_taking else packet.size
        self.idle.clear()
        self.queue.put_nowait(packet)
        if not self.is_taking and self.link and not self._giving_up:
            self._giving_up = asyncio.get_running_loop().call_later(STUCK_TIMEOUT, self.link.reset)

    async def drained(self) -> None:
        """Wait while there is much in the queue, or something that nobody takes."""
        while not self.closed and (self.queued > HIGH_WATER or not (self.is_taking or self.queue.empty())):
            self.idle.clear()  # it may be set still: what is no event of the log is queued past `push`
            await self.idle.wait()

    def drop_logged(self, namespace: str | None = None) -> dict[str, Any]:
        """Forget the events that are owed, of one namespace or all. Returns the place after which each one's came."""
        before: dict[str, Any] = {}
        for _ in range(self.queue.qsize()):
            packet = self.queue.get_nowait()
            if isinstance(packet, LoggedPacket) and namespace in (None, packet.namespace):
                before.setdefault(packet.namespace, packet.before)
                self.queued -= packet.size
            else:
                self.queue.put_nowait(packet)
        self.owed = min(self.owed, self.queued)
        return before

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Nothing will come any more: a poll that waits and a websocket's writer end. Nobody waits for them."""
        if not self.closed and not self.closing:
            await super().close(wait=False, abort=abort, reason=reason)
            self.queue.put_nowait(None)
            self.idle.set()  # nobody is to wait for it any more
            if self.link and not self.is_taking:
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.link.reset)

    async def receive(self, pkt: Any) -> None:
        try:
            await super().receive(pkt)
        except IndexError:  # there is no such type of packet
            raise engineio_exceptions.UnknownPacketError from None

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """A client that hangs up while it polls ends the session, as it does with the JavaScript server."""
        if environ["asgi.scope"]["type"] == "websocket":
            self.link = environ["asgi.scope"].get("extensions", {}).get(EXTENSION)
            return await super().handle_get_request(environ)
        answering = asyncio.ensure_future(super().handle_get_request(environ))
        leaving = asyncio.ensure_future(environ["asgi.receive"]())
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and leaving.result()["type"] == "http.disconnect":
            await self.close(abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
        leaving.cancel()
        return await answering

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """A body that holds anything but packets ends the session."""
        try:
            await super().handle_post_request(environ)
        except (engineio_exceptions.EngineIOError, ValueError, LookupError):
            await self.close(abort=True, reason=self.server.reason.TRANSPORT_ERROR)
            raise engineio_exceptions.UnknownPacketError from None

    async def _websocket_handler(self, ws: Any) -> None:
        """An upgrade that fails leaves the session to its polling; a frame that is no packet ends it."""
        giving_up = asyncio.get_running_loop().call_later(UPGRADE_TIMEOUT, self._give_up_upgrade, ws)
        try:
            await super()._websocket_handler(ws)
        except ValueError:
            if self.upgraded:
                await self.close(abort=True, reason=self.server.reason.TRANSPORT_ERROR)
            await ws.close()
        finally:
            giving_up.cancel()
            self.upgrading = False

    def _give_up_upgrade(self, ws: Any) -> None:
        if self.upgrading:
            self.server.start_background_task(ws.close)


class TryLater(Exception):
    """Raised by a connect handler that can neither let a client in nor refuse it for good."""


class Manager(socketio.AsyncManager):
    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """socketio looks for the client in all rooms; here it is in no other than these, the relay's it has left."""
        for room in (sid, None):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)
                if not pending[namespace]:
                    del pending[namespace]


class Server(socketio.AsyncServer):
    def __init__(self) -> None:
        # at INFO these two print every packet, with the keys in it
        loggers = {name: logging.getLogger(f"{name}.server") for name in ("socketio", "engineio")}
        for quiet in loggers.values():
            quiet.setLevel(logging.ERROR)
        super().__init__(
            async_mode="asgi",
            client_manager=Manager(),
            json=Json,
            logger=loggers["socketio"],
            engineio_logger=loggers["engineio"],
            cors_allowed_origins="*" if settings.CORS_ALLOW_ALL_ORIGINS else _is_allowed_origin,
            cors_credentials=False,
            namespaces="*",
        )
        # a client posts all that it has to say at once; the size of a body limits how much that is
        Payload.max_decode_packets = self.eio.max_http_buffer_size
        #: Told the (namespace, sid, place) of those whose events were dropped.
        self.on_set_back: Callable[[list[tuple[str, str, Any]]], None] = lambda behind: None
        #: What CONNECT tells a client besides its sid, by sid.
        self.connect_data: dict[str, dict[str, Any]] = {}
        self._complained_at = 0.0
        #: The namespaces that each Engine.IO session has joined.
        self.joined: defaultdict[str, set[str]] = defaultdict(set)

    # Sending

    def tell(self, namespace: str, room: str, event: Event, place: Any, offset: str | None) -> None:
        """Send a logged event to a room (or to one sid) of this process, as one packet for all."""
        recipients = self.manager.rooms.get(namespace, {}).get(room)
        if not recipients:
            return
        name = orjson.dumps(event.type).decode()
        at = "" if namespace == "/" else f"{namespace},"
        last = "" if offset is None else f',"{offset}"'
        packet = LoggedPacket(namespace, before(place), f"2{at}[{name},{bytes(event.envelope).decode()}{last}]")
        for eio_sid in list(recipients.values()):
            socket = self.eio.sockets.get(eio_sid)
            if socket is not None:
                self._push(socket, packet)

    def _push(self, socket: EngineSocket, packet: LoggedPacket) -> None:
        socket.push(packet)
        # one event is always allowed, however long it is
        if socket.owed > packet.size and socket.owed > settings.WEBSOCKET_MAX_BUFFER:
            self.set_back(socket)

    def set_back(self, socket: EngineSocket) -> None:
        """A slow reader costs only itself: what it is owed is dropped, and told again once it takes packets."""
        behind = []
        for namespace, place in socket.drop_logged().items():
            sid = self.manager.sid_from_eio_sid(socket.sid, namespace)
            if sid is not None:
                behind.append((namespace, sid, place))
        self.on_set_back(behind)

    async def drained(self, listener: Listener) -> None:
        eio_sid = self.manager.eio_sid_from_sid(listener.sid, listener.namespace)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None:
            await socket.drained()

    def enter(self, listener: Listener, room: str) -> None:
        self.manager.basic_enter_room(listener.sid, listener.namespace, room)

    def leave(self, listener: Listener, room: str) -> None:
        self.manager.basic_leave_room(listener.sid, listener.namespace, room)

    async def cut(self, listener: Listener, is_owed: bool = True) -> None:
        """DISCONNECT a client from a namespace for good, with or without what it is owed before.

        Its transport is closed if it has no other namespace.
        """
        eio_sid = self.manager.eio_sid_from_sid(listener.sid, listener.namespace)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and not is_owed:
            socket.drop_logged(listener.namespace)
        await self.disconnect(listener.sid, namespace=listener.namespace, ignore_queue=True)
        if eio_sid is not None and not self.joined.get(eio_sid):
            self.close_transport(eio_sid)

    def close_transport(self, eio_sid: str) -> None:
        """End a session, once what is owed to it is sent, so that its client comes back by itself."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and not socket.closed:
            socket.queue.put_nowait(None)

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        if pkt.packet_type == packet.CONNECT:
            pkt.data |= self.connect_data.pop(pkt.data["sid"], {})
        await super()._send_packet(eio_sid, pkt)

    # Joining and leaving

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        socket = self.eio.sockets[eio_sid]
        socket.__class__ = EngineSocket
        socket.begin()
        asyncio.get_running_loop().call_later(CONNECT_TIMEOUT, self._close_unless_joined, eio_sid)

    def _close_unless_joined(self, eio_sid: str) -> None:
        if eio_sid not in self.joined:
            self.close_transport(eio_sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        namespace = namespace or "/"
        if eio_sid not in self.environ:
            return  # it has left already
        if len(self.joined.get(eio_sid, ())) >= MAX_NAMESPACES:
            self.close_transport(eio_sid)
            return
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        except (TryLater, *errors.UNANSWERED) as error:
            if not isinstance(error, TryLater):
                self._complain(error)
            await self._forget(eio_sid, namespace)
            self.close_transport(eio_sid)
            return
        except Exception:
            # nobody can say whether it may join: a refusal would be final, a closed transport is tried again
            logger.exception("A client could not be authorised")
            await self._forget(eio_sid, namespace)
            self.close_transport(eio_sid)
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if eio_sid not in self.environ:
            await self._forget(eio_sid, namespace)  # it left while it was being authorised
        elif self.manager.is_connected(sid, namespace):
            self.joined[eio_sid].add(namespace)
            await self._trigger_event(JOINED, namespace, sid)

    def _complain(self, error: Exception) -> None:
        """At most once a second: while the database is away, thousands of clients try again and again."""
        if time.monotonic() > self._complained_at + 1:
            self._complained_at = time.monotonic()
            logger.error("A client could not be authorised, and is to try again: %s", error)

    async def _forget(self, eio_sid: str, namespace: str) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            await self._trigger_event("disconnect", namespace, sid, self.reason.TRANSPORT_CLOSE)
            await self.manager.disconnect(sid, namespace, ignore_queue=True)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace or "/")
        await super().disconnect(sid, namespace, ignore_queue)
        self._left(eio_sid, namespace or "/")

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        self._left(eio_sid, namespace or "/")

    def _left(self, eio_sid: str | None, namespace: str) -> None:
        if eio_sid is not None and eio_sid in self.joined:
            self.joined[eio_sid].discard(namespace)
            if not self.joined[eio_sid]:
                del self.joined[eio_sid]

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        for namespace in list(self.joined.get(eio_sid, ())):  # socketio asks all the namespaces that there are
            await self._handle_disconnect(eio_sid, namespace, reason)
        self.environ.pop(eio_sid, None)
        self._binary_packet.pop(eio_sid, None)

    # What clients send

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        """What is no Socket.IO packet ends the session, as it does with the JavaScript server."""
        try:
            await super()._handle_eio_message(eio_sid, data)
            if eio_sid in self._binary_packet and self._binary_packet[eio_sid].attachment_count > MAX_ATTACHMENTS:
                raise ValueError("too many attachments")
        except (ValueError, TypeError, LookupError) as error:
            logger.info("A client sent what is no packet: %s", error)
            self.close_transport(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        is_event = isinstance(data, list) and data and isinstance(data[0], str)
        if is_event and data[0] not in RESERVED_EVENTS and data[0] != JOINED:
            await super()._handle_event(eio_sid, namespace, id, data)
            await asyncio.sleep(0)  # its handler begins before the next packet is read, which may say goodbye

    async def _handle_event_internal(
        self, server: Server, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None
    ) -> None:
        """Run a handler. What it refuses is acknowledged as REST would answer, or told as an `error` event."""
        try:
            await super()._handle_event_internal(server, sid, eio_sid, data, namespace, id)
        except APIException as exc:
            await self._refuse(errors.described(exc), sid, eio_sid, namespace, id)
        except Exception:
            logger.exception("The handler of a client's event failed")
            await self._refuse(errors.body(500, "Internal Server Error"), sid, eio_sid, namespace, id)

    async def _refuse(self, refusal: dict[str, Any], sid: str, eio_sid: str, namespace: str, id: int | None) -> None:
        if id is None:
            await self.emit("error", refusal, room=sid, namespace=namespace, ignore_queue=True)
        else:
            ack = self.packet_class(packet.ACK, namespace=namespace, id=id, data=[refusal])
            await self._send_packet(eio_sid, ack)


def _is_allowed_origin(origin: str | None, environ: dict[str, Any]) -> bool:
    """CORS_ORIGIN's, and the server's own: python-socketio's synchronous client says that it comes from there."""
    known = (*settings.CORS_ALLOWED_ORIGINS, *settings.CSRF_TRUSTED_ORIGINS)
    return origin in known or f"{origin}".endswith(f"://{environ.get('HTTP_HOST')}")


def before(place: Any) -> Any:
    """The place in the log just before another one."""
    return place._replace(row=place.row - 1) if isinstance(place, Cursor) else place - 1
