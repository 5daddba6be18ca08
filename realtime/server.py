"""The Socket.IO server: python-socketio's, with what it leaves open closed.

Touches python-socketio 5.18 and python-engineio 4.15 below their public surface (`_handle_connect`, `_handle_event`,
`_handle_event_internal`, the class of a session's socket); requirements.in pins both.
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
from rest_framework.exceptions import APIException
from socketio import packet

from instances import errors
from realtime.models import Event

logger = logging.getLogger(__name__)

#: Packets in one answer to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Names that Socket.IO's own protocol uses: no client may send them as events.
RESERVED_EVENTS = {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}


class Json:
    """orjson in the shape of the standard module; it also passes on bytes that are JSON already (`orjson.Fragment`)."""

    @staticmethod
    def dumps(value: Any, **kwargs: Any) -> str:
        return orjson.dumps(value).decode()

    loads = staticmethod(orjson.loads)


class EngineSocket(AsyncSocket):
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
        return [one for one in packets if one is not None]


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
            cors_allowed_origins="*" if settings.CORS_ALLOW_ALL_ORIGINS else settings.CORS_ALLOWED_ORIGINS,
            cors_credentials=False,
            namespaces="*",
        )
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
            await self.close_transport(eio_sid)

    async def close_transport(self, eio_sid: str) -> None:
        """End a session so that a client comes back by itself: without Engine.IO's CLOSE, which it would obey."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is None or socket.closed:
            return
        socket.queue.put_nowait(None)  # a websocket's writer, or a waiting poll, sends what is owed and ends
        if not socket.upgraded:
            await socket.close(wait=False, abort=True)

    # Joining and leaving

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self.eio.sockets[eio_sid].__class__ = EngineSocket

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        namespace = namespace or "/"
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        except Exception:
            # nobody can say whether it may join: a refusal would be final, a closed transport is tried again
            logger.exception("A client could not be authorised")
            await self._forget(eio_sid, namespace)
            await self.close_transport(eio_sid)
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None:
            return
        if eio_sid not in self.environ:
            await self._forget(eio_sid, namespace)  # it left while it was being authorised
        else:
            self.joined[eio_sid].add(namespace)
            await self._trigger_event("joined", namespace, sid)

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

    # What clients send

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        is_event = isinstance(data, list) and data and isinstance(data[0], str)
        if is_event and data[0] not in RESERVED_EVENTS:
            await super()._handle_event(eio_sid, namespace, id, data)

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
