"""GET /event/stream/<instance>: the same events as on the socket, as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Plain ASGI: WSGI would hold a thread for each listener.
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
from instances.events import EventType
from instances.ingress.body_limit import MAX_QUERY_FIELDS
from realtime.database import database
from realtime.fanout.authorization import UNAUTHORIZED, Credentials, Membership
from realtime.fanout.feeds import Audience, Feed, Listener
from realtime.fanout.namespaces import Member, Namespaces
from realtime.fanout.recovery import ResumeRequest, event_types
from realtime.fanout.relay import Relay
from realtime.log.models import Event

logger = logging.getLogger(__name__)

PATH = "/event/stream/"

#: Seconds after which a line that means nothing is sent, so that nobody on the way takes the connection for dead.
HEARTBEAT = 15


class EventStream:
    def __init__(self, relay: Relay, namespaces: Namespaces) -> None:
        self.relay = relay
        self.namespaces = namespaces
        self._open: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await respond(send, 204, _with_cors([(b"access-control-allow-headers", b"apikey, last-event-id")]))
            return
        if scope["method"] != "GET":
            await _refuse(send, 404, [f"Cannot {scope['method']} {scope['path']}"])
            return
        headers = {name: value.decode(errors="replace") for name, value in scope["headers"]}
        try:
            query = _query(scope["query_string"])
            join = await self._authorize(scope, headers, query)
        except errors.ApiError as refusal:
            await _refuse(send, refusal.status_code, _words(refusal))
            return
        except DatabaseError:
            logger.exception("A stream could not be authorised")
            await _refuse(send, 503, ["The database does not answer; try again"])
            return
        audience = Audience(events=event_types(_listed(query, "events")) if "events" in query else None)
        await self._serve(join, audience, receive, send)

    async def _authorize(self, scope: Scope, headers: dict[bytes, str], query: dict[str, list[str]]) -> Membership:
        """Raises ApiError as REST would."""
        name = scope["path"].removeprefix(PATH)
        keys = tuple(headers[place] for place in (b"apikey",) if place in headers)
        peer = (scope.get("client") or ("", 0))[0]
        address = client_address(peer, headers.get(b"x-forwarded-for", ""))
        credentials = Credentials(keys, tuple(query.get("token", [])), peer, address)
        last = headers.get(b"last-event-id")
        since = query.get("since", [""])[0]
        resume = ResumeRequest(
            since=last if last is not None else int(since) if since.isdecimal() and len(since) < 19 else since
        )
        try:
            return await database(Membership.authorize, f"/{name}", credentials, resume)
        except ConnectionRefusedError as refusal:
            if refusal.error_args == {"message": UNAUTHORIZED}:
                raise errors.ApiError("Unauthorized", 401) from None
            accesses = await database(credentials.valid_accesses)
            if accesses and all(access.is_for_all for access in accesses):
                raise errors.ApiError(f'The "{name}" instance does not exist', 404) from None
            raise errors.ApiError("Unauthorized", 401) from None

    async def _serve(self, join: Membership, audience: Audience, receive: Receive, send: Send) -> None:
        """Until the client leaves, may not listen any more, or the server stops."""
        listener = Listener(
            f"stream {secrets.token_hex(8)}", f"/{join.name}", join.instance_id, join.start.position, audience
        )
        telling = asyncio.ensure_future(self._tell(listener, send))
        leaving = asyncio.ensure_future(_left(receive))
        self.namespaces.add(Member(join, listener, disconnect=telling.cancel))
        self._open.add(telling)
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if telling.done() and not telling.cancelled() and telling.exception():
                logger.error("A stream ended: its client comes back", exc_info=telling.exception())
        finally:
            self._open.discard(telling)
            telling.cancel()
            leaving.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
            self.namespaces.remove(listener.sid)
            self.relay.remove_listener(listener)
        await send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """End all streams; their clients come back by themselves."""
        for telling in self._open:
            telling.cancel()

    async def _tell(self, listener: Listener, send: Send) -> None:
        headers = _with_cors([(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
        feed = await self.relay.add_listener(listener)
        while True:
            async for event in self.relay.replay(feed, listener):
                await send({"type": "http.response.body", "body": _rendered(feed, listener, event), "more_body": True})
                if event.type == EventType.REMOVE_INSTANCE:
                    return
            if not await self.relay.wait_beyond(feed, listener.position, HEARTBEAT):
                await send({"type": "http.response.body", "body": b": alive\n\n", "more_body": True})


def _rendered(feed: Feed, listener: Listener, event: Event) -> bytes:
    offset = feed.offset(Audience(wants_offsets=True), listener.position) or ""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (offset.encode(), event.type.encode(), bytes(event.envelope))


def _query(text: bytes) -> dict[str, list[str]]:
    """Raises ApiError for too many fields."""
    try:
        return parse_qs(text.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise errors.ApiError(f"The query has over {MAX_QUERY_FIELDS} fields") from None


def _listed(query: dict[str, list[str]], name: str) -> list[Any]:
    return [one for value in query[name] for one in value.split(",")]


def _words(refusal: errors.ApiError) -> Any:
    return "Unauthorized" if refusal.status_code == 401 else [str(refusal.detail)]


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_cors(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*headers, (b"access-control-allow-origin", b"*")] if settings.CORS_ALLOW_ALL_ORIGINS else headers


async def _refuse(send: Send, status: int, message: Any) -> None:
    body = errors.error_response(status, message).content
    await respond(send, status, _with_cors([(b"content-type", b"application/json")]), body)
