"""The Socket.IO server: python-socketio's, with what it leaves open closed.

Touches python-socketio 5.18 and python-engineio 4.15 below their public surface (methods named `_handle_…`, the class
of a session's socket); requirements.in pins both.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

import orjson
import socketio
from django.conf import settings
from engineio import exceptions as engineio_exceptions
from engineio.async_socket import AsyncSocket
from engineio.payload import Payload
from rest_framework.exceptions import APIException
from socketio import packet

from instances import bodies, errors
from realtime.models import Event

logger = logging.getLogger(__name__)

#: Packets in one answer to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Seconds that a client may take to join its first namespace.
CONNECT_TIMEOUT = 45

#: Seconds that a client may take from opening a websocket beside its polling to moving over.
UPGRADE_TIMEOUT = 10

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


class EngineSocket(AsyncSocket):
    """A session. None in its queue ends it so that the client comes back by itself: after what is owed to it, and
    without Engine.IO's CLOSE, which it would obey."""

    async def poll(self) -> list[Any]:
        """Wait for packets and take those that fit into one answer; empty once the session is to end."""
        timeout = self.server.ping_interval + self.server.ping_timeout
        try:
            packets = [await asyncio.wait_for(self.queue.get(), timeout)]
        except (TimeoutError, asyncio.CancelledError):
            raise engineio_exceptions.QueueEmpty from None
        while packets[-1] is not None and len(packets) < MAX_POLLED_PACKETS and not self.queue.empty():
            packets.append(self.queue.get_nowait())
        for _ in packets:
            self.queue.task_done()
        if packets[-1] is None and len(packets) > 1:
            self.queue.put_nowait(None)  # what is owed first; the next poll ends the session
        elif packets[-1] is None and not self.upgraded:
            await self.close(abort=True)
        return [one for one in packets if one is not None]

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Nothing will come any more: a poll that waits and a websocket's writer end. Nobody waits for them."""
        if not self.closed and not self.closing:
            await super().close(wait=False, abort=abort, reason=reason)
            self.queue.put_nowait(None)

    async def receive(self, pkt: Any) -> None:
        try:
            await super().receive(pkt)
        except IndexError:  # there is no such type of packet
            raise engineio_exceptions.UnknownPacketError from None

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """A client that hangs up while it polls ends the session, as it does with the JavaScript server."""
        if environ["asgi.scope"]["type"] == "websocket":
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


class Server(socketio.AsyncServer):
    def __init__(self) -> None:
        # at INFO these two print every packet, with the keys in it
        loggers = {name: logging.getLogger(f"{name}.server") for name in ("socketio", "engineio")}
        for quiet in loggers.values():
            quiet.setLevel(logging.ERROR)
        super().__init__(
            async_mode="asgi",
            json=Json,
            logger=loggers["socketio"],
            engineio_logger=loggers["engineio"],
            cors_allowed_origins="*" if settings.CORS_ALLOW_ALL_ORIGINS else _is_allowed_origin,
            cors_credentials=False,
            namespaces="*",
        )
        # a client posts all that it has to say at once; the size of a body limits how much that is
        Payload.max_decode_packets = self.eio.max_http_buffer_size
        #: The namespaces that each Engine.IO session has joined.
        self.joined: defaultdict[str, set[str]] = defaultdict(set)

    # Sending

    async def tell(self, namespace: str, room: str, event: Event) -> None:
        """Send a logged event to a room (or to one sid) of this process."""
        await self.emit(
            event.type, orjson.Fragment(bytes(event.envelope)), room=room, namespace=namespace, ignore_queue=True
        )

    async def cut(self, sid: str, namespace: str) -> None:
        """DISCONNECT a client from a namespace for good; its transport is closed if it has no other."""
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace)
        await self.disconnect(sid, namespace=namespace, ignore_queue=True)
        if eio_sid is not None and not self.joined.get(eio_sid):
            self.close_transport(eio_sid)

    def close_transport(self, eio_sid: str) -> None:
        """End a session, once what is owed to it is sent, so that its client comes back by itself."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and not socket.closed:
            socket.queue.put_nowait(None)

    # Joining and leaving

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self.eio.sockets[eio_sid].__class__ = EngineSocket
        asyncio.get_running_loop().call_later(CONNECT_TIMEOUT, self._close_unless_joined, eio_sid)

    def _close_unless_joined(self, eio_sid: str) -> None:
        if eio_sid not in self.joined:
            self.close_transport(eio_sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        namespace = namespace or "/"
        if eio_sid not in self.environ:
            return  # it has left already
        try:
            await super()._handle_connect(eio_sid, namespace, data)
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
        await super()._handle_eio_disconnect(eio_sid, reason)
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
