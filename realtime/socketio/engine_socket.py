"""An Engine.IO session: what it is owed, its heartbeat, and the transports it is on.

python-engineio's, written anew where it works by the packet: no task and no timer waits for each of them. Where the
server lends a websocket's transport (realtime/wire/websocket.py), packets go straight to it; elsewhere the way of ASGI.
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

#: Packets in one answer to a poll; Engine.IO clients refuse more.
MAX_POLLED_PACKETS = 16

#: Bytes from where on nothing more is taken at once: who takes that much within STUCK_TIMEOUT is slow, not stuck.
MAX_TAKEN_BYTES = 64 * 1024

#: Seconds after which a websocket that took nothing of what it is owed is reset.
STUCK_TIMEOUT = 30

#: Seconds that a websocket whose session has ended may take to send what it holds.
CLOSE_TIMEOUT = 5

#: Seconds that a client may take from opening a websocket beside its polling to moving over.
UPGRADE_TIMEOUT = 10

#: Bytes owed to a session from where on a replay waits.
HIGH_WATER = 256 * 1024


class EngineServer(Protocol):
    """The Engine.IO server, as its sockets use it: python-engineio's names."""

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
    """A session. Packets for a websocket that can be written to go to the outbox; all others wait in the queue."""

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
        #: Where the server lends it: the transport of a websocket.
        self.transport: WebSocketTransport | None = None
        #: Whether packets go out directly: over a websocket with a link, which can be written to.
        self.is_writable = False
        #: What it is owed in this turn of the loop.
        self.pending = EMPTY
        #: Bytes of logged events in the queue.
        self.queued = 0
        #: The part of them that came while nobody waited for packets.
        self.owed = 0
        #: No more packets are taken; those it is owed go out first.
        self.is_ending = False
        self.is_polling = False
        self._poll: asyncio.Future[list[Packet] | None] | None = None
        self.is_posting = False
        self._moved: asyncio.Event | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._websocket: WebSocket | None = None

    # Sending

    def push(self, packet: Packet) -> None:
        """Send a packet, without waiting; logged events are counted while nobody takes any."""
        if self.is_ending or self.closed:
            return
        if self.is_writable:
            self.server.outbox.push((self,), packet_frame(packet))
        else:
            self.enqueue(packet)

    def enqueue(self, packet: Packet) -> None:
        self.queue.append(packet)
        if isinstance(packet, LoggedPacket):
            self.queued += packet.size
            self.owed += 0 if self._poll else packet.size
        if self._poll:
            self.finish_poll(None)
        elif self.transport and not self._giving_up:
            self._giving_up = asyncio.get_running_loop().call_later(STUCK_TIMEOUT, self.transport.reset)

    async def send(self, pkt: Packet) -> None:
        self.push(pkt)

    def write(self, data: bytes) -> None:
        """The outbox's: frames for the websocket."""
        if self.transport:
            self.transport.write(data)
            if self.transport.is_paused:
                self.is_writable = False

    def _flush(self) -> None:
        pending, self.pending = self.pending, EMPTY
        if pending is not EMPTY:
            self.write(pending.join())

    def _take(self, count: int | None = None) -> list[Packet]:
        """The next packets of the queue: some, but not more than MAX_TAKEN_BYTES if one alone is not."""
        packets: list[Packet] = []
        size = 0
        while self.queue and (count is None or len(packets) < count):
            packet = self.queue[0]
            size += packet.size if isinstance(packet, LoggedPacket) else len(packet.data or "")
            if packets and size > MAX_TAKEN_BYTES:
                break
            packets.append(self.queue.popleft())
        self.queued -= sum(packet.size for packet in packets if isinstance(packet, LoggedPacket))
        self.owed = min(self.owed, self.queued)
        return packets

    def _resumed(self) -> None:
        """The websocket can be written to: what waits goes out, as much as it takes."""
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None
        self._flush()
        while self.transport and self.queue and not self.transport.is_paused:
            self.transport.write(b"".join(map(packet_frame, self._take())))
        if self.transport and self.transport.is_paused:
            if self.queue:
                self._giving_up = asyncio.get_running_loop().call_later(STUCK_TIMEOUT, self.transport.reset)
        elif self.is_ending or self.closed:
            self._close_websocket()
        else:
            self.is_writable = True
            self.owed = 0
        self._note_move()

    def _note_move(self) -> None:
        if self._moved:
            self._moved.set()

    @property
    def _is_full(self) -> bool:
        if self.is_writable:
            return False
        return self.queued > HIGH_WATER or bool(self.queue and not self._poll)

    async def drained(self) -> None:
        """Wait while it is owed much, or something that nobody takes."""
        if self.is_writable and self.pending.size > HIGH_WATER:
            self._flush()
        while self._is_full and not self.closed:
            self._moved = self._moved or asyncio.Event()
            self._moved.clear()
            await self._moved.wait()

    def drop_logged(self, namespace: str | None = None) -> dict[str, Any]:
        """Forget the events that are queued, of one namespace or all. Returns the place after which each one's came."""
        before: dict[str, Any] = {}
        kept: deque[Packet] = deque()
        for packet in self.queue:
            if isinstance(packet, LoggedPacket) and namespace in (None, packet.namespace):
                before.setdefault(packet.namespace, packet.before)
                self.queued -= packet.size
            else:
                kept.append(packet)
        self.queue = kept
        self.owed = min(self.owed, self.queued)
        return before

    # The heartbeat

    def schedule_ping(self) -> None:
        if self._heartbeat:
            self._heartbeat.cancel()
        self._heartbeat = asyncio.get_running_loop().call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.push(Packet(PING))
        self._heartbeat = asyncio.get_running_loop().call_later(self.server.ping_timeout, self._time_out)

    def _time_out(self) -> None:
        if self.is_posting:
            self._ping()  # clients post one body at a time: the PONG waits in the client until this one is answered
            return
        self.server.spawn(self.close(reason=self.server.reason.PING_TIMEOUT))

    # The end

    def end(self) -> None:
        """Let the client go after what it is owed; without CLOSE, which it would obey, it comes back by itself."""
        if self.is_ending or self.closed:
            return
        self.is_ending = True
        if self._poll:
            self.finish_poll([])
        elif self.is_writable:
            self._flush()
        if self.transport:
            if self.is_writable:
                self._close_websocket()
            else:
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.transport.reset)

    async def close(self, wait: bool = True, abort: bool = True, reason: str | None = None) -> None:
        """End the session at once; nothing will come any more. Nobody waits for its transport."""
        if self.closed or self.closing:
            return
        self.closing = self.is_ending = True
        for timer in (self._heartbeat, self._giving_up):
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
        self._note_move()
        self._close_websocket()

    def _close_websocket(self) -> None:
        """Also where a peer takes nothing: after CLOSE_TIMEOUT it is reset."""
        self.is_writable = False
        websocket, self._websocket = self._websocket, None
        if websocket:
            self.server.spawn(websocket.close())
            if self.transport and self.transport.is_paused:
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.transport.reset)

    # Receiving

    async def receive(self, pkt: Packet) -> None:
        """Handle a packet. Raises UnknownPacketError for what clients do not send.

        Once the session is ending nothing but CLOSE is handled, as with the JavaScript server.
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
        """Wait for packets and take those that fit into one answer; none: the session is to end."""
        if not self.queue and not self.is_ending:
            self._poll = asyncio.get_running_loop().create_future()
            self.owed = 0
            self._note_move()
            try:
                released = await self._poll
            finally:
                self._poll = None
            if released is not None:
                return released
        return self._take(MAX_POLLED_PACKETS)

    def finish_poll(self, packets: list[Packet] | None) -> None:
        """Let the poll go that waits: with these packets, or with what is queued."""
        if self._poll and not self._poll.done():
            self._poll.set_result(packets)

    # Websockets

    async def serve_websocket(self, environ: dict[str, Any]) -> None:
        """Accept a websocket, and be on it until it ends. Beside polling it must show first that packets pass."""
        transport = environ["asgi.scope"].get("extensions", {}).get(EXTENSION)
        if self.upgrading or self.upgraded:
            handler = WebSocket.close  # it is on another one
        elif self.connected:
            self.upgrading = True
            handler = partial(self._upgrade, transport=transport)
        else:
            self.connected = True
            handler = partial(self._be_on, transport=transport)
        await WebSocket(handler, self.server)(environ)

    async def _upgrade(self, ws: WebSocket, transport: WebSocketTransport | None) -> None:
        try:
            async with asyncio.timeout(UPGRADE_TIMEOUT):
                has_moved = await self._has_moved(ws)
        except (OSError, ValueError, TimeoutError):
            has_moved = False
        finally:
            self.upgrading = False
        if has_moved and not self.closed:
            await self._be_on(ws, transport)
        else:
            await ws.close()

    async def _has_moved(self, ws: WebSocket) -> bool:
        if await ws.wait() != f"{PING}probe":
            return False
        await ws.send(f"{PONG}probe")
        self.finish_poll([Packet(NOOP)])
        return bool(await ws.wait() == f"{UPGRADE}")

    async def _be_on(self, ws: WebSocket, transport: WebSocketTransport | None) -> None:
        self.upgraded = True
        self._websocket = ws
        writer = None
        if transport:
            self.transport = transport
            transport.on_resume = self._resumed
            if not transport.is_paused:
                self._resumed()
        else:
            writer = self.server.spawn(self._write_all(ws))
        reason = await self._read_all(ws)
        await self.close(reason=reason)
        if writer:
            await writer
        self._close_websocket()

    async def _read_all(self, ws: WebSocket) -> str:
        """Returns why it ended."""
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
            if budget.spend(len(message)):  # those that came together are read without waiting
                await asyncio.sleep(0)
        return str(self.server.reason.SERVER_DISCONNECT)

    async def _write_all(self, ws: WebSocket) -> None:
        """The way of ASGI, where no link is lent."""
        while packets := await self.poll():
            if self.closed:
                break
            try:
                for packet in packets:
                    await ws.send(packet.encode())
            except Exception:  # whatever servers raise once the peer is gone
                break
        self._close_websocket()
