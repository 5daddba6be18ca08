"""The way of a request into an inbox: posted over HTTP, or handed over by a delivery of this server."""

from __future__ import annotations

import logging

from instances import errors
from instances.errors import DATABASE_ERRORS, database_error
from instances.ingress.held_bytes import RETRY_AFTER
from realtime.database import Pool, database
from realtime.inbox import storage
from realtime.inbox.storage import Post, Reply

logger = logging.getLogger(__name__)


async def hand_over(post: Post) -> Reply:
    """Store a delivery of this server as if it were posted, without a connection."""
    return await store(post, holder=post.url.id)


async def store(post: Post, holder: str) -> Reply:
    """Store a request in a thread; of these a `holder` has half at most."""
    try:
        return await database(storage.receive, post, pool=Pool.INBOXES, holder=holder)
    except DATABASE_ERRORS as error:
        logger.error("A request to an inbox was not stored: %s", error)
        return Reply(503, str(database_error(error).detail), retry_after=RETRY_AFTER)


def body_of(reply: Reply) -> bytes:
    """Return the body of a response: empty, or JSON in the shape of all errors."""
    return errors.error_response(reply.status, [reply.message]).content if reply.message else b""
