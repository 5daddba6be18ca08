"""HTTP long-polling of an Engine.IO session: GET takes packets, POST brings some.

A body may hold 500,000 packets. They are split off one at a time, so that the event loop can turn between them, and
nothing after a bad packet is decoded. For the same reason responses are compressed piece by piece.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import orjson
from engineio.packet import CLOSE, NOOP, Packet

from instances import asgi
from instances.asgi import Message, Receive, Send
from instances.bounds import BYTES_PER_TURN, POST_SECONDS
from instances.ingress.held_bytes import Charge, held_bytes
from realtime.socketio.engine_socket import REASON, EngineSocket
from realtime.socketio.packets import EngineError, TurnBudget, packet_text
from realtime.wire.turn import turn_of
from realtime.wire.websocket import UNCHARGED

SEPARATOR = "\x1e"

#: Seconds that a poll during an upgrade is delayed: the upgrade nearly always ends a poll begun before it by then.
UPGRADE_DELAY = 0.02

#: Bytes from which on a response is compressed, bytes that are compressed in one piece, and characters that become a
#: script's in one.
MIN_COMPRESSED, COMPRESSED_AT_ONCE, QUOTED_AT_ONCE = 1024, 64 * 1024, 64 * 1024

#: The Content-Encodings that responses may have, with zlib's name for each.
WINDOW_BITS = {"gzip": 31, "deflate": 15}


# Responses


@dataclass(frozen=True)
class PollingResponse:
    """A response of status 200."""

    body: bytes
    content_type: bytes = b"text/plain; charset=UTF-8"
    encoding: str | None = None

    async def send(self, send: Send) -> None:
        headers = [(b"content-type", self.content_type)]
        if self.encoding:
            headers.append((b"content-encoding", self.encoding.encode()))
        await asgi.respond(send, 200, headers, self.body)


OK = PollingResponse(b"ok")


@dataclass(frozen=True)
class Style:
    """The form in which a client takes packets."""

    #: Index of the function that a JSONP response calls; None for any other client.
    jsonp_index: str | None
    #: The Content-Encoding, where the client accepts one.
    encoding: str | None

    @classmethod
    def of(cls, query: dict[str, list[str]], accepted: str) -> Style:
        """Read the query and the header Accept-Encoding. Raises EngineError."""
        jsonp_index = query["j"][0] if "j" in query else None
        if jsonp_index is not None and not (jsonp_index.isascii() and jsonp_index.isdecimal()):
            raise EngineError("Invalid JSONP index: `j` is a number")
        names = [item.split(";")[0].strip() for item in accepted.split(",")]
        return cls(jsonp_index, next((name for name in names if name in WINDOW_BITS), None))

    async def response(self, packets: list[Packet]) -> PollingResponse:
        """Return the response that brings these packets."""
        body = SEPARATOR.encode().join(map(packet_text, packets))
        response = PollingResponse(body) if self.jsonp_index is None else await _jsonp(self.jsonp_index, body)
        if self.encoding is None or len(body) < MIN_COMPRESSED:
            return response
        return PollingResponse(await _compressed(response.body, self.encoding), response.content_type, self.encoding)


async def _jsonp(index: str, body: bytes) -> PollingResponse:
    text, turn = body.decode(), turn_of(asyncio.get_running_loop())
    pieces = []
    for start in range(0, len(text), QUOTED_AT_ONCE):
        piece = orjson.dumps(text[start : start + QUOTED_AT_ONCE])[1:-1]
        # old browsers, the only ones that poll so, take these two for line ends
        pieces.append(piece.replace(b"\xe2\x80\xa8", rb"\u2028").replace(b"\xe2\x80\xa9", rb"\u2029"))
        if turn.is_over:
            await asyncio.sleep(0)
    script = b'___eio[%b]("%b");' % (index.encode(), b"".join(pieces))
    return PollingResponse(script, b"text/javascript; charset=UTF-8")


async def _compressed(body: bytes, encoding: str) -> bytes:
    compressor = zlib.compressobj(wbits=WINDOW_BITS[encoding])
    turn = turn_of(asyncio.get_running_loop())
    pieces = []
    for start in range(0, len(body), COMPRESSED_AT_ONCE):
        pieces.append(compressor.compress(body[start : start + COMPRESSED_AT_ONCE]))
        if turn.is_over:
            await asyncio.sleep(0)
    return b"".join([*pieces, compressor.flush()])


# Requests


async def handle(session: EngineSocket, style: Style, method: str, receive: Receive, first: Message) -> PollingResponse:
    """Handle a request to a session; `first` is its first message. Raises EngineError."""
    if method == "POST":
        await handle_post(session, receive, first)
        return OK
    if method != "GET":
        raise EngineError("A session is used by GET and POST")
    return await style.response(await handle_get(session, receive))


async def handle_get(session: EngineSocket, receive: Receive) -> list[Packet]:
    """Return the packets that answer a poll.

    Raises EngineError where the session cannot be polled; unless it is on a websocket, the session is then closed.
    """
    if session.upgrading:
        await asyncio.sleep(UPGRADE_DELAY)
    if session.upgraded:
        raise EngineError("The session is on a websocket")
    if session.upgrading:
        return [Packet(NOOP)]
    if session.is_polling:  # of two concurrent polls, one would get what the other has asked for
        session.finish_poll([Packet(CLOSE)])
        await session.close(REASON.TRANSPORT_ERROR)
        raise EngineError("The session is polled already: one GET at a time")
    session.is_polling = True
    try:
        packets = await _poll(session, receive)
    finally:
        session.is_polling = False
    if not packets:
        await session.close(REASON.TRANSPORT_CLOSE)
    return packets


async def _poll(session: EngineSocket, receive: Receive) -> list[Packet]:
    """Poll, and close the session if its client hangs up meanwhile, as the JavaScript server does."""
    if session.queue or session.is_ending:
        return await session.poll()  # at once
    polling = asyncio.ensure_future(session.poll())
    receiving = asyncio.ensure_future(receive())
    await asyncio.wait((polling, receiving), return_when=asyncio.FIRST_COMPLETED)
    if receiving.done() and receiving.result()["type"] == "http.disconnect":
        await session.close(REASON.TRANSPORT_CLOSE)
    receiving.cancel()
    return await polling


async def handle_post(session: EngineSocket, receive: Receive, first: Message) -> None:
    """Handle the packets that a client posts; `first` is the request's first message.

    Raises EngineError for a body that holds anything else; unless it is on a websocket, the session is then closed.
    """
    if session.upgraded:
        raise EngineError("The session is on a websocket")
    try:
        if session.is_posting:  # concurrent bodies have no order
            raise EngineError("The session posts already: one POST at a time")
        session.is_posting = True
        try:
            with held_bytes.charge(session.holder) as charge:
                await _handle_body(session, await _read_body(session, receive, first, charge))
        finally:
            session.is_posting = False
    except EngineError:
        await session.close(REASON.TRANSPORT_ERROR)
        raise
    except (ValueError, LookupError, TimeoutError):
        await session.close(REASON.TRANSPORT_ERROR)
        raise EngineError("The body is malformed or came too slowly, or replies to it were not polled") from None


async def _handle_body(session: EngineSocket, body: bytes) -> None:
    text, budget = await _decode_body(body), TurnBudget()
    for encoded in _split(text) if body else ():
        await session.receive(encoded)
        if session.is_ending:
            break
        if budget.spend(len(encoded)):
            await asyncio.sleep(0)


async def _read_body(session: EngineSocket, receive: Receive, first: Message, charge: Charge) -> bytes:
    """Read a request's body, and charge its bytes.

    Raises EngineError for a body that is too large, or has no room, and where the client disconnects; TimeoutError.
    """
    size, max_size = 0, session.server.max_http_buffer_size
    timeout = asyncio.timeout(POST_SECONDS)
    charge.give_way = lambda: timeout.reschedule(0)

    def charged(message: Message) -> Message:
        nonlocal size
        size += len(message.get("body", b""))
        if size >= UNCHARGED and not charge.hold(size):
            raise EngineError(str(held_bytes.refusal().detail), 503)
        return message

    async def receive_charged() -> Message:
        return charged(await receive())

    try:
        async with timeout:
            body = await asgi.read_body(receive_charged, charged(first), max_size)
        charge.complete()
        return body
    except asgi.ClientDisconnected:
        raise EngineError("The client has disconnected") from None
    except asgi.BodyTooLarge:
        raise EngineError(f"The body has over {max_size} bytes, the handshake's maxPayload") from None


async def _decode_body(body: bytes) -> str:
    """Decode the text of a body. Raises UnicodeDecodeError.

    JSONP clients post a form; its field `d` comes first and holds the packets.
    """
    if not body.startswith(b"d="):
        return body.decode()
    quoted = body[2:].partition(b"&")[0].replace(b"+", b" ")
    pieces, start = [], 0
    while start < len(quoted):
        end = start + BYTES_PER_TURN
        escape = quoted.rfind(b"%", end - 2, end)  # an escape stays in one piece
        end = end if escape < 0 else escape
        pieces.append(unquote_to_bytes(quoted[start:end]))
        start = end
        await asyncio.sleep(0)
    return b"".join(pieces).decode(errors="replace")


def _split(text: str) -> Iterator[str]:
    """Yield the encoded packets of a body."""
    start = 0
    while (end := text.find(SEPARATOR, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
