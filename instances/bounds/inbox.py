"""Bounds of inboxes: URLs that show what is posted to them, for webhooks that are tried without a server."""

from __future__ import annotations

from instances.bounds.bound import Holder, bound

INBOXES = bound(
    "LIMIT_INBOXES",
    20,
    "inboxes",
    Holder.STAFF,
    limits="inboxes that a user has at a time",
    beyond="409 for another one, until one is deleted or expires",
)
INBOX_HOURS = bound(
    "LIMIT_INBOX_HOURS",
    24,
    "hours",
    Holder.STAFF,
    limits="the life of an inbox, from its creation",
    beyond="404 for what is posted to it; it is deleted with all that it holds, within an hour",
)
INBOX_REQUESTS = bound(
    "LIMIT_INBOX_REQUESTS",
    100,
    "requests",
    Holder.STAFF,
    limits="requests that an inbox keeps",
    beyond="the oldest is deleted for the new one",
)
INBOX_BYTES = bound(
    "LIMIT_INBOX_BYTES",
    64 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="the body of a request to an inbox",
    beyond="413, before more of it is read",
)
INBOX_HEADER_BYTES = bound(
    "LIMIT_INBOX_HEADER_BYTES",
    16 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="names and values of the headers that an inbox keeps of a request",
    beyond="the headers after them are left out, which the page says",
)
INBOX_POSTS_PER_MINUTE = bound(
    "LIMIT_INBOX_POSTS_PER_MINUTE",
    60,
    "requests",
    Holder.STRANGER,
    limits="requests that an inbox takes in a minute, in all processes together; the minute begins with the first",
    beyond="429 with `Retry-After`, and the request is not kept",
)
