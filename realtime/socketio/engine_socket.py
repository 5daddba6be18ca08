"""An Engine.IO session: its queued packets, its heartbeat and its transports.

No packet has a task or a timer of its own. Where the server's scope has the transport of a websocket
(realtime/wire/websocket.py), packets are written straight to it; elsewhere they are ASGI messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, Protocol

import engineio
from engineio.packet import CLOSE, MESSAGE, NOOP, PING, PONG, UPGRADE, Packet

from instances.asgi import Receive, Scope, Send
from instances.bounds import ENDED_SECONDS, REPLY_BYTES, STUCK_SECONDS, UPGRADE_SECONDS
from realtime.socketio.packets import ClientPacket, Dropped, EngineError, LoggedPacket, TurnBudget, packet_frame
from realtime.wire.outbox import EMPTY, FrameChain, Outbox, WebSocketTransport
from realtime.wire.websocket import EXTENSION

#: Why a session has ended, in python-engineio's words.
REASON = engineio.AsyncServer.reason

#: Packets in the response to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Bytes of queued packets that are written at once: a client that takes as many in STUCK_SECONDS is slow, not stuck.
MAX_WRITE_BYTES = 64 * 1024

#: Bytes queued for a session beyond which a replay waits.
HIGH_WATER = 256 * 1024

#: Bytes that a queued reply counts besides those of its data.
REPLY_OVERHEAD = 500


class EngineServer(Protocol):
    """The Engine.IO server as its sessions use it."""

    outbox: Outbox
    sockets: dict[str, EngineSocket]
    #: Seconds.
    ping_interval: float
    ping_timeout: float
    #: Bytes of a message.
    max_http_buffer_size: int

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]: ...

    async def trigger(self, event: str, *args: Any) -> bool: ...


class WebSocket:
    """A websocket as an ASGI application sees it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})

    async def receive(self) -> str | bytes:
        """Return the next message. Raises OSError once the connection has ended."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise OSError
        text = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, data: str | bytes) -> None:
        await self._send({"type": "websocket.send", "bytes" if isinstance(data, bytes) else "text": data})

    async def close(self) -> None:
        with suppress(Exception):  # servers raise various errors once it is closed
            await self._send({"type": "websocket.close"})


class EngineSocket:
    """A session. Packets for a writable websocket go to the outbox; all others are queued."""

    __slots__ = (
        "_heartbeat",
        "_poll_waiter",
        "_progress",
        "_stuck_timer",
        "_websocket",
        "backlog_bytes",
        "closed",
        "closing",
        "connected",
        "holder",
        "is_ending",
        "is_polling",
        "is_posting",
        "is_writable",
        "max_message",
        "pending",
        "queue",
        "queued_bytes",
        "reply_bytes",
        "server",
        "sid",
        "transport",
        "upgraded",
        "upgrading",
    )

    def __init__(self, server: EngineServer, sid: str) -> None:
        self.server = server
        self.sid = sid
        self.queue: list[Packet] = []  # a deque would take most of the memory of an idle session
        #: True once requests may use the session; while a websocket is being opened beside its polling; once it is on a
        #: websocket.
        self.connected = self.upgrading = self.upgraded = False
        #: True while the session is closed, and after that.
        self.closing = self.closed = False
        #: The websocket's transport, where the server's scope has it.
        self.transport: WebSocketTransport | None = None
        #: True while packets go straight to the outbox: over a websocket with a transport that is not paused.
        self.is_writable = False
        #: The frames that the outbox writes at the end of this turn of the event loop.
        self.pending: FrameChain = EMPTY
        #: Bytes of logged events in the queue.
        self.queued_bytes = 0
        #: The part of them that was queued while no poll waited and no websocket was writable.
        self.backlog_bytes = 0
        #: Bytes of all other packets in the queue, with REPLY_OVERHEAD for each.
        self.reply_bytes = 0
        #: True once no more packets are accepted; the queued ones are still sent.
        self.is_ending = False
        #: Bytes that a packet of the client's may have.
        self.max_message = server.max_http_buffer_size
        #: The holder of what the client sends, in the budget of held bytes: None for a stranger.
        self.holder: Hashable = None
        #: True while a GET, or a POST, of this session is handled.
        self.is_polling = False
        self.is_posting = False
        self._poll_waiter: asyncio.Future[list[Packet] | None] | None = None
        self._progress: asyncio.Event | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._stuck_timer: asyncio.TimerHandle | None = None
        self._websocket: WebSocket | None = None

    # Sending

    def push(self, packet: Packet) -> None:
        """Send a packet without waiting; logged events are counted while they are queued."""
        if self.is_ending or self.closed:
            return
        if self.is_writable:
            self.server.outbox.push((self,), packet_frame(packet))
        else:
            self.enqueue(packet)

    def enqueue(self, packet: Packet) -> None:
        """Append a packet to the queue, and wake the poll that waits."""
        self.queue.append(packet)
        if isinstance(packet, LoggedPacket):
            self.queued_bytes += packet.size
            self.backlog_bytes += 0 if self._poll_waiter else packet.size
        else:
            self.reply_bytes += _reply_size(packet)
        if self._poll_waiter:
            self.finish_poll(None)
        elif self.transport and not self._stuck_timer:
            self._stuck_timer = asyncio.get_running_loop().call_later(STUCK_SECONDS, self.transport.reset)

    def write(self, data: bytes) -> None:
        """Write frames to the websocket; called by the outbox."""
        if self.transport:
            self.transport.write(data)
            if self.transport.is_paused:
                self.is_writable = False

    def _flush(self) -> None:
        pending, self.pending = self.pending, EMPTY
        if pending is not EMPTY:
            self.write(pending.join())

    def _dequeue(self, count: int | None = None) -> list[Packet]:
        """Take the next packets, at most `count`, of MAX_WRITE_BYTES together or a single larger one."""
        packets: list[Packet] = []
        size = 0
        for packet in self.queue[:count]:
            size += packet.size if isinstance(packet, LoggedPacket) else len(packet.data or "")
            if packets and size > MAX_WRITE_BYTES:
                break
            packets.append(packet)
            if isinstance(packet, LoggedPacket):
                self.queued_bytes -= packet.size
            else:
                self.reply_bytes -= _reply_size(packet)
        del self.queue[: len(packets)]
        self.backlog_bytes = min(self.backlog_bytes, self.queued_bytes)
        self._note_progress()
        return packets

    def _on_resume(self) -> None:
        """Write queued packets until the transport is paused; called when it may be written to again."""
        if self._stuck_timer:
            self._stuck_timer.cancel()
            self._stuck_timer = None
        self._flush()
        while self.transport and self.queue and not self.transport.is_paused:
            self.transport.write(b"".join(map(packet_frame, self._dequeue())))
        if self.transport and self.transport.is_paused:
            if self.queue:
                self._stuck_timer = asyncio.get_running_loop().call_later(STUCK_SECONDS, self.transport.reset)
        elif self.is_ending or self.closed:
            self._close_websocket()
        else:
            self.is_writable = True
            self.backlog_bytes = 0
        self._note_progress()

    def _note_progress(self) -> None:
        if self._progress:
            self._progress.set()

    @property
    def _is_full(self) -> bool:
        if self.is_writable:
            return False
        return self.queued_bytes > HIGH_WATER or bool(self.queue and not self._poll_waiter)

    def takes_more(self) -> bool:
        """Return whether at most HIGH_WATER bytes are queued, and no packet that no poll waits for."""
        if self.is_writable and self.pending.size > HIGH_WATER:
            self._flush()
        return not self._is_full or self.closed

    async def drained(self) -> None:
        """Wait until it takes more."""
        while not self.takes_more():
            self._progress = self._progress or asyncio.Event()
            self._progress.clear()
            await self._progress.wait()

    async def replies_taken(self) -> None:
        """Wait while over REPLY_BYTES of replies are queued: a client that takes none may not cause more.

        Raises TimeoutError after STUCK_SECONDS.
        """
        if self.reply_bytes > REPLY_BYTES:
            async with asyncio.timeout(STUCK_SECONDS):
                while self.reply_bytes > REPLY_BYTES and not self.closed:
                    self._progress = self._progress or asyncio.Event()
                    self._progress.clear()
                    await self._progress.wait()

    def drop_logged(self, namespace: str | None = None) -> dict[str, Dropped]:
        """Drop the queued events, of one namespace or all; returns by namespace which they were."""
        dropped: dict[str, Dropped] = {}
        kept: list[Packet] = []
        for packet in self.queue:
            if isinstance(packet, LoggedPacket) and namespace in (None, packet.namespace):
                before, events = dropped.get(packet.namespace, (packet.before, 0))
                dropped[packet.namespace] = Dropped(before, events + 1)
                self.queued_bytes -= packet.size
            else:
                kept.append(packet)
        self.queue = kept
        self.backlog_bytes = min(self.backlog_bytes, self.queued_bytes)
        return dropped

    @property
    def owed(self) -> tuple[int, int]:
        """The packets that are queued because the client takes none, and the bytes of those and of its transport."""
        buffered = self.transport.buffered if self.transport else 0
        return len(self.queue), self.queued_bytes + self.reply_bytes + self.pending.size + buffered

    # The heartbeat

    def schedule_ping(self) -> None:
        """Send a PING in `ping_interval` seconds; a timer that already runs is replaced."""
        if self._heartbeat:
            self._heartbeat.cancel()
        self._heartbeat = asyncio.get_running_loop().call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.push(Packet(PING))
        self._heartbeat = asyncio.get_running_loop().call_later(self.server.ping_timeout, self._time_out)

    def _time_out(self) -> None:
        if self.is_posting:
            self._ping()  # clients post one body at a time: the PONG waits in the client for the response to this one
            return
        self.server.spawn(self.close(REASON.PING_TIMEOUT))

    # The end

    def end(self) -> None:
        """Close the connection once the queued packets are sent, so that the client reconnects.

        No CLOSE is sent: a client that receives one stays away.
        """
        if self.is_ending or self.closed:
            return
        self.is_ending = True
        if self._poll_waiter:
            self.finish_poll([])
        elif self.is_writable:
            self._flush()
        if self.transport:
            if self.is_writable:
                self._close_websocket()
            else:
                asyncio.get_running_loop().call_later(ENDED_SECONDS, self.transport.reset)

    def abort(self) -> None:
        """End the session at once, and drop what is queued; the client may open another one."""
        if self.transport:
            self.transport.reset()
        else:
            self.finish_poll([])
            self.server.spawn(self.close())

    async def close(self, reason: str = REASON.SERVER_DISCONNECT) -> None:
        """Close the session at once, without waiting for its transport."""
        if self.closed or self.closing:
            return
        self.closing = self.is_ending = True
        for timer in (self._heartbeat, self._stuck_timer):
            if timer:
                timer.cancel()
        await self.server.trigger("disconnect", self.sid, reason)
        self.closed = True
        self.server.sockets.pop(self.sid, None)
        self._flush()
        self.is_writable = False
        self.finish_poll([Packet(NOOP)])
        self._note_progress()
        self._close_websocket()

    def _close_websocket(self) -> None:
        """Close the websocket, and reset it after ENDED_SECONDS where the client takes nothing."""
        self.is_writable = False
        websocket, self._websocket = self._websocket, None
        if websocket:
            self.server.spawn(websocket.close())
            if self.transport and self.transport.is_paused:
                asyncio.get_running_loop().call_later(ENDED_SECONDS, self.transport.reset)

    # Receiving

    def limit_messages(self, size: int, holder: Hashable = None) -> None:
        """Change the bytes that a packet of the client's may have, and the holder that they are charged to."""
        self.max_message, self.holder = size, holder
        if self.transport:
            self.transport.limit_messages(size, holder)

    async def receive(self, encoded: str | bytes) -> None:
        """Handle a packet of the client's.

        Raises EngineError for a packet that clients do not send, ValueError or LookupError for a malformed one, and
        TimeoutError where the client takes no replies.

        Once the session is ending only CLOSE is handled, as by the JavaScript server.
        """
        if len(encoded) > self.max_message:
            raise EngineError(f"A packet has over {self.max_message} bytes")
        packet = ClientPacket(encoded_packet=encoded)
        if packet.packet_type == CLOSE:
            await self.close(REASON.CLIENT_DISCONNECT)
        elif packet.packet_type not in (PONG, MESSAGE):
            raise EngineError(f"Clients send no packets of the type {packet.packet_type}")
        elif self.is_ending:
            return
        elif packet.packet_type == PONG:
            self.schedule_ping()
        else:
            await self.server.trigger("message", self.sid, packet.data)
            await self.replies_taken()

    # Polling

    async def poll(self) -> list[Packet]:
        """Wait for packets and take those that fit into one response; an empty list once the session is to end."""
        if not self.queue and not self.is_ending:
            self._poll_waiter = asyncio.get_running_loop().create_future()
            self.backlog_bytes = 0
            self._note_progress()
            try:
                packets = await self._poll_waiter
            finally:
                self._poll_waiter = None
            if packets is not None:
                return packets
        return self._dequeue(MAX_POLLED_PACKETS)

    def finish_poll(self, packets: list[Packet] | None) -> None:
        """Wake the poll that waits, with these packets or, for None, the queued ones."""
        if self._poll_waiter and not self._poll_waiter.done():
            self._poll_waiter.set_result(packets)

    # Websockets

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a websocket and serve it until it ends; beside polling, only after the probe of an upgrade."""
        transport = scope.get("extensions", {}).get(EXTENSION)
        if transport:
            transport.limit_messages(self.max_message, self.holder)
        websocket = WebSocket(receive, send)
        is_taken, is_beside_polling = self.upgrading or self.upgraded, self.connected
        self.connected = True
        self.upgrading = self.upgrading or is_beside_polling
        await websocket.accept()
        if is_taken:
            await websocket.close()
        elif is_beside_polling:
            await self._upgrade(websocket, transport)
        else:
            await self._run_websocket(websocket, transport)

    async def _upgrade(self, websocket: WebSocket, transport: WebSocketTransport | None) -> None:
        try:
            async with asyncio.timeout(UPGRADE_SECONDS):
                is_complete = await self._probe(websocket)
        except (OSError, ValueError, TimeoutError):
            is_complete = False
        finally:
            self.upgrading = False
        if is_complete:
            await self._run_websocket(websocket, transport)
        else:
            await websocket.close()

    async def _probe(self, websocket: WebSocket) -> bool:
        """Answer the client's probe. Returns whether it then completes the upgrade."""
        if await websocket.receive() != f"{PING}probe":
            return False
        await websocket.send(f"{PONG}probe")
        self.finish_poll([Packet(NOOP)])
        return bool(await websocket.receive() == f"{UPGRADE}")

    async def _run_websocket(self, websocket: WebSocket, transport: WebSocketTransport | None) -> None:
        if self.closed:  # meanwhile
            await websocket.close()
            return
        self.upgraded = True
        self._websocket = websocket
        writer = None
        if transport:
            self.transport = transport
            transport.on_resume = self._on_resume
            if not transport.is_paused:
                self._on_resume()
        else:
            writer = self.server.spawn(self._write_packets(websocket))
        reason = await self._read_packets(websocket)
        await self.close(reason)
        if writer:
            await writer
        self._close_websocket()

    async def _read_packets(self, websocket: WebSocket) -> str:
        """Handle the client's packets until the connection ends; returns the reason."""
        budget = TurnBudget()
        while not self.closed:
            try:
                message = await websocket.receive()
            except OSError:
                return REASON.TRANSPORT_CLOSE
            try:
                await self.receive(message)
            except (ValueError, LookupError, TimeoutError, EngineError):
                return REASON.TRANSPORT_ERROR
            if budget.spend(len(message)):  # messages that arrived together are received without suspending
                await asyncio.sleep(0)
        return REASON.SERVER_DISCONNECT

    async def _write_packets(self, websocket: WebSocket) -> None:
        """Send packets as ASGI messages, under a server whose scope has no transport."""
        while packets := await self.poll():
            if self.closed:
                break
            try:
                for packet in packets:
                    await websocket.send(packet.encode())
            except Exception:  # servers raise various errors once the client has disconnected
                break
        self._close_websocket()


def _reply_size(packet: Packet) -> int:
    return len(packet.data or "") + REPLY_OVERHEAD
