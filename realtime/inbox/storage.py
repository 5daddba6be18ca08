"""Stores what is posted to inboxes, over HTTP or by the dispatcher of this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from django.db import transaction
from django.utils import timezone

from instances.bounds import INBOX_BYTES, INBOX_POSTS_PER_MINUTE, INBOX_REQUESTS
from instances.crypto import UnreadableSecret
from instances.outbound.inbox_urls import InboxUrl
from realtime.inbox.models import HeaderList, Inbox, InboxRequest, by_name
from realtime.inbox.signature import Finding, Verdict, check

#: The time in which INBOX_POSTS_PER_MINUTE are taken.
MINUTE = timedelta(minutes=1)

#: Rows that one transaction of the retention deletes: 64 KiB each, so that writers soon get the lock.
BATCH = 50

NOT_FOUND = "There is no such inbox, or it has expired"
TOO_LARGE = f"An inbox takes bodies of up to {INBOX_BYTES} bytes"
TOO_MANY = f"An inbox takes {INBOX_POSTS_PER_MINUTE} requests a minute; try again later"


@dataclass(frozen=True)
class Sender:
    """The endpoint of this server whose delivery is handed over."""

    #: 0 or below for an endpoint of the environment.
    endpoint_id: int
    #: The secrets that sign its deliveries, and the words that say whose they are: "of endpoint 7".
    secrets: Sequence[str]
    owner: str


@dataclass(frozen=True)
class Post:
    """A POST request to an inbox."""

    url: InboxUrl
    headers: HeaderList
    #: None for one over INBOX_BYTES.
    body: bytes | None
    #: The client's address, "" for a delivery of this server.
    address: str = ""
    sender: Sender | None = None


@dataclass(frozen=True)
class Reply:
    """The response to a POST request: 200 without a body, or an error with a message for the user."""

    status: int
    message: str = ""
    #: Seconds until the next request is taken, for a 429.
    retry_after: int | None = None


def receive(post: Post) -> Reply:
    """Store a request in its inbox, in place of the oldest if it is full."""
    body = post.body
    if body is None or len(body) > INBOX_BYTES:
        return Reply(413, TOO_LARGE)
    found = Inbox.objects.live().with_url_id(post.url.id)
    inbox = found.first()
    if inbox is None:
        return Reply(404, NOT_FOUND)
    if refusal := _refusal(inbox, timezone.now()):  # without a transaction: on SQLite all writers wait for its lock
        return refusal
    with transaction.atomic():
        # by the primary key: PostgreSQL would lock the user's row, too, where it is joined
        inbox = Inbox.objects.select_for_update().filter(pk=inbox.pk).first()
        if inbox is None:
            return Reply(404, NOT_FOUND)
        now = timezone.now()
        if refusal := _refusal(inbox, now):
            return refusal
        _count(inbox, now)
        _store(inbox, post, body, now)
        newest = inbox.requests.order_by("-pk").values_list("pk", flat=True)[:INBOX_REQUESTS]
        inbox.requests.exclude(pk__in=list(newest)).delete()
    return Reply(200)


def _refusal(inbox: Inbox, now: datetime) -> Reply | None:
    """Return the refusal of a request that is beyond the rate of its inbox."""
    if inbox.minute_began_at is None or inbox.minute_count < INBOX_POSTS_PER_MINUTE:
        return None
    rest = (inbox.minute_began_at + MINUTE - now).total_seconds()
    return Reply(429, TOO_MANY, retry_after=ceil(rest)) if rest > 0 else None


def _count(inbox: Inbox, now: datetime) -> None:
    if inbox.minute_began_at is None or inbox.minute_began_at + MINUTE <= now:
        inbox.minute_began_at, inbox.minute_count = now, 0
    inbox.minute_count += 1
    inbox.save(update_fields=["minute_began_at", "minute_count"])


def _store(inbox: Inbox, post: Post, body: bytes, now: datetime) -> None:
    request = InboxRequest(
        inbox=inbox, received_at=now, address=post.address, path=post.url.rest, body=body, size=len(body)
    )
    if post.sender:
        request.endpoint_id = post.sender.endpoint_id
    request.keep_headers(post.headers)
    request.keep_finding(_finding(inbox, post, body, now.timestamp()))
    request.save()


def _finding(inbox: Inbox, post: Post, body: bytes, at: float) -> Finding:
    if post.sender is None:
        try:
            return inbox.judge(post.headers, body, at)
        except UnreadableSecret as error:
            return Finding(Verdict.UNCHECKED, f"The secret of this inbox cannot be read. {error}")
    return check(by_name(post.headers), body, post.sender.secrets, at, post.sender.owner)


def delete_expired() -> bool:
    """Delete a batch of what has expired; return whether there may be another batch."""
    expired = Inbox.objects.filter(expires_at__lte=timezone.now())
    with transaction.atomic():
        requests = InboxRequest.objects.filter(inbox__in=expired).order_by("pk").values_list("pk", flat=True)
        batch = list(requests[:BATCH])
        InboxRequest.objects.filter(pk__in=batch).delete()
        if len(batch) < BATCH:
            expired.filter(requests=None).delete()
    return len(batch) == BATCH
