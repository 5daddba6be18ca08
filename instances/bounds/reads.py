"""Bounds of the routes that read stored messages, chats and contacts."""

from __future__ import annotations

from instances.bounds.bound import Holder, bound

PAGE_ROWS = bound(
    "LIMIT_PAGE_ROWS",
    1000,
    "rows",
    Holder.KEY,
    limits="rows in a response of `/chat/find…`",
    beyond="400 for a greater `offset`, `take` or `limit`; findChats and findContacts without one return the newest so"
    " many",
)
PAGE_BYTES = bound(
    "LIMIT_PAGE_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.KEY,
    limits="contents of messages in a response of `/chat/findMessages`, but one at least",
    beyond="the messages beyond have an empty `message`, and `isTrimmed`: ask for them by `where.key.id`",
)
LAST_MESSAGE_BYTES = bound(
    "LIMIT_LAST_MESSAGE_BYTES",
    32 * 1024,
    "bytes",
    Holder.KEY,
    limits="the content of a `lastMessage` in a response of `/chat/findChats`, where media are left out anyway",
    beyond="its `message` is empty",
)
COUNTED_MESSAGES = bound(
    "LIMIT_COUNTED_MESSAGES",
    10_000,
    "messages",
    Holder.KEY,
    limits="messages that are counted for the `total` of a filter other than `remoteJid`",
    beyond="`total` is this number, or what the pages up to the present one hold and one more",
)
