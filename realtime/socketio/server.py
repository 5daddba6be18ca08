"""The Socket.IO server: python-socketio's, with limits, rooms that cost less, and events of the log.

It overrides methods named `_…` of python-socketio 5.18; requirements.in pins it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any, Protocol

import orjson
import socketio
from django.conf import settings
from rest_framework.exceptions import APIException
from socketio import packet

from instances import errors, json_body
from instances.bounds import ATTACHMENTS, CONNECT_BYTES, MESSAGE_BYTES, NAMESPACES, PACKET_STRUCTURE
from instances.spelling import describe_unknown
from realtime.log.cursor import before
from realtime.log.models import Event
from realtime.socketio.engine import Engine
from realtime.socketio.engine_socket import REASON, EngineSocket
from realtime.socketio.handshake import Handshake
from realtime.socketio.packets import Dropped, LoggedPacket
from realtime.socketio.pending import PendingSessions
from realtime.wire.outbox import text_frame
from realtime.wire.turn import turn_of

logger = logging.getLogger(__name__)

#: Names reserved by Socket.IO: no client may send them as events.
RESERVED_EVENTS = {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

#: The event that namespace handlers get once CONNECT is sent, between `connect` and `disconnect`.
JOINED = "joined"


class Json:
    """orjson as the standard module's interface; it also dumps bytes that are JSON already (`orjson.Fragment`)."""

    @staticmethod
    def dumps(value: Any, **kwargs: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        """Parse on the event loop, so only what takes no time. Raises ValueError."""
        if sum(map(text.count, "{[,:")) > PACKET_STRUCTURE:
            raise ValueError(f"it has over {PACKET_STRUCTURE} of the characters {{ [ , and :")
        return json_body.load_on_loop(text.encode(errors="replace"))


class TryLater(Exception):
    """Raised by a connect handler that can neither accept a client nor refuse it for good."""


class RateLimitedLog:
    """A log message that thousands of clients may cause at once, written at most once a second."""

    def __init__(self, level: int, message: str) -> None:
        """`level` is of `logging`; `message` has one `%s`, for the error."""
        self.level = level
        self.message = message
        self._written_at = 0.0
        self._skipped = 0

    def write(self, error: Exception) -> None:
        """Log the message with an error, or count it as skipped."""
        now = time.monotonic()
        if now < self._written_at + 1:
            self._skipped += 1
            return
        more = f" ({self._skipped} before it were not logged)" if self._skipped else ""
        logger.log(self.level, self.message + more, error)
        self._written_at, self._skipped = now, 0


class Recipient(Protocol):
    """A client in a namespace."""

    sid: str
    namespace: str


class Manager(socketio.AsyncManager):
    """python-socketio's record of clients, whose cost for a disconnect does not grow with the number of rooms."""

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """Remove a client from the only two rooms it is in; python-socketio would search all rooms."""
        for room in (sid, None):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)
                if not pending[namespace]:
                    del pending[namespace]


class Server(socketio.AsyncServer):
    """The Socket.IO server, for handlers of namespaces, and as the `Sockets` of the relay."""

    eio: Engine

    def __init__(self, **options: Any) -> None:
        """`options` are python-socketio's, and override our own."""
        quiet = logging.getLogger("socketio.server")
        quiet.setLevel(logging.ERROR)  # at INFO it logs every packet, with the API keys in it
        ours: dict[str, Any] = {
            "async_mode": "asgi",
            "client_manager": Manager(),
            "json": Json,
            "logger": quiet,
            "namespaces": "*",
        }
        super().__init__(**ours | options)
        #: Callback for dropped events: the sid of each client that lost some, and which they were.
        self.on_rewind: Callable[[list[tuple[str, Dropped]]], None] = lambda behind: None
        #: The events that clients may emit; None for all that a handler has.
        self.client_events: Collection[str] | None = None
        #: Members of the CONNECT packet besides its sid, by sid.
        self.connect_data: dict[str, dict[str, Any]] = {}
        self._error_log = RateLimitedLog(logging.ERROR, "A client could not be authorised and will reconnect: %s")
        self._packet_log = RateLimitedLog(logging.INFO, "A client sent a malformed packet: %s")
        #: The sessions whose CONNECT is being handled, by Engine.IO's sid.
        self.joining: set[str] = set()
        self.pending = PendingSessions(self._abort, self.joining)
        #: The namespaces that each Engine.IO session has joined.
        self.joined: defaultdict[str, set[str]] = defaultdict(set)
        #: The relay's rooms: the sessions in each, by sid. python-socketio's own rooms hold a single client each.
        self.rooms: dict[str, dict[str, EngineSocket]] = {}

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    # Sending

    def emit_event(self, namespace: str, room: str, event: Event, position: Any, offset: str | None) -> None:
        """Send a logged event to a room (or to one sid) of this process, as one packet for all.

        `position` is the event's in the log, `offset` the argument that clients with recovery get besides the envelope.
        """
        members = self.rooms.get(room)
        sessions: Collection[EngineSocket] = members.values() if members else self._sessions_of(namespace, room)
        if not sessions:
            return
        text = _event_packet(namespace, event, offset)
        writable = [session for session in sessions if session.is_writable]
        waiting = [session for session in sessions if not session.is_writable] if len(writable) < len(sessions) else ()
        self.eio.outbox.push(writable, text_frame(text))
        if waiting:
            packet = LoggedPacket(namespace, before(position), text)
            for session in waiting:
                self._enqueue(session, packet)

    def _sessions_of(self, namespace: str, sid: str) -> list[EngineSocket]:
        session = self._session(sid, namespace)
        return [session] if session else []

    def session_of(self, recipient: Recipient) -> EngineSocket | None:
        """Return the session of a client in a namespace; None if it has ended, or is none of Engine.IO's."""
        return self._session(recipient.sid, recipient.namespace)

    def _session(self, sid: str, namespace: str) -> EngineSocket | None:
        return self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, namespace))

    def _enqueue(self, session: EngineSocket, packet: LoggedPacket) -> None:
        session.push(packet)
        # a single event is always queued, however long it is
        if session.backlog_bytes > packet.size and session.backlog_bytes > settings.WEBSOCKET_MAX_BUFFER:
            self.rewind(session)

    def rewind(self, session: EngineSocket) -> None:
        """Drop the queued events of a slow reader; the log is read again for it once it takes packets."""
        behind = []
        for namespace, dropped in session.drop_logged().items():
            sid = self.manager.sid_from_eio_sid(session.sid, namespace)
            if sid is not None:
                behind.append((sid, dropped))
        self.on_rewind(behind)

    async def drained(self, recipient: Recipient) -> None:
        """Wait until the recipient's session has taken most of its queue."""
        session = self.session_of(recipient)
        if session is not None:
            await session.drained()

    def takes_more(self, recipient: Recipient) -> bool:
        """Return whether `drained` would not wait."""
        session = self.session_of(recipient)
        return session is None or session.takes_more()

    def enter(self, recipient: Recipient, room: str) -> None:
        """Add a recipient to a room of the relay."""
        session = self.session_of(recipient)
        if session is not None:
            self.rooms.setdefault(room, {})[recipient.sid] = session

    def leave(self, recipient: Recipient, room: str) -> None:
        """Remove a recipient from a room of the relay."""
        sessions = self.rooms.get(room, {})
        sessions.pop(recipient.sid, None)
        if not sessions:
            self.rooms.pop(room, None)

    async def disconnect_listener(self, recipient: Recipient, flush: bool = True) -> None:
        """DISCONNECT a client from a namespace for good, after its queued events or, without `flush`, dropping them.

        Its transport is closed if it has no other namespace.
        """
        eio_sid = self.manager.eio_sid_from_sid(recipient.sid, recipient.namespace)
        session = self.eio.sockets.get(eio_sid)
        if session is not None and not flush:
            session.drop_logged(recipient.namespace)
        await self.disconnect(recipient.sid, namespace=recipient.namespace, ignore_queue=True)
        if eio_sid is not None and not self.joined.get(eio_sid):
            self.close_transport(eio_sid)

    def close_transport(self, eio_sid: str) -> None:
        """End a session once its queued packets are sent; its client reconnects."""
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            session.end()

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        if pkt.packet_type == packet.CONNECT:
            pkt.data |= self.connect_data.pop(pkt.data["sid"], {})
        await super()._send_packet(eio_sid, pkt)

    # Joining and leaving

    async def _handle_eio_connect(self, eio_sid: str, environ: Handshake) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._wait_for_join(eio_sid)

    def _wait_for_join(self, eio_sid: str) -> None:
        """Limit a session that is in no namespace."""
        session = self.eio.sockets.get(eio_sid)
        if session is not None and eio_sid in self.environ:
            session.limit_messages(CONNECT_BYTES)
            self.pending.add(eio_sid, self.environ[eio_sid].caller.address)

    def _abort(self, eio_sid: str) -> None:
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            session.abort()

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        namespace = namespace or "/"
        if eio_sid not in self.environ:
            return  # it has disconnected already
        if len(self.joined.get(eio_sid, ())) >= NAMESPACES:
            self.close_transport(eio_sid)
            return
        self.joining.add(eio_sid)
        try:
            await self._join(eio_sid, namespace, data)
        finally:
            self.joining.discard(eio_sid)

    async def _join(self, eio_sid: str, namespace: str, data: Any) -> None:
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        except Exception as error:
            if isinstance(error, errors.DATABASE_ERRORS):
                self._error_log.write(error)
            elif not isinstance(error, TryLater):
                logger.exception("A client could not be authorised")
            # authorization is unknown: clients take a refusal as final, but reconnect after a closed transport
            await self._forget(eio_sid, namespace)
            self.close_transport(eio_sid)
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if eio_sid not in self.environ:
            await self._forget(eio_sid, namespace)  # it disconnected while it was being authorized
        elif self.manager.is_connected(sid, namespace):
            if eio_sid not in self.joined:
                self.pending.discard(eio_sid)
                holder = self.environ[eio_sid].caller.address
                self.eio.sockets[eio_sid].limit_messages(self.eio.max_http_buffer_size, holder)
            self.joined[eio_sid].add(namespace)
            await self._trigger_event(JOINED, namespace, sid)

    async def _forget(self, eio_sid: str, namespace: str) -> None:
        """Undo a CONNECT, without a packet to the client."""
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            await self._trigger_event("disconnect", namespace, sid, REASON.TRANSPORT_CLOSE)
            await self.manager.disconnect(sid, namespace, ignore_queue=True)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace or "/")
        await super().disconnect(sid, namespace, ignore_queue)
        self._remove_joined(eio_sid, namespace or "/")

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        self._remove_joined(eio_sid, namespace or "/")

    def _remove_joined(self, eio_sid: str | None, namespace: str) -> None:
        if eio_sid is not None and eio_sid in self.joined:
            self.joined[eio_sid].discard(namespace)
            if not self.joined[eio_sid]:
                del self.joined[eio_sid]
                self._wait_for_join(eio_sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self.pending.discard(eio_sid)
        self.environ.pop(eio_sid, None)
        turn = turn_of(asyncio.get_running_loop())
        for count, namespace in enumerate(list(self.joined.get(eio_sid, ()))):  # python-socketio would search all
            if count and turn.is_over:
                await asyncio.sleep(0)
            await self._handle_disconnect(eio_sid, namespace, reason)
        self._binary_packet.pop(eio_sid, None)

    # Receiving

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        """Handle a message; one that is no Socket.IO packet ends the session, as with the JavaScript server."""
        try:
            waiting = self._binary_packet.get(eio_sid)
            if (waiting is not None) == isinstance(data, str):
                raise ValueError("a text in place of an attachment, or the reverse")
            if data == "":  # python-socketio takes it for an event without a name
                raise ValueError("it is empty")
            if waiting is not None and sum(map(len, waiting.attachments)) + len(data) > MESSAGE_BYTES:
                raise ValueError(f"its attachments have over {MESSAGE_BYTES} bytes")
            await super()._handle_eio_message(eio_sid, data)
            if eio_sid in self._binary_packet and self._binary_packet[eio_sid].attachment_count > ATTACHMENTS:
                raise ValueError(f"it has over {ATTACHMENTS} attachments")
        except (ValueError, TypeError, LookupError) as error:
            self._packet_log.write(error)
            self.close_transport(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        is_event = isinstance(data, list) and data and isinstance(data[0], str)
        # JOINED is our own: with an ack id it goes on, to be refused in words
        is_internal = is_event and data[0] == JOINED and (id is None or self.client_events is None)
        if is_event and data[0] not in RESERVED_EVENTS and not is_internal:
            await super()._handle_event(eio_sid, namespace, id, data)
            await asyncio.sleep(0)  # its handler starts before the next packet is read, which may be a DISCONNECT

    async def _handle_event_internal(
        self, server: Server, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None
    ) -> None:
        """Run a handler. Its error is acknowledged in REST's shape, or emitted as `error` without an ack id."""
        try:
            # only where a callback waits: official clients emit `subscribe` and expect no response
            if id is not None and self.client_events is not None and data[0] not in self.client_events:
                raise errors.ApiError(describe_unknown("event to emit", data[0], self.client_events))
            await super()._handle_event_internal(server, sid, eio_sid, data, namespace, id)
        except APIException as exc:
            await self._send_error(errors.error_body(exc), sid, eio_sid, namespace, id)
        except Exception:
            logger.exception("The handler of a client's event failed")
            await self._send_error(errors.body(500, "Internal Server Error"), sid, eio_sid, namespace, id)

    async def emit_error(self, error: dict[str, Any], sid: str, namespace: str) -> None:
        """Emit the event `error` to one client. `error`: in REST's shape."""
        await self.emit("error", error, room=sid, namespace=namespace, ignore_queue=True)

    async def _send_error(self, error: dict[str, Any], sid: str, eio_sid: str, namespace: str, id: int | None) -> None:
        if id is None:
            await self.emit_error(error, sid, namespace)
        else:
            ack = self.packet_class(packet.ACK, namespace=namespace, id=id, data=[error])
            await self._send_packet(eio_sid, ack)


def _event_packet(namespace: str, event: Event, offset: str | None) -> bytes:
    """Return an Engine.IO MESSAGE with a Socket.IO EVENT (https://socket.io/docs/v4/socket-io-protocol, version 5)."""
    prefix = b"" if namespace == "/" else namespace.encode() + b","
    suffix = b"" if offset is None else b',"%s"' % offset.encode()
    return b'42%s["%s",%s%s]' % (prefix, event.type.encode(), event.envelope, suffix)
