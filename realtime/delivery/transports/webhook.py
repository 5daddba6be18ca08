"""Webhooks: an event is a POST, signed as Standard Webhooks has it, with Evolution API's body."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from multidict import CIMultiDict
from yarl import URL

from instances.events import EventType
from instances.outbound import ssrf_guard
from instances.outbound.webhook_headers import JWT_KEY
from instances.outbound.webhook_secrets import check_secret
from realtime.delivery.transports import masking, retry, signing
from realtime.delivery.transports.base import MAX_ANSWER, Endpoint, Outcome, OutgoingMessage, Result, Transport
from realtime.delivery.transports.connections import new_session
from realtime.delivery.transports.turns import Turns
from realtime.envelope import encode

logger = logging.getLogger(__name__)

#: What receivers that know only Evolution API read, in its order, and then ours.
_TOLD_LAST = ("date_time", "sender", "server_url", "apikey", "id", "seq", "prev", "test")

HEADERS = {
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "identity",  # people read the beginning of the answer, and nobody the rest
    "Content-Type": "application/json",
    "User-Agent": "evoapi-webhook/1",
}

#: Headers that are nobody's secret, whoever stores them.
_NO_SECRETS = {"content-type", "accept", "user-agent"}
#: Bytes up to which a body is written at once; a longer one is in pieces, and lets the others in between.
LARGE = 256 * 1024

#: Errors of sockets that say something to people.
_TELLING = {getattr(errno, name) for name in ("ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT")}


class Webhook(Transport):
    """`options`: `url`, `byEvents`, `base64`, `ordered`. `secrets`: `headers`, `signing` (the newest first).

    `base64` says that media is wanted inside the event; no event here has any yet, so nothing reads it.
    """

    name = "webhook"

    def __init__(self) -> None:
        """Raises ImproperlyConfigured for a WEBHOOK_GLOBAL_SECRET that nothing can be signed with."""
        if settings.WEBHOOK_GLOBAL_SECRET:
            try:
                check_secret(settings.WEBHOOK_GLOBAL_SECRET)
            except ValueError as error:
                raise ImproperlyConfigured(f"WEBHOOK_GLOBAL_SECRET: {error}") from None
        self._sessions: dict[tuple[asyncio.AbstractEventLoop, bool], aiohttp.ClientSession] = {}
        self._turns: dict[asyncio.AbstractEventLoop, Turns] = {}

    def global_endpoints(self) -> list[Endpoint]:
        if not settings.WEBHOOK_GLOBAL_ENABLED:
            return []
        options = {"url": settings.WEBHOOK_GLOBAL_URL, "byEvents": settings.WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS}
        secrets = {"signing": [settings.WEBHOOK_GLOBAL_SECRET]} if settings.WEBHOOK_GLOBAL_SECRET else {}
        return [Endpoint(0, self.name, options, secrets, settings.WEBHOOK_EVENTS)]

    def body(self, envelope: dict[str, Any], endpoint: Endpoint) -> bytes:
        told = {
            "event": envelope["event"],
            "instance": envelope["instance"],
            "data": envelope["data"],
            "destination": _without_password(endpoint.options["url"]),
        }
        return encode(told | {name: envelope[name] for name in _TOLD_LAST if name in envelope})

    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        return _without_password(_target(event_type.value, endpoint))[: ssrf_guard.MAX_URL]

    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        answer, sent, error = _Answer(), CIMultiDict[str](), ""
        try:
            sent = _headers(message, endpoint)
            async with asyncio.timeout(settings.WEBHOOK_REQUEST_TIMEOUT_MS / 1000):
                await self._post(_url(_target(message.type, endpoint)), message.body, sent, endpoint, answer)
        except Exception as failure:
            error = _in_words(failure, answer)
        excerpt = await self._excerpt(answer, _secrets(endpoint, sent), is_whole=not error) if answer.body else ""
        return _outcome(answer, error, excerpt)

    async def _excerpt(self, answer: _Answer, secrets: set[str], is_whole: bool) -> str:
        turns = self._turns.setdefault(asyncio.get_running_loop(), Turns())
        return await turns.do(masking.excerpt(answer.body, secrets, is_whole))

    async def _post(
        self, url: URL, body: bytes, headers: CIMultiDict[str], endpoint: Endpoint, answer: _Answer
    ) -> None:
        """Fills in `answer` as it comes, so that what has come counts when the rest does not."""
        session = self._session(endpoint.is_trusted)
        # what is small is written at once; of more, some answer and do not read it
        upload = aiohttp.UploadTracker() if len(body) > LARGE else None
        data = io.BytesIO(body) if upload else body
        response = await session.post(url, data=data, headers=headers, allow_redirects=False, upload_tracker=upload)
        try:
            answer.status = response.status
            answer.retry_after = response.headers.get("Retry-After")
            while chunk := await response.content.read(MAX_ANSWER - len(answer.body)):
                answer.body += chunk
            if upload and 200 <= response.status < 300:
                await upload.upload_complete  # raises UploadAbortedError
        finally:
            if not response.closed:  # there is more, and nobody reads it: the connection cannot be used again
                response.close()

    def _session(self, is_trusted: bool) -> aiohttp.ClientSession:
        """The session of this event loop for guarded, or for trusted, URLs."""
        key = asyncio.get_running_loop(), is_trusted
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = new_session(is_trusted)
        return session

    async def close(self) -> None:
        """Closes the connections of the running event loop; whoever sends in a loop of its own does this there."""
        loop = asyncio.get_running_loop()
        self._turns.pop(loop, None)
        for key in [key for key in self._sessions if key[0] is loop]:
            await self._sessions.pop(key).close()


# What goes out


def _target(event_type: str, endpoint: Endpoint) -> str:
    url = endpoint.options["url"]
    return f"{url}/{_slug(event_type)}" if endpoint.options.get("byEvents") else url


def _slug(event_type: str) -> str:
    return event_type.replace(".", "-").replace("_", "-").lower()


def _url(url: str) -> URL:
    """Raises ValueError for what is no URL of HTTP; aiohttp knows other schemes."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https"):
        raise ValueError("Neither http nor https")
    return parsed


def _without_password(url: str) -> str:
    """Only a URL of the environment can hold one."""
    if "@" not in url:  # most, and they are not worth parsing
        return url
    try:
        parsed = URL(url)
        return str(parsed.with_user(None)) if parsed.user or parsed.password else url
    except ValueError:
        return url


def _headers(message: OutgoingMessage, endpoint: Endpoint) -> CIMultiDict[str]:
    """Raises ValueError when nothing can be signed with the endpoint's secrets."""
    now = int(time.time())
    headers = CIMultiDict(HEADERS)
    stored = endpoint.secrets.get("headers") or {}
    headers.update({name: value for name, value in stored.items() if name != JWT_KEY})
    if key := stored.get(JWT_KEY):
        headers["Authorization"] = f"Bearer {signing.token(key, now)}"
    headers.update(signing.headers(message.id, now, message.body, endpoint.secrets.get("signing") or ()))
    return headers


# What comes back


@dataclass
class _Answer:
    status: int | None = None
    retry_after: str | None = None
    body: bytes = b""


def _outcome(answer: _Answer, error: str, excerpt: str) -> Outcome:
    """A 2xx whose answer was not all there is none: nobody knows what became of the event."""
    result = Result.RETRY if answer.status is None else retry.result_of_status(answer.status)
    if result is Result.DELIVERED:
        result = Result.RETRY if error else result
    elif answer.status is not None and 300 <= answer.status < 400:
        error = error or "The answer is a redirect, and redirects are not followed"
    elif answer.status is not None and not 200 <= answer.status < 600:
        error = error or f"The answer has no status that ends a request: {answer.status:03}"
    return Outcome(
        result=result,
        status=answer.status,
        excerpt=excerpt,
        error=error,
        retry_after=None if result is Result.DELIVERED else retry.retry_after(answer.retry_after, datetime.now(UTC)),
    )


def _secrets(endpoint: Endpoint, sent: CIMultiDict[str]) -> set[str]:
    """Returns what an answer must not show: a receiver may repeat what it was sent, and what it checks that with."""
    stored = endpoint.secrets.get("headers") or {}
    names = {name.lower() for name in (*stored, "authorization")} - _NO_SECRETS
    values = [sent[name] for name in names if name in sent]
    values += [stored.get(JWT_KEY) or "", *(endpoint.secrets.get("signing") or ())]
    url = URL(endpoint.options["url"])
    if url.user or url.password:  # which go out as Authorization
        values += [url.password or "", aiohttp.encode_basic_auth(url.user or "", url.password or "")]
    return {value for value in values if len(value) >= masking.MIN_MASKED}


def _in_words(failure: Exception, answer: _Answer) -> str:
    """A sentence for people, without what the receiver or our network would rather keep to itself."""
    match failure:
        case TimeoutError():
            what = "answer" if answer.status is None else "complete answer"
            return f"There was no {what} within {settings.WEBHOOK_REQUEST_TIMEOUT_MS / 1000:g} seconds"
        case aiohttp.ClientConnectorDNSError():
            return "The host of the URL was not found"
        case aiohttp.ClientConnectorCertificateError():
            error = failure.certificate_error
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else ""
            return f"The certificate of the host is not valid: {reason}".removesuffix(": ")
        case aiohttp.ClientConnectorSSLError():
            return "There was no encrypted connection to the host"
        case aiohttp.ClientConnectorError(os_error=ssrf_guard.BlockedAddress() as refused):
            return str(refused)
        case aiohttp.ClientConnectorError():
            return f"There was no connection to the host{_reason(failure.os_error)}"
        case aiohttp.UploadAbortedError():
            return "The connection broke before the event was sent whole"
        case aiohttp.ClientConnectionError():
            return f"The connection broke before there was an answer{_reason(failure)}"
        case aiohttp.ClientPayloadError():
            return "The answer broke off, or was garbled"
        case aiohttp.InvalidURL() | KeyError():
            return "The URL is none that can be sent to"
        case aiohttp.ClientResponseError():
            return "The answer is not HTTP"
        case ValueError():
            return "The request cannot be made of this URL, these headers and these secrets"
    logger.error("An attempt failed in a way that is not foreseen: %s", type(failure).__name__)
    return f"The attempt failed: {type(failure).__name__}"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno in _TELLING:
        return f": {os.strerror(error.errno)}"
    return ""
