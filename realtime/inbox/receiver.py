"""The ASGI application for what is posted to inboxes: no key, no session, an empty response."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from instances.access.client_address import client_address
from instances.access.gate import is_allowed_host
from instances.access.rate_limit import failed_authentications, network_of
from instances.asgi import (
    Application,
    AsgiHeaders,
    ClientDisconnected,
    Receive,
    Scope,
    Send,
    peer_of,
    read_body,
    respond,
)
from instances.bounds import INBOX_BYTES, QUEUE_SECONDS
from instances.crypto import MASK
from instances.ingress.body_limit import BodyLimit
from instances.ingress.held_bytes import RETRY_AFTER
from instances.outbound.inbox_urls import PATH, InboxUrl, inbox_path
from realtime.inbox.handover import body_of, store
from realtime.inbox.models import HeaderList
from realtime.inbox.storage import Post, Reply

METHOD = "An inbox takes POST requests alone"
GUESSES = "Too many wrong inboxes from this address; try again later"


class InboxReceiver:
    """Serves POST requests below `/inbox/`; `other` serves the rest, and refuses a Host that is not allowed."""

    def __init__(self, other: Application) -> None:
        self.other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PATH):
            await self.other(scope, receive, send)
            return
        headers = AsgiHeaders(scope["headers"])
        if not is_allowed_host(headers.get("host", "")):
            await self.other(scope, receive, send)
            return
        if scope["method"] != "POST":
            await _respond(send, Reply(405, METHOD))
            return
        query = scope["query_string"].decode("latin-1")
        url = inbox_path(scope["path"], query) or InboxUrl("", query)  # no inbox has an empty id
        address = client_address(peer_of(scope), headers.get("x-forwarded-for", ""))
        kept = list(_kept(scope))

        async def take(_: Scope, receive: Receive, send: Send) -> None:
            try:
                body = await read_body(receive)
            except ClientDisconnected:
                return
            await _respond(send, await _reply(Post(url, kept, body, address)))

        await BodyLimit(take, max_size=INBOX_BYTES)(scope, receive, send)


def _kept(scope: Scope) -> Iterator[tuple[str, str]]:
    """Yield the headers that are kept. Those by which a browser logs in are masked: another site's page, which chose
    the inbox, may have sent the request.
    """
    by_browser = any(name == b"origin" for name, _ in scope["headers"])
    hidden = {b"cookie", b"authorization"} if by_browser else {b"cookie"}
    for name, value in scope["headers"]:
        yield name.decode("latin-1"), MASK if name.lower() in hidden else value.decode("latin-1")


async def _reply(post: Post) -> Reply:
    """Store a request, and return its response, 404 or 429 for an unknown inbox."""
    try:
        async with asyncio.timeout(QUEUE_SECONDS):
            reply = await store(post, holder=network_of(post.address))
    except TimeoutError:
        return Reply(503, f"The request waited {QUEUE_SECONDS} s for those before it", retry_after=RETRY_AFTER)
    if reply.status == 404 and not failed_authentications.allows(post.address):
        return Reply(429, GUESSES)
    return reply


def _headers_of(reply: Reply) -> HeaderList:
    """Return the headers of a response that depend on it."""
    headers = [("content-type", "application/json")] if reply.message else []
    if reply.status == 405:
        headers.append(("allow", "POST"))
    if reply.retry_after is not None:
        headers.append(("retry-after", str(reply.retry_after)))
    return headers


async def _respond(send: Send, reply: Reply) -> None:
    body = body_of(reply)
    headers = [(name.encode(), value.encode()) for name, value in _headers_of(reply)]
    await respond(send, reply.status, [*headers, (b"content-length", str(len(body)).encode())], body)
