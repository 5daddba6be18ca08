"""GET /event/stream/<instance>: the events of the instance's namespace as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Plain ASGI, as WSGI would hold a thread per listener.

A browser's EventSource reconnects after a response that ends, and never again after an error. So errors are for what
does not change by itself; while the database is away, or too many wrong keys have come from an address, the response is
200 and ends.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import Any
from urllib.parse import parse_qs

import orjson
from django.db import Error as DatabaseError
from socketio.exceptions import ConnectionRefusedError

from instances import errors
from instances.access.gate import Caller
from instances.asgi import AsgiHeaders, Receive, Scope, Send, respond
from instances.bounds import QUERY_FIELDS
from instances.events import EventType, UnknownEvent
from realtime.database import database
from realtime.fanout.authorization import UNAUTHORIZED, Credentials, Membership
from realtime.fanout.feeds import Audience, Feed, Listener
from realtime.fanout.namespaces import Member, Namespaces
from realtime.fanout.recovery import ResumeRequest, Since, StartPosition
from realtime.fanout.relay import Relay
from realtime.log.models import Event
from realtime.socketio.handshake import MAX_KEYS
from realtime.socketio.server import TryLater

logger = logging.getLogger(__name__)

PATH = "/event/stream/"

#: Seconds without an event before a comment is sent, so that proxies do not close the connection as idle.
HEARTBEAT = 15

#: Milliseconds until a client whose stream could not begin reconnects, at least; and how many more, at random, so that
#: not all come at once.
RETRY_DELAY, RETRY_JITTER = 3000, 5000

UNKNOWN_POSITION = b": Last-Event-ID or since is no position in this stream, which begins now\n\n"

#: The event that tells a client that events before the next one are no longer kept.
GAP = "gap"

HEADERS = [(b"content-type", b"text/event-stream")]


class EventStream:
    """The ASGI application for `/event/stream/<instance>`."""

    def __init__(self, relay: Relay, namespaces: Namespaces) -> None:
        self.relay = relay
        self.namespaces = namespaces
        #: The task of each open stream that sends its events.
        self._senders: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or scope["path"] == PATH:
            await _respond_error(send, 404, [f"Cannot {scope['method']} {scope['path']}"])
            return
        try:
            query = _query(scope["query_string"])
            membership = await self._authorize(scope, query)
            audience = Audience(events=ResumeRequest(events=_split(query.get("events", []))).event_filter())
        except UnknownEvent as error:
            await _respond_error(send, 400, [str(error)])
            return
        except errors.ApiError as error:
            await _respond_error(send, error.status_code, _message(error))
            return
        except TryLater:
            await _respond_later(send, "The access could not be checked now")
            return
        except DatabaseError as error:
            logger.error("A stream could not be authorised, its client reconnects: %s", error)
            await _respond_later(send, "The database does not answer")
            return
        except Exception:
            logger.exception("A stream could not be authorised; its client reconnects")
            await _respond_later(send, "The server has failed")
            return
        await self._serve(membership, audience, receive, send)

    async def _authorize(self, scope: Scope, query: dict[str, list[str]]) -> Membership:
        """Authorize a request; raises ApiError as a REST route would, TryLater and django.db.Error."""
        name = scope["path"].removeprefix(PATH)
        keys = tuple(value.decode(errors="replace") for header, value in scope["headers"] if header == b"apikey")
        tokens = tuple(query.get("token", ()))
        if len(keys) + len(tokens) > MAX_KEYS:
            raise errors.ApiError(f"The header and the query have over {MAX_KEYS} keys and tokens: send one", 431)
        credentials = Credentials(keys, tokens, Caller.of(scope))
        last_event_id = AsgiHeaders(scope["headers"]).get("last-event-id")
        since = query.get("since", [""])[0]
        seq_or_offset = int(since) if since.isdecimal() and len(since) < 19 else since
        resume = ResumeRequest(since=seq_or_offset if last_event_id is None else last_event_id)
        try:
            return (await self.namespaces.grant(f"/{name}", credentials)).join(resume)
        except ConnectionRefusedError as error:
            if error.error_args == {"message": UNAUTHORIZED}:
                raise errors.ApiError("Unauthorized", 401) from None
            accesses = await database(credentials.valid_accesses)
            if accesses and all(access.is_for_all for access in accesses):
                raise errors.ApiError(f'The "{name}" instance does not exist', 404) from None
            raise errors.ApiError("Unauthorized", 401) from None

    async def _serve(self, membership: Membership, audience: Audience, receive: Receive, send: Send) -> None:
        """Send events until the client disconnects, its access ends or the server stops."""
        sid, namespace = f"stream {secrets.token_hex(8)}", f"/{membership.name}"
        listener = membership.listener(sid, namespace, audience)
        listener.late = deque()
        sender = asyncio.ensure_future(self._send_events(listener, membership.start, send))
        disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
        self.namespaces.add(Member(membership, listener, disconnect=sender.cancel))
        self._senders.add(sender)
        try:
            await asyncio.wait((sender, disconnected), return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and not sender.cancelled() and sender.exception():
                logger.error("An event stream failed; its client may reconnect", exc_info=sender.exception())
        finally:
            self._senders.discard(sender)
            sender.cancel()
            disconnected.cancel()
            await asyncio.gather(sender, disconnected, return_exceptions=True)
            self.namespaces.remove(listener.sid)
            self.relay.remove_listener(listener)
        await send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """End all streams; their clients reconnect by themselves."""
        for sender in self._senders:
            sender.cancel()

    async def _send_events(self, listener: Listener, start: StartPosition, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
        if start.since is Since.UNKNOWN:
            await send({"type": "http.response.body", "body": UNKNOWN_POSITION, "more_body": True})
        feed = await self.relay.add_listener(listener)
        if start.since is Since.PRUNED:
            gap = _encode_gap(feed, listener)
            await send({"type": "http.response.body", "body": gap, "more_body": True})
        while True:
            async for event in self.relay.replay(feed, listener):
                await send({"type": "http.response.body", "body": _encode(feed, listener, event), "more_body": True})
                if event.type == EventType.REMOVE_INSTANCE:
                    return
            if not await self.relay.wait_beyond(feed, listener.position, HEARTBEAT):
                await send({"type": "http.response.body", "body": b": alive\n\n", "more_body": True})


def _encode(feed: Feed, listener: Listener, event: Event) -> bytes:
    return _encoded(feed, listener, event.type, bytes(event.envelope))


def _encode_gap(feed: Feed, listener: Listener) -> bytes:
    """Return the event GAP. It has an id, so that a client which reconnects then gets it once."""
    gap = {"event": GAP, "instance": listener.namespace.removeprefix("/"), "data": {"first": listener.position + 1}}
    return _encoded(feed, listener, GAP, orjson.dumps(gap))


def _encoded(feed: Feed, listener: Listener, event_type: str, data: bytes) -> bytes:
    offset = feed.offset(Audience(wants_offsets=True), listener.position) or ""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (offset.encode(), event_type.encode(), data)


def _query(text: bytes) -> dict[str, list[str]]:
    """Parse a query string; raises ApiError for too many fields."""
    try:
        return parse_qs(text.decode(errors="replace"), keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError:
        raise errors.ApiError(f"The query has over {QUERY_FIELDS} fields") from None


def _split(values: list[str]) -> list[str]:
    return [item for value in values if value for item in value.split(",")]


def _message(error: errors.ApiError) -> Any:
    return "Unauthorized" if error.status_code == 401 else [str(error.detail)]


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond_error(send: Send, status: int, message: Any) -> None:
    body = errors.error_response(status, message).content
    await respond(send, status, [(b"content-type", b"application/json")], body)


async def _respond_later(send: Send, reason: str) -> None:
    """Respond with a stream that ends at once, so that the client reconnects by itself."""
    delay = RETRY_DELAY + secrets.randbelow(RETRY_JITTER)
    await respond(send, 200, HEADERS, f": {reason}; reconnect\nretry: {delay}\n\n".encode())
