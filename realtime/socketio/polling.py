"""HTTP long-polling of an Engine.IO session: GET takes packets, POST brings some.

python-engineio decodes a body in one piece, and 1 MB holds 500,000 packets. Here they are split off one at a time, so
that the event loop can turn between them, and nothing after a bad packet is decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from engineio import exceptions
from engineio.packet import CLOSE, NOOP, Packet

from instances import asgi
from realtime.socketio.engine_socket import EngineSocket
from realtime.socketio.packets import BYTES_PER_TURN, ClientPacket, TurnBudget

SEPARATOR = "\x1e"

#: Seconds that a client may take to send a body.
BODY_TIMEOUT = 30

#: Seconds that a poll during an upgrade is delayed: the upgrade nearly always ends a poll begun before it by then.
UPGRADE_DELAY = 0.02


async def handle_get(session: EngineSocket, environ: dict[str, Any]) -> list[Packet]:
    """Return the packets that answer a poll.

    Raises EngineIOError where the session cannot be polled; unless it is on a websocket, the session is then closed.
    """
    if session.upgrading:
        await asyncio.sleep(UPGRADE_DELAY)
    if session.upgraded:
        raise exceptions.EngineIOError
    if session.upgrading:
        return [Packet(NOOP)]
    if session.is_polling:  # of two concurrent polls, one would get what the other has asked for
        session.finish_poll([Packet(CLOSE)])
        await session.close(reason=session.server.reason.TRANSPORT_ERROR)
        raise exceptions.EngineIOError
    session.is_polling = True
    try:
        packets = await _poll(session, environ["asgi.receive"])
    finally:
        session.is_polling = False
    if not packets:
        await session.close(reason=session.server.reason.TRANSPORT_CLOSE)
    return packets


async def _poll(session: EngineSocket, receive: Callable[[], Any]) -> list[Packet]:
    """Poll, and close the session if its client hangs up meanwhile, as the JavaScript server does."""
    if session.queue or session.is_ending:
        return await session.poll()  # at once
    polling = asyncio.ensure_future(session.poll())
    receiving = asyncio.ensure_future(receive())
    await asyncio.wait((polling, receiving), return_when=asyncio.FIRST_COMPLETED)
    if receiving.done() and receiving.result()["type"] == "http.disconnect":
        await session.close(reason=session.server.reason.TRANSPORT_CLOSE)
    receiving.cancel()
    return await polling


async def handle_post(session: EngineSocket, environ: dict[str, Any]) -> None:
    """Handle the packets that a client posts.

    Raises EngineIOError for a body that holds anything else; unless it is on a websocket, the session is then closed.
    """
    if session.upgraded:
        raise exceptions.EngineIOError
    try:
        if session.is_posting:  # concurrent bodies have no order
            raise exceptions.EngineIOError
        session.is_posting = True
        try:
            await _handle_body(session, await _read_body(environ, session.server.max_http_buffer_size))
        finally:
            session.is_posting = False
    except (exceptions.EngineIOError, ValueError, LookupError, TimeoutError):
        await session.close(reason=session.server.reason.TRANSPORT_ERROR)
        raise exceptions.EngineIOError from None


async def _handle_body(session: EngineSocket, body: bytes) -> None:
    text, budget = await _decode_body(body), TurnBudget()
    for encoded in _split(text) if body else ():
        await session.receive(ClientPacket(encoded_packet=encoded))
        if session.is_ending:
            break
        if budget.spend(len(encoded)):
            await asyncio.sleep(0)


async def _read_body(environ: dict[str, Any], max_size: int) -> bytes:
    """Read a request's body.

    Raises ContentTooLongError beyond `max_size` bytes, TimeoutError, and EngineIOError where the client disconnects.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await asgi.read_body(environ["asgi.receive"], environ["evoapi.message"], max_size)
    except asgi.ClientDisconnected:
        raise exceptions.EngineIOError from None
    except asgi.BodyTooLarge:
        raise exceptions.ContentTooLongError from None


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
