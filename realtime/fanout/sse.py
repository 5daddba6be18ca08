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
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from django.db import Error as DatabaseError
from socketio.exceptions import ConnectionRefusedError

from instances import errors
from instances.access.gate import Caller
from instances.asgi import AsgiHeaders, Receive, Scope, Send, respond
from instances.bounds import QUERY_FIELDS
from instances.events import EventType
from instances.spelling import describe_unknown
from realtime.database import database
from realtime.fanout.authorization import UNAUTHORIZED, Credentials, Membership, NamespaceGrant
from realtime.fanout.feeds import Audience, Feed, Listener
from realtime.fanout.namespaces import Member, Namespaces
from realtime.fanout.offset import Offset
from realtime.fanout.options import SINCE_FORM, InvalidOption, parse_event_filter, parse_since, single
from realtime.fanout.recovery import ResumeRequest, Since, StartPosition, beyond
from realtime.fanout.relay import Relay
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.socketio.handshake import MAX_KEYS, Client
from realtime.socketio.server import TryLater

logger = logging.getLogger(__name__)

PATH = "/event/stream/"

#: Seconds without an event before a comment is sent, so that proxies do not close the connection as idle.
HEARTBEAT = 15

#: Milliseconds until a client whose stream could not begin reconnects, at least; and how many more, at random, so that
#: not all come at once.
RETRY_DELAY, RETRY_JITTER = 3000, 5000

#: The event which says that events before the next one are no longer kept.
GAP = "gap"
#: The event which says which of the client's options could not be followed; the stream begins now.
ERROR = "error"

#: The fields of the query. `_` is what some libraries add so that no cache answers.
FIELDS = ("since", "events", "token", "lastEventId", "_")

#: With the second one nginx buffers no response, whatever its configuration.
HEADERS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


@dataclass(frozen=True)
class StreamRequest:
    """The options of a request for a stream: what the options of sockets are."""

    #: The position after which it wants all events; None to begin now.
    since: int | Offset | None
    #: The name of the option that this is from.
    member: str
    #: The values of the event types that it wants; None for all.
    events: frozenset[str] | None
    #: The sentence about a Last-Event-ID that cannot be read, or an empty text.
    complaint: str = ""

    @classmethod
    def of(cls, query: dict[str, list[str]], last_event_id: str | None) -> StreamRequest:
        """Read the query and the header. Raises InvalidOption.

        A Last-Event-ID that cannot be read is no reason to refuse: browsers send it by themselves, and after an error
        never again.
        """
        for name in query:
            if name not in FIELDS:
                raise InvalidOption(describe_unknown("parameter", name, FIELDS[:3]))
        since = _since("since", single("since", query.get("since", ())))
        events = parse_event_filter("events", ",".join(filter(None, query.get("events", ()))))
        # polyfills of EventSource that can set no header have a field of this name
        last_event_id = last_event_id or single("lastEventId", query.get("lastEventId", ()))
        try:
            last = _since("Last-Event-ID", last_event_id)
        except InvalidOption as error:
            start = "at the position of since" if since is not None else "now"
            return cls(since, "since", events, f"{error}. The stream begins {start}")
        return cls(since, "since", events) if last is None else cls(last, "Last-Event-ID", events)


def _since(member: str, value: str | None) -> int | Offset | None:
    """Return the position that an option names. Raises InvalidOption, also for one in the stream of all instances."""
    since = parse_since(member, value)
    if isinstance(since, Offset) and isinstance(since.position, Cursor):
        raise InvalidOption(f"{member} is an offset in the stream of all instances: here it is {SINCE_FORM}")
    return since


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
            grant = await self._authorize(scope, query)
            request = StreamRequest.of(query, AsgiHeaders(scope["headers"]).get("last-event-id"))
            membership = grant.join(ResumeRequest(since=request.since))
        except InvalidOption as error:  # a client that came back by itself would ask for the same
            await _respond_error(send, 400, [str(error)])
            return
        except errors.ApiError as error:
            await _respond_error(send, error.status_code, _message(error))
            return
        except TryLater:
            await respond_later(send, "The access could not be checked now")
            return
        except DatabaseError as error:
            logger.error("A stream could not be authorised, its client reconnects: %s", error)
            await respond_later(send, "The database does not answer")
            return
        except Exception:
            logger.exception("A stream could not be authorised; its client reconnects")
            await respond_later(send, "The server has failed")
            return
        await self._serve(membership, request, Client.of(scope), receive, send)

    async def _authorize(self, scope: Scope, query: dict[str, list[str]]) -> NamespaceGrant:
        """Authorize a request; raises ApiError as a REST route would, TryLater and django.db.Error."""
        name = scope["path"].removeprefix(PATH)
        keys = tuple(value.decode(errors="replace") for header, value in scope["headers"] if header == b"apikey")
        tokens = tuple(query.get("token", ()))
        if len(keys) + len(tokens) > MAX_KEYS:
            raise errors.ApiError(f"The header and the query have over {MAX_KEYS} keys and tokens: send one", 431)
        credentials = Credentials(keys, tokens, Caller.of(scope))
        try:
            return await self.namespaces.grant(f"/{name}", credentials)
        except ConnectionRefusedError as error:
            if error.error_args == {"message": UNAUTHORIZED}:
                raise errors.ApiError("Unauthorized", 401) from None
            accesses = await database(credentials.valid_accesses)
            if accesses and all(access.is_for_all for access in accesses):
                raise errors.ApiError(f'The "{name}" instance does not exist', 404) from None
            raise errors.ApiError("Unauthorized", 401) from None

    async def _serve(
        self, membership: Membership, request: StreamRequest, client: Client, receive: Receive, send: Send
    ) -> None:
        """Send events until the client disconnects, its access ends or the server stops."""
        sid, namespace = f"stream {secrets.token_hex(8)}", f"/{membership.name}"
        listener = membership.listener(sid, namespace, Audience(events=request.events))
        listener.late = deque()
        sender = asyncio.ensure_future(self._send_events(listener, membership.start, request, send))
        disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
        self.namespaces.add(Member(membership, listener, client, disconnect=sender.cancel))
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

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._senders)

    def close(self) -> None:
        """End all streams; their clients reconnect by themselves."""
        for sender in self._senders:
            sender.cancel()

    async def _send_events(self, listener: Listener, start: StartPosition, request: StreamRequest, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
        feed = await self.relay.add_listener(listener)
        if complaint := beyond(request.member, start) if start.since is Since.AHEAD else request.complaint:
            error = _encode_notice(feed, listener, ERROR, errors.body(400, [complaint]))
            await send({"type": "http.response.body", "body": error, "more_body": True})
        if start.since is Since.PRUNED:
            gap = _encode_notice(feed, listener, GAP, {"first": listener.position + 1})
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


def _encode_notice(feed: Feed, listener: Listener, name: str, data: dict[str, Any]) -> bytes:
    """Return an event of the stream itself. It has an id, so that a client which reconnects then gets it once."""
    notice = {"event": name, "instance": listener.namespace.removeprefix("/"), "data": data}
    return _encoded(feed, listener, name, orjson.dumps(notice))


def _encoded(feed: Feed, listener: Listener, event_type: str, data: bytes) -> bytes:
    offset = feed.offset(Audience(wants_offsets=True), listener.position) or ""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (offset.encode(), event_type.encode(), data)


def _query(text: bytes) -> dict[str, list[str]]:
    """Parse a query string; raises ApiError for too many fields."""
    try:
        return parse_qs(text.decode(errors="replace"), keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError:
        raise errors.ApiError(f"The query has over {QUERY_FIELDS} fields") from None


def _message(error: errors.ApiError) -> Any:
    return "Unauthorized" if error.status_code == 401 else [str(error.detail)]


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond_error(send: Send, status: int, message: Any) -> None:
    body = errors.error_response(status, message).content
    await respond(send, status, [(b"content-type", b"application/json")], body)


async def respond_later(send: Send, reason: str) -> None:
    """Respond with a stream that ends at once, so that the client reconnects by itself."""
    delay = RETRY_DELAY + secrets.randbelow(RETRY_JITTER)
    await respond(send, 200, HEADERS, f": {reason}; reconnect\nretry: {delay}\n\n".encode())
