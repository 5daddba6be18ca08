"""GET /event/stream/<instance>: the events of the instance's namespace as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Plain ASGI, as WSGI would hold a thread per listener.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.db import Error as DatabaseError
from socketio.exceptions import ConnectionRefusedError

from instances import errors
from instances.access.client_address import client_address
from instances.asgi import Receive, Scope, Send, respond
from instances.events import EventType, UnknownEvent
from instances.ingress.body_limit import MAX_QUERY_FIELDS
from realtime.database import database
from realtime.fanout.authorization import UNAUTHORIZED, Credentials, Membership
from realtime.fanout.feeds import Audience, Feed, Listener
from realtime.fanout.namespaces import Member, Namespaces
from realtime.fanout.recovery import ResumeRequest
from realtime.fanout.relay import Relay
from realtime.log.models import Event

logger = logging.getLogger(__name__)

PATH = "/event/stream/"

#: Seconds without an event before a comment is sent, so that proxies do not close the connection as idle.
HEARTBEAT = 15


class EventStream:
    """The ASGI application for `/event/stream/<instance>`."""

    def __init__(self, relay: Relay, namespaces: Namespaces) -> None:
        self.relay = relay
        self.namespaces = namespaces
        #: The task of each open stream that sends its events.
        self._senders: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await respond(send, 204, _with_cors([(b"access-control-allow-headers", b"apikey, last-event-id")]))
            return
        if scope["method"] != "GET":
            await _respond_error(send, 404, [f"Cannot {scope['method']} {scope['path']}"])
            return
        headers = {name: value.decode(errors="replace") for name, value in scope["headers"]}
        try:
            query = _query(scope["query_string"])
            membership = await self._authorize(scope, headers, query)
            audience = Audience(events=ResumeRequest(events=_split(query.get("events", []))).event_filter())
        except UnknownEvent as error:
            await _respond_error(send, 400, [str(error)])
            return
        except errors.ApiError as error:
            await _respond_error(send, error.status_code, _message(error))
            return
        except DatabaseError:
            logger.exception("A stream could not be authorised")
            await _respond_error(send, 503, ["The database does not answer; try again"])
            return
        await self._serve(membership, audience, receive, send)

    async def _authorize(self, scope: Scope, headers: dict[bytes, str], query: dict[str, list[str]]) -> Membership:
        """Authorize a request; raises ApiError as a REST route would."""
        name = scope["path"].removeprefix(PATH)
        keys = (headers[b"apikey"],) if b"apikey" in headers else ()
        peer = (scope.get("client") or ("", 0))[0]
        address = client_address(peer, headers.get(b"x-forwarded-for", ""))
        credentials = Credentials(keys, tuple(query.get("token", [])), peer, address)
        last_event_id = headers.get(b"last-event-id")
        since = query.get("since", [""])[0]
        seq_or_offset = int(since) if since.isdecimal() and len(since) < 19 else since
        resume = ResumeRequest(since=seq_or_offset if last_event_id is None else last_event_id)
        try:
            return await database(Membership.authorize, f"/{name}", credentials, resume)
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
        listener = Listener(sid, namespace, membership.instance_id, membership.start.position, audience)
        sender = asyncio.ensure_future(self._send_events(listener, send))
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

    async def _send_events(self, listener: Listener, send: Send) -> None:
        headers = _with_cors([(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
        feed = await self.relay.add_listener(listener)
        while True:
            async for event in self.relay.replay(feed, listener):
                await send({"type": "http.response.body", "body": _encode(feed, listener, event), "more_body": True})
                if event.type == EventType.REMOVE_INSTANCE:
                    return
            if not await self.relay.wait_beyond(feed, listener.position, HEARTBEAT):
                await send({"type": "http.response.body", "body": b": alive\n\n", "more_body": True})


def _encode(feed: Feed, listener: Listener, event: Event) -> bytes:
    offset = feed.offset(Audience(wants_offsets=True), listener.position) or ""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (offset.encode(), event.type.encode(), bytes(event.envelope))


def _query(text: bytes) -> dict[str, list[str]]:
    """Parse a query string; raises ApiError for too many fields."""
    try:
        return parse_qs(text.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise errors.ApiError(f"The query has over {MAX_QUERY_FIELDS} fields") from None


def _split(values: list[str]) -> list[str]:
    return [item for value in values if value for item in value.split(",")]


def _message(error: errors.ApiError) -> Any:
    return "Unauthorized" if error.status_code == 401 else [str(error.detail)]


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_cors(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*headers, (b"access-control-allow-origin", b"*")] if settings.CORS_ALLOW_ALL_ORIGINS else headers


async def _respond_error(send: Send, status: int, message: Any) -> None:
    body = errors.error_response(status, message).content
    await respond(send, status, _with_cors([(b"content-type", b"application/json")]), body)
