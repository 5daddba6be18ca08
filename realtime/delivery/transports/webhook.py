"""Webhooks: each event is a POST with Evolution API's body, signed as Standard Webhooks specifies."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from multidict import CIMultiDict
from yarl import URL

from instances.bounds import INBOX_BYTES
from instances.events import EXTRA_MEMBERS, EventType
from instances.models import Subscription
from instances.outbound import ssrf_guard
from instances.outbound.inbox_urls import InboxUrl, inbox_url
from instances.outbound.signing_secrets import active_secrets
from instances.outbound.webhook_headers import JWT_KEY
from instances.outbound.webhook_secrets import check_secret
from instances.outbound.webhook_urls import masked_url
from realtime.delivery.backlog import ONE_OFF
from realtime.delivery.causes import Cause
from realtime.delivery.payload import Payload
from realtime.delivery.transports import masking, retry, signing
from realtime.delivery.transports.base import (
    MAX_RESPONSE,
    Endpoint,
    Outcome,
    OutgoingMessage,
    RenderedBody,
    Result,
    Transport,
)
from realtime.delivery.transports.connections import FOLLOWED, NewConnector, session_with
from realtime.delivery.transports.event_headers import NAMES, event_headers
from realtime.delivery.transports.failures import Failure, RedirectError, describe, drop_tracebacks
from realtime.delivery.transports.turns import Turns
from realtime.envelope import encode
from realtime.inbox.handover import body_of, hand_over
from realtime.inbox.storage import Post, Sender

#: Members of the body before `destination`, and behind it: Evolution API's, in its order, then ours.
_FIRST_MEMBERS = (*EXTRA_MEMBERS, "event", "instance", "data")
_LAST_MEMBERS = ("date_time", "sender", "server_url", "apikey", "id", "seq", "prev", "test")

HEADERS = {
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "identity",  # only the beginning of the response is read, and stored for people
    "Content-Type": "application/json",
    "User-Agent": "evoapi-webhook/1",
}

#: The headers of a request that follows a redirect.
GET_HEADERS = {name: value for name, value in HEADERS.items() if name != "Content-Type"}

#: Stored headers that are not secret.
_NOT_SECRET = {"content-type", "accept", "user-agent"}
#: Bytes up to which a body is written at once; a longer one is written in pieces, so that the loop responds in between.
MAX_SINGLE_WRITE = 256 * 1024
#: Bytes that are signed, or written, in one piece.
PIECE = 64 * 1024


class Webhook(Transport):
    """The webhook transport.

    An endpoint's `options` are `url`, `byEvents`, `base64`, `ordered` and `followRedirects`; its `secrets` are
    `headers` and `signing` (the newest first). `base64` asks for media inside the event; no event has any yet, so it is
    not read.
    """

    name = Subscription.WEBHOOK
    title = "Webhook"
    has_own_routes = True

    def __init__(self) -> None:
        """Raise ImproperlyConfigured for a WEBHOOK_GLOBAL_SECRET that cannot sign."""
        if settings.WEBHOOK_GLOBAL_SECRET:
            try:
                check_secret(settings.WEBHOOK_GLOBAL_SECRET)
            except ValueError as error:
                raise ImproperlyConfigured(f"WEBHOOK_GLOBAL_SECRET: {error}") from None
        self._sessions: dict[tuple[asyncio.AbstractEventLoop, NewConnector], aiohttp.ClientSession] = {}
        self._turns: dict[asyncio.AbstractEventLoop, Turns] = {}

    def target(self, options: Mapping[str, Any]) -> str:
        return masked_url(str(options.get("url", "")))

    def global_endpoints(self) -> list[Endpoint]:
        if not settings.WEBHOOK_GLOBAL_ENABLED:
            return []
        options = {"url": settings.WEBHOOK_GLOBAL_URL, "byEvents": settings.WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS}
        secrets = {"signing": [settings.WEBHOOK_GLOBAL_SECRET]} if settings.WEBHOOK_GLOBAL_SECRET else {}
        return [Endpoint(0, self.name, options, secrets, settings.WEBHOOK_EVENTS)]

    def body(self, envelope: Mapping[str, Any]) -> RenderedBody:
        """Render all members but `destination`, which is the endpoint's own: its place is between data and date."""
        first = {name: envelope[name] for name in _FIRST_MEMBERS if name in envelope}
        last = {name: envelope[name] for name in _LAST_MEMBERS if name in envelope}
        data = encode(first | last)
        # the end of data is the last members as they are rendered alone, with a comma in place of the brace
        return RenderedBody(data, len(data) - len(encode(last)))

    def own_part(self, endpoint: Endpoint) -> bytes:
        return b',"destination":' + encode(_without_password(endpoint.options["url"]))

    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        return _without_password(_target(event_type.value, endpoint))[: ssrf_guard.MAX_URL]

    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        received, headers = _Received(), CIMultiDict[str]()
        failure: Failure | None = None
        try:
            headers = _stored_headers(endpoint)
            headers.update(event_headers(message.instance_id, message.instance_name, message.type, message.payload))
            headers.update(await self._signature(message, endpoint))
            async with asyncio.timeout(settings.WEBHOOK_REQUEST_TIMEOUT_MS / 1000):
                target = _target(message.type, endpoint)
                url = _url(target)
                if inbox := inbox_url(target):
                    await _hand_over(inbox, url, message, headers, endpoint, received)
                else:
                    await self._post(url, message, headers, endpoint, received)
                if received.status in FOLLOWED and endpoint.options.get("followRedirects"):
                    received.followed = _Received()
                    await self._follow(url, received.location, received.followed)
        except Exception as error:
            failure = describe(error, (received.followed or received).status is not None)
            drop_tracebacks(error)
        excerpt = ""
        if received.body:
            excerpt = await self._excerpt(received, _secrets(endpoint, headers), is_complete=failure is None)
        return _outcome(received, failure, excerpt)

    async def _signature(self, message: OutgoingMessage, endpoint: Endpoint) -> dict[str, str]:
        """Return the headers that sign an attempt. Raises ValueError if the endpoint's secrets cannot sign."""
        now = int(time.time())
        secrets = active_secrets(endpoint.secrets, now)
        if len(message.payload) <= MAX_SINGLE_WRITE:
            return signing.headers(message.id, now, message.body, secrets)
        pieces = message.payload.pieces(PIECE)
        return await self._turns_of_loop().run(signing.headers_in_slices(message.id, now, pieces, secrets))

    async def _excerpt(self, received: _Received, secrets: set[str], is_complete: bool) -> str:
        return await self._turns_of_loop().run(masking.excerpt(received.body, secrets, is_complete))

    def _turns_of_loop(self) -> Turns:
        return self._turns.setdefault(asyncio.get_running_loop(), Turns())

    async def _post(
        self, url: URL, message: OutgoingMessage, headers: CIMultiDict[str], endpoint: Endpoint, received: _Received
    ) -> None:
        """Send the request, and fill in `received` part by part: what was received counts even if the rest is not."""
        session = self._session(ssrf_guard.trusting_connector if endpoint.is_trusted else ssrf_guard.connector)
        # a small body is written at once; of a large one, some receivers respond without having read it
        upload = aiohttp.UploadTracker() if len(message.payload) > MAX_SINGLE_WRITE else None
        data = Pieces(message.payload) if upload else message.body
        response = await session.post(url, data=data, headers=headers, allow_redirects=False, upload_tracker=upload)
        try:
            received.status = response.status
            received.retry_after, received.location = (response.headers.get(n) for n in ("Retry-After", "Location"))
            await _read_body(response, received)
            if upload and (200 <= response.status < 300 or response.status in FOLLOWED):
                await upload.upload_complete  # raises UploadAbortedError
        finally:
            if not response.closed:  # the rest is not read, so the connection cannot be reused
                response.close()

    async def _follow(self, url: URL, location: str | None, received: _Received) -> None:
        """GET the URL that a receiver redirects to, without what is the endpoint's own, and fill in the status.

        The SSRF guard checks it whoever the endpoint's URL is of: it comes from outside. Raises ValueError for one that
        is not followed.
        """
        target = _redirect(url, location)
        guard = ssrf_guard.connector if target.scheme == "https" else ssrf_guard.plain_text_connector
        response = await self._session(guard).get(target, headers=GET_HEADERS, allow_redirects=False)
        received.status = response.status
        response.close()

    def _session(self, connector: NewConnector) -> aiohttp.ClientSession:
        """Return the event loop's session with connections of that guard."""
        key = asyncio.get_running_loop(), connector
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = session_with(connector)
        return session

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        self._turns.pop(loop, None)
        for key in [key for key in self._sessions if key[0] is loop]:
            await self._sessions.pop(key).close()


async def _hand_over(
    inbox: InboxUrl,
    url: URL,
    message: OutgoingMessage,
    headers: CIMultiDict[str],
    endpoint: Endpoint,
    received: _Received,
) -> None:
    """Give the request to an inbox of this server, inside the process, and fill in `received` as its response would."""
    size = len(message.payload)
    sent = [("Host", url.authority), *headers.items(), ("Content-Length", str(size))]
    sender = Sender(endpoint.id, active_secrets(endpoint.secrets, time.time()), _owner_of_secret(endpoint))
    body = message.body if size <= INBOX_BYTES else None
    reply = await hand_over(Post(inbox, sent, body, sender=sender))
    received.status, received.body = reply.status, body_of(reply)
    received.retry_after = None if reply.retry_after is None else str(reply.retry_after)


def _owner_of_secret(endpoint: Endpoint) -> str:
    """Return whose secret signs an endpoint's deliveries, as a continuation of "the secret"."""
    if endpoint.is_trusted:
        return "WEBHOOK_GLOBAL_SECRET"
    return "that was given to send it again" if endpoint.id >= ONE_OFF else f"of endpoint {endpoint.id}"


# The request


class Pieces(aiohttp.Payload):
    """The body of a request, written in pieces that are not copied before, with turns of the loop in between."""

    _value: Payload

    def __init__(self, payload: Payload) -> None:
        super().__init__(payload)
        self._size = len(payload)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value.pieces(PIECE):
            await writer.write(piece)
            await asyncio.sleep(0)


def _target(event_type: str, endpoint: Endpoint) -> str:
    """Return the URL of a delivery; with `byEvents`, its path is extended by the type: query and fragment stay."""
    url = endpoint.options["url"]
    if not endpoint.options.get("byEvents"):
        return url
    path = re.split("[?#]", url, maxsplit=1)[0]
    return f"{path.removesuffix('/')}/{_slug(event_type)}{url[len(path) :]}"


def _slug(event_type: str) -> str:
    return event_type.replace(".", "-").replace("_", "-").lower()


def _url(url: str) -> URL:
    """Parse a URL. Raises ValueError unless its scheme is http or https: aiohttp accepts others."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https"):
        raise ValueError("Neither http nor https")
    return parsed


def _redirect(url: URL, location: str | None) -> URL:
    """Return the URL of a redirect. Raises RedirectError."""
    if not location:
        raise RedirectError("It has no Location")
    try:
        target = url.join(URL(location, encoded=location.isascii()))  # as it is: it may be signed
    except ValueError:  # its text might repeat the URL
        raise RedirectError("The URL is not valid") from None
    try:
        ssrf_guard.check_url(str(target))
    except ValueError as error:
        raise RedirectError(str(error)) from None
    return target


def _without_password(url: str) -> str:
    """Remove user and password from a URL; only one of the environment can have them."""
    if "@" not in url:  # the common case, without parsing
        return url
    try:
        parsed = URL(url)
        return str(parsed.with_user(None)) if parsed.user or parsed.password else url
    except ValueError:
        return url


def _stored_headers(endpoint: Endpoint) -> CIMultiDict[str]:
    """Return the headers of all attempts, with a token for this one. Raises ValueError if the key cannot sign it."""
    headers = CIMultiDict(HEADERS)
    stored = endpoint.secrets.get("headers") or {}
    headers.update({name: value for name, value in stored.items() if name != JWT_KEY and name.lower() not in NAMES})
    if key := stored.get(JWT_KEY):
        headers["Authorization"] = f"Bearer {signing.token(key, int(time.time()))}"
    return headers


# The response


async def _read_body(response: Any, received: _Received) -> None:
    """Read the beginning of a body into `received`.

    Of a success, one that is garbled ends there: the receiver has the event, and would be sent it again. Raises
    aiohttp.ClientError for one that breaks off, as the receiver may have, too.
    """
    is_success = 200 <= response.status < 300
    try:
        while chunk := await response.content.read(MAX_RESPONSE - len(received.body)):
            received.body += chunk
        if response.is_garbled and not is_success:
            raise aiohttp.ClientPayloadError
    except aiohttp.ClientPayloadError:
        if not (response.is_garbled and is_success):
            raise


@dataclass
class _Received:
    """The part of a response that was received."""

    status: int | None = None
    retry_after: str | None = None
    location: str | None = None
    body: bytes = b""
    #: The response of the URL that it redirects to, if that was requested; its body is not read.
    followed: _Received | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def _outcome(received: _Received, failure: Failure | None, excerpt: str) -> Outcome:
    """Return the outcome; a 2xx with an incomplete response is retried: the event may not have been processed."""
    status, error, cause = received.status, failure.text if failure else "", failure.cause if failure else None
    result = Result.RETRY if status is None else retry.result_of_status(status)
    if received.followed and received.followed.is_success:
        result, status, excerpt = Result.DELIVERED, received.followed.status, ""
    elif result is Result.DELIVERED:
        result = Result.RETRY if error else result
    elif status is not None and 300 <= status < 400:
        error, cause = _describe_redirect(status, received.followed, error), Cause.REDIRECT
    elif status is not None and not 200 <= status < 600:
        error = error or f"The answer has no status that ends a request: {status:03}"
    return Outcome(
        result=result,
        status=status,
        excerpt=excerpt,
        error=error,
        cause=cause,
        retry_after=None if result is Result.DELIVERED else retry.retry_after(received.retry_after, datetime.now(UTC)),
    )


def _describe_redirect(status: int, followed: _Received | None, error: str) -> str:
    """Return a sentence about a redirect that did not end in a success, and what to do."""
    if followed is None and status in FOLLOWED:
        return error or f"{_REDIRECT}: the endpoint's option followRedirects follows a {status} once, by GET"
    if followed is None:
        return error or f"{_REDIRECT}: a {status} never is, so give the endpoint the URL that it leads to"
    if error:
        return f"The answer is a redirect, and following it failed. {error}"
    is_redirect = followed.status is not None and 300 <= followed.status < 400
    again = "is a redirect, too" if is_redirect else f"has the status {followed.status}"
    return f"The answer is a redirect, and that of the URL that it leads to {again}"


_REDIRECT = "The answer is a redirect, which is not followed"


#: Characters of a part of a URL's path from which on it may be a credential.
MIN_PATH_SECRET = 16


def _secrets(endpoint: Endpoint, headers: CIMultiDict[str]) -> set[str]:
    """Return the values that an excerpt must not show.

    Receivers repeat headers, path and query of the URL, and the keys that they check deliveries with. Short parts of
    the path are words, without which an excerpt says little.
    """
    stored = endpoint.secrets.get("headers") or {}
    names = {name.lower() for name in (*stored, "authorization")} - _NOT_SECRET - NAMES
    values = [headers[name] for name in names if name in headers]
    values += [stored.get(JWT_KEY) or "", *(endpoint.secrets.get("signing") or ())]
    url = URL(endpoint.options["url"])
    values += [value or name for name, value in url.query.items()]
    values += [part for path in (url.raw_path, url.path) for part in path.split("/") if len(part) >= MIN_PATH_SECRET]
    if url.user or url.password:  # sent as Authorization
        values += [url.password or "", aiohttp.encode_basic_auth(url.user or "", url.password or "")]
    return {value for value in values if len(value) >= masking.MIN_MASKED}
