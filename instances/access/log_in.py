"""The gate of log-ins at the admin, in front of Django: guesses are limited, and hashing passwords holds nobody up.

To check a password takes a quarter of a second of a core. Log-ins have threads of their own, so that neither REST nor
a user with a session waits for them, and few wait at a time. They are limited before a password is hashed: by address,
and by address and name. A name alone is only slowed: otherwise anybody could lock its owner out. Nothing is stored for
a guess; the buckets of the limits are in memory, and bounded.

django-axes and django-defender store each failure, in the database or in Redis, and like django-ratelimit they count
requests, but bound neither the hashes that run at a time nor those that wait for a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from django.core.exceptions import SuspiciousOperation
from django.http import QueryDict

from instances import errors
from instances.access.gate import Caller
from instances.access.rate_limit import RateLimiter, network_of
from instances.asgi import (
    Application,
    AsgiHeaders,
    BodyTooLarge,
    ClientDisconnected,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
)
from instances.bounds import (
    LOG_IN_BYTES,
    LOG_IN_DELAY,
    LOG_INS,
    LOG_INS_OF_NAME,
    LOG_INS_OF_NAME_PER_MINUTE,
    LOG_INS_PER_MINUTE,
    LOG_INS_UNSLOWED,
    PASSWORD_HASHES,
    PASSWORD_QUEUE,
)

logger = logging.getLogger(__name__)

FORM = "application/x-www-form-urlencoded"
BUSY = "Too many log-ins and new passwords wait already; try again in some seconds"
TOO_MANY = "Too many log-ins from this address; try again later"
#: Seconds after which a client may try again, when too many wait.
RETRY_AFTER = 5
#: Seconds between two lines of the log about refused log-ins.
LOG_INTERVAL = 60


class PasswordGate:
    """ASGI middleware for requests that hash a password: PASSWORD_HASHES run at a time, PASSWORD_QUEUE wait, and others
    are refused with 429. At most half of those that wait come from one address.
    """

    def __init__(self, app: Application) -> None:
        """`app` has threads of its own, as many as the hashes that run at a time or more."""
        self.app = app
        self._running = asyncio.Semaphore(PASSWORD_HASHES)
        #: The number of requests that wait, in all (None) and by holder: an address or a name.
        self._waiting: Counter[Hashable] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        holders = [_address(scope)]
        if self._running.locked() and self.is_full(holders):
            await refuse(send, 429, BUSY, RETRY_AFTER)
        else:
            await self.pass_on(scope, receive, send, holders)

    def is_full(self, holders: Sequence[Hashable]) -> bool:
        """Return whether no further request may wait, or none of one of these holders."""
        has_half = any(self._waiting[holder] >= PASSWORD_QUEUE // 2 for holder in holders)
        return has_half or self._waiting[None] >= PASSWORD_QUEUE

    async def pass_on(
        self, scope: Scope, receive: Receive, send: Send, holders: Sequence[Hashable], delay: float = 0
    ) -> None:
        """Pass the request on after `delay` seconds, when a hash may run."""
        self._waiting.update([None, *holders])
        try:
            await asyncio.sleep(delay)
            await self._running.acquire()
        finally:
            self._waiting.subtract([None, *holders])
            self._waiting = +self._waiting  # without those that are 0
        try:
            await self.app(scope, receive, send)
        finally:
            self._running.release()


class LogInGate(PasswordGate):
    """ASGI middleware for the form that logs in at the admin."""

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self._by_address = RateLimiter(LOG_INS_PER_MINUTE / 60, LOG_INS)
        self._by_address_and_name = RateLimiter(LOG_INS_OF_NAME_PER_MINUTE / 60, LOG_INS_OF_NAME)
        self._by_name = RateLimiter(1 / LOG_IN_DELAY, LOG_INS_UNSLOWED)
        self._refused = 0
        self._logged_at = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if AsgiHeaders(scope["headers"]).get("content-type", "").partition(";")[0].strip().lower() != FORM:
            await refuse(send, 415, f"A log-in is a form, and so of the type {FORM}")
            return
        try:
            body = await read_body(receive, max_size=LOG_IN_BYTES)
        except ClientDisconnected:
            return
        except BodyTooLarge:
            await refuse(send, 413, f"A log-in is over {LOG_IN_BYTES} bytes")
            return
        address, name = _address(scope), _name_digest(body)
        delay = min(LOG_IN_DELAY, self._by_name.seconds_until_allowed(name))
        if (delay or self._running.locked()) and self.is_full([address, name]):
            await refuse(send, 429, BUSY, RETRY_AFTER)
            return
        counted: list[tuple[RateLimiter, Hashable]] = []
        # of a name first: whoever tries his own name over and over does not use up what others have at his address
        for limiter, subject in ((self._by_address_and_name, (address, name)), (self._by_address, address)):
            if not limiter.allows(subject):
                _give_back(counted)
                self._log_refusal(address)
                await refuse(send, 429, TOO_MANY, math.ceil(limiter.seconds_until_allowed(subject)))
                return
            counted.append((limiter, subject))
        if self._by_name.allows(name):  # otherwise it is delayed, and not refused
            counted.append((self._by_name, name))

        async def send_counted(message: Message) -> None:
            # wrong guesses alone count, which show the form again: not what Django refuses unhashed, because another
            # site's page has sent it (CSRF), by which that site could lock out whoever looks at the page
            if message["type"] == "http.response.start" and message["status"] != 200:
                _give_back(counted)
            await send(message)

        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_body() -> Message:
            return next(messages, None) or await receive()

        await self.pass_on(scope, receive_body, send_counted, [address, name], delay)

    def _log_refusal(self, address: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL:
            logger.warning("Log-ins at the admin are refused: %s, the last one from %s", self._refused, address)
            self._refused, self._logged_at = 0, now


def _give_back(counted: Iterable[tuple[RateLimiter, Hashable]]) -> None:
    for limiter, subject in counted:
        limiter.give_back(subject)


def _address(scope: Scope) -> str:
    return network_of(Caller.of(scope).address)


def _name_digest(body: bytes) -> bytes:
    """Return a digest of the user name in a form, as Django reads and normalizes it, whatever its length and case."""
    try:
        name = QueryDict(body).get("username") or ""
    except SuspiciousOperation:  # too many fields: Django refuses it, too
        name = ""
    normalized = unicodedata.normalize("NFKC", str(name)).strip().casefold()
    return hashlib.blake2b(normalized.encode(errors="replace"), digest_size=16).digest()


async def refuse(send: Send, status: int, message: str, retry_after: int = 0) -> None:
    """Respond with an error; `retry_after`: the seconds after which to try again, 0 for none."""
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if retry_after:
        headers.append((b"retry-after", str(retry_after).encode()))
    body = errors.error_response(status, [message]).content
    await respond(send, status, [*headers, (b"content-length", str(len(body)).encode())], body)
