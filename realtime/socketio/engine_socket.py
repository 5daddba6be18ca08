"""An Engine.IO session: its queued packets, its heartbeat and its transports.

python-engineio's, rewritten where it works per packet: no packet has a task or a timer of its own. Where the server's
scope has the transport of a websocket (realtime/wire/websocket.py), packets are written straight to it; elsewhere they
are ASGI messages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Protocol

from engineio import exceptions
from engineio.async_drivers.asgi import WebSocket
from engineio.async_socket import AsyncSocket
from engineio.packet import CLOSE, MESSAGE, NOOP, PING, PONG, UPGRADE, Packet

from realtime.socketio.packets import ClientPacket, LoggedPacket, TurnBudget, packet_frame
from realtime.wire.outbox import EMPTY, Outbox, WebSocketTransport
from realtime.wire.websocket import EXTENSION

#: Packets in the response to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Bytes of queued packets that are written at once: a client that takes as many in STUCK_TIMEOUT is slow, not stuck.
MAX_WRITE_BYTES = 64 * 1024

#: Seconds after which a websocket that took none of its queued packets is reset.
STUCK_TIMEOUT = 30

#: Seconds that a websocket whose session has ended may take to send its buffer.
CLOSE_TIMEOUT = 5

#: Seconds that a client may take from opening a websocket beside its polling to the end of the upgrade.
UPGRADE_TIMEOUT = 10

#: Bytes queued for a session beyond which a replay waits.
HIGH_WATER = 256 * 1024


class EngineServer(Protocol):
    """The Engine.IO server as its sockets use it, by python-engineio's names."""

    outbox: Outbox
    sockets: dict[str, EngineSocket]
    #: Seconds.
    ping_interval: float
    ping_timeout: float
    #: Bytes of a message.
    max_http_buffer_size: int
    reason: Any

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]: ...

    async def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any: ...


class EngineSocket(AsyncSocket):
    """A session. Packets for a writable websocket go to the outbox; all others are queued."""

    server: EngineServer
    queue: deque[Packet]
    connected: bool
    upgrading: bool
    upgraded: bool
    closing: bool
    closed: bool

    def __init__(self, server: EngineServer, sid: str) -> None:
        super().__init__(server, sid)
        self.last_ping = None
        #: The websocket's transport, where the server's scope has it.
        self.transport: WebSocketTransport | None = None
        #: True while packets go straight to the outbox: over a websocket with a transport that is not paused.
        self.is_writable = False
        #: The frames that the outbox writes at the end of this turn of the event loop.
        self.pending = EMPTY
        #: Bytes of logged events in the queue.
        self.queued_bytes = 0
        #: The part of them that was queued while no poll waited and no websocket was writable.
        self.backlog_bytes = 0
        #: True once no more packets are accepted; the queued ones are still sent.
        self.is_ending = False
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
        if self._poll_waiter:
            self.finish_poll(None)
        elif self.transport and not self._stuck_timer:
            self._stuck_timer = asyncio.get_running_loop().call_later(STUCK_TIMEOUT, self.transport.reset)

    async def send(self, pkt: Packet) -> None:
        """Send a packet; python-engineio's name for `push`."""
        self.push(pkt)

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
        while self.queue and (count is None or len(packets) < count):
            packet = self.queue[0]
            size += packet.size if isinstance(packet, LoggedPacket) else len(packet.data or "")
            if packets and size > MAX_WRITE_BYTES:
                break
            packets.append(self.queue.popleft())
        self.queued_bytes -= sum(packet.size for packet in packets if isinstance(packet, LoggedPacket))
        self.backlog_bytes = min(self.backlog_bytes, self.queued_bytes)
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
                self._stuck_timer = asyncio.get_running_loop().call_later(STUCK_TIMEOUT, self.transport.reset)
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

    def drop_logged(self, namespace: str | None = None) -> dict[str, Any]:
        """Drop the queued events, of one namespace or all.

        Returns, by namespace, the log position just before the first dropped event.
        """
        before: dict[str, Any] = {}
        kept: deque[Packet] = deque()
        for packet in self.queue:
            if isinstance(packet, LoggedPacket) and namespace in (None, packet.namespace):
                before.setdefault(packet.namespace, packet.before)
                self.queued_bytes -= packet.size
            else:
                kept.append(packet)
        self.queue = kept
        self.backlog_bytes = min(self.backlog_bytes, self.queued_bytes)
        return before

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
        self.server.spawn(self.close(reason=self.server.reason.PING_TIMEOUT))

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
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.transport.reset)

    async def close(self, wait: bool = True, abort: bool = True, reason: str | None = None) -> None:
        """Close the session at once, without waiting for its transport; the arguments are python-engineio's."""
        if self.closed or self.closing:
            return
        self.closing = self.is_ending = True
        for timer in (self._heartbeat, self._stuck_timer):
            if timer:
                timer.cancel()
        await self.server._trigger_event(
            "disconnect", self.sid, reason or self.server.reason.SERVER_DISCONNECT, run_async=False
        )
        self.closed = True
        self.server.sockets.pop(self.sid, None)
        self._flush()
        self.is_writable = False
        self.finish_poll([Packet(NOOP)])
        self._note_progress()
        self._close_websocket()

    def _close_websocket(self) -> None:
        """Close the websocket, and reset it after CLOSE_TIMEOUT where the client takes nothing."""
        self.is_writable = False
        websocket, self._websocket = self._websocket, None
        if websocket:
            self.server.spawn(websocket.close())
            if self.transport and self.transport.is_paused:
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.transport.reset)

    # Receiving

    async def receive(self, pkt: Packet) -> None:
        """Handle a packet. Raises UnknownPacketError for a type that clients do not send.

        Once the session is ending only CLOSE is handled, as by the JavaScript server.
        """
        if pkt.packet_type == CLOSE:
            await self.close(reason=self.server.reason.CLIENT_DISCONNECT)
        elif pkt.packet_type not in (PONG, MESSAGE):
            raise exceptions.UnknownPacketError
        elif self.is_ending:
            return
        elif pkt.packet_type == PONG:
            self.schedule_ping()
        else:
            await self.server._trigger_event("message", self.sid, pkt.data, run_async=False)

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

    async def serve_websocket(self, environ: dict[str, Any]) -> None:
        """Accept a websocket and serve it until it ends; beside polling, only after the probe of an upgrade."""
        transport = environ["asgi.scope"].get("extensions", {}).get(EXTENSION)
        if self.upgrading or self.upgraded:
            handler = WebSocket.close  # the session has another websocket
        elif self.connected:
            self.upgrading = True
            handler = partial(self._upgrade, transport=transport)
        else:
            self.connected = True
            handler = partial(self._run_websocket, transport=transport)
        await WebSocket(handler, self.server)(environ)

    async def _upgrade(self, ws: WebSocket, transport: WebSocketTransport | None) -> None:
        try:
            async with asyncio.timeout(UPGRADE_TIMEOUT):
                is_complete = await self._probe(ws)
        except (OSError, ValueError, TimeoutError):
            is_complete = False
        finally:
            self.upgrading = False
        if is_complete and not self.closed:
            await self._run_websocket(ws, transport)
        else:
            await ws.close()

    async def _probe(self, ws: WebSocket) -> bool:
        """Answer the client's probe. Returns whether it then completes the upgrade."""
        if await ws.wait() != f"{PING}probe":
            return False
        await ws.send(f"{PONG}probe")
        self.finish_poll([Packet(NOOP)])
        return bool(await ws.wait() == f"{UPGRADE}")

    async def _run_websocket(self, ws: WebSocket, transport: WebSocketTransport | None) -> None:
        self.upgraded = True
        self._websocket = ws
        writer = None
        if transport:
            self.transport = transport
            transport.on_resume = self._on_resume
            if not transport.is_paused:
                self._on_resume()
        else:
            writer = self.server.spawn(self._write_packets(ws))
        reason = await self._read_packets(ws)
        await self.close(reason=reason)
        if writer:
            await writer
        self._close_websocket()

    async def _read_packets(self, ws: WebSocket) -> str:
        """Handle the client's packets until the connection ends; returns the reason."""
        budget = TurnBudget()
        while not self.closed:
            try:
                message = await ws.wait()
            except OSError:
                return str(self.server.reason.TRANSPORT_CLOSE)
            try:
                if len(message) > self.server.max_http_buffer_size:
                    raise ValueError("too much")
                await self.receive(ClientPacket(encoded_packet=message))
            except (ValueError, LookupError, exceptions.EngineIOError):
                return str(self.server.reason.TRANSPORT_ERROR)
            if budget.spend(len(message)):  # messages that arrived together are received without suspending
                await asyncio.sleep(0)
        return str(self.server.reason.SERVER_DISCONNECT)

    async def _write_packets(self, ws: WebSocket) -> None:
        """Send packets as ASGI messages, under a server whose scope has no transport."""
        while packets := await self.poll():
            if self.closed:
                break
            try:
                for packet in packets:
                    await ws.send(packet.encode())
            except Exception:  # servers raise various errors once the client has disconnected
                break
        self._close_websocket()
