"""Limits of request bodies: each is read completely, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
from django.conf import settings
from rest_framework.exceptions import APIException

from instances import errors
from instances.asgi import Application, BodyTooLarge, ClientDisconnected, Message, Receive, Scope, Send, read_body
from instances.bounds import BODY_PATIENCE, CONTENT_TYPE_BYTES, FORM_BYTES, SMALL_BODY
from instances.errors import ApiError
from instances.ingress.admission import Admission
from instances.ingress.held_bytes import RETRY_AFTER, Charge, Overloaded, held_bytes
from instances.ingress.transfer import Transfer

#: Headers that announce a body; a request with neither has none (RFC 9112, section 6.3).
BODY_HEADERS = {b"content-length", b"transfer-encoding"}

#: Content types of forms, as bytes in lower case. Django's parsers of forms take far longer for a body than JSON's.
FORM_TYPES = (b"application/x-www-form-urlencoded", b"multipart/form-data")

#: The paths whose views parse multipart forms by a parser of ours, which takes no longer than that of JSON.
FILE_PATHS = "/message/"

#: Seconds and bytes that a refused client may go on sending, all of which is dropped, and the number of clients that do
#: so at a time: the others are disconnected at once.
LINGER_TIME, LINGER_SIZE, LINGERING = 2, 16 * 1024 * 1024, 32

#: The charset of a Content-Type. It is removed: Django fails on a Python codec that is no charset (`hex`), and JSON and
#: forms are UTF-8 anyway.
_CHARSET = re.compile(rb";\s*charset=[^;]*", re.IGNORECASE)


class BodyLimit:
    """ASGI middleware: passes on requests with their bodies in one message, within limits of size, time and memory.

    Responds 413 to a body over MAX_BODY_BYTES, 408 to one that is too slow, 431 to a Content-Type over
    CONTENT_TYPE_BYTES, and 503 beyond the budget of `held_bytes`, to which it charges each body until the request is
    answered. `max_size` is a lower limit, in bytes. With an `Admission` it does not read large bodies of clients that
    may not post them, which get 401.

    It adds the length of a chunked body: without a Content-Length Django, behind WSGI, would read nothing.
    """

    def __init__(self, app: Application, admission: Admission | None = None, max_size: int | None = None) -> None:
        self.app = app
        self.admission = admission
        self.max_size = max_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        others, content_types, has_body = [], [], False
        for header in scope["headers"]:
            if header[0] == b"content-type":
                content_types.append(header)
            elif header[0] in BODY_HEADERS:
                has_body = True
            else:
                others.append(header)
        if content_types:
            if sum(len(value) for _, value in content_types) > CONTENT_TYPE_BYTES:
                await _refuse(scope, receive, send, ApiError(f"Content-Type is over {CONTENT_TYPE_BYTES} bytes", 431))
                return
            others += [(name, _CHARSET.sub(b"", value)) for name, value in content_types]
        if not has_body:
            await self.app(scope | {"headers": others}, receive, send)
            return
        with held_bytes.charge() as charge:
            try:
                body = await _BodyReader(scope, receive, charge, self.admission, self.max_size).read()
            except ClientDisconnected:
                return
            except APIException as error:
                await _refuse(scope, receive, send, error)
                return
            others.append((b"content-length", b"%d" % len(body)))
            messages = [{"type": "http.request", "body": body, "more_body": False}]
            del body  # the application has the only reference, and may drop it

            async def receive_body() -> dict[str, Any]:
                return messages.pop() if messages else await receive()

            await self.app(scope | {"headers": others}, receive_body, send)


class _BodyReader:
    """Reads the body of one request."""

    def __init__(
        self, scope: Scope, receive: Receive, charge: Charge, admission: Admission | None, max_size: int | None
    ) -> None:
        self.scope = scope
        self.charge = charge
        self.admission = admission
        self.max_size = max_size
        self._receive = receive
        self._size = 0
        self._is_authorized = False
        self._clock = asyncio.get_running_loop().time
        self._transfer = Transfer(self._clock(), BODY_PATIENCE)
        self._timeout: asyncio.Timeout | None = None
        self._has_given_way = False
        charge.give_way = self._give_way

    def _give_way(self) -> None:
        self._has_given_way = True
        if self._timeout:
            self._timeout.reschedule(self._clock())

    async def read(self) -> bytes:
        """Read the body. Raises APIException to refuse the request, and ClientDisconnected."""
        headers = dict(self.scope["headers"])
        slow_types = FORM_TYPES[:1] if self.scope.get("path", "").startswith(FILE_PATHS) else FORM_TYPES
        is_form = headers.get(b"content-type", b"").strip().lower().startswith(slow_types)
        max_size = min(FORM_BYTES, settings.MAX_BODY_BYTES) if is_form else settings.MAX_BODY_BYTES
        if self.max_size is not None:
            max_size = min(max_size, self.max_size)
        # without leading zeros: Python converts no more than 4,300 digits
        announced = headers.get(b"content-length", b"0").lstrip(b"0")
        if announced.isdigit() and (len(announced) > 18 or int(announced) > max_size):
            raise _too_large()
        if self.admission:
            self.admission.check_writer(self.scope)
        if announced.isdigit() and int(announced) > SMALL_BODY:
            if held_bytes.is_full:
                raise held_bytes.refusal()
            await self._authorize()
            # of a stranger's body only the bytes that have come are charged: he might announce many, and send none
            if self.charge.holder is not None and not self.charge.hold(int(announced)):
                raise held_bytes.refusal()
        try:
            body = await read_body(self._receive_charged, max_size=max_size)
            self.charge.complete()
            return body
        except BodyTooLarge:
            raise _too_large() from None
        except TimeoutError:
            if self._has_given_way:
                raise held_bytes.refusal() from None
            raise ApiError("The request was not complete in time", 408) from None

    async def _receive_charged(self) -> Message:
        """Receive a message in time, and charge its bytes. Raises TimeoutError, and APIException."""
        async with asyncio.timeout_at(self._transfer.deadline) as self._timeout:
            message = await self._receive()
        self._timeout = None
        if self._has_given_way:
            raise held_bytes.refusal()
        size = len(message.get("body", b""))
        if self._size <= SMALL_BODY < self._size + size:
            await self._authorize()
        self._size += size
        self._transfer.move(size, self._clock())
        if not self._hold_received():
            await self._authorize()  # the share of clients without a known key may be used up, and not that of this one
            if not self._hold_received():
                raise held_bytes.refusal()
        return message

    def _hold_received(self) -> bool:
        return self.charge.hold(max(self.charge.size, self._size))

    async def _authorize(self) -> None:
        """Charge the body to the request's key. Raises APIException if it may not be posted."""
        if self.admission and not self._is_authorized:
            self.charge.assign(await self.admission.authorize(self.scope))
            self._is_authorized = True


def _too_large() -> ApiError:
    return ApiError("request entity too large", 413)


async def _refuse(scope: Scope, receive: Receive, send: Send, error: APIException) -> None:
    """Respond with an error, and drop what the client still sends for a while: closing with unread data resets the
    connection, and the client might lose the response.
    """
    content = orjson.dumps(errors.error_body(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", str(RETRY_AFTER).encode()))
    await send({"type": "http.response.start", "status": error.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    if not any(name == b"expect" for name, _ in scope["headers"]):  # that client waits for the response before it sends
        await _drop_rest(receive)
    await send({"type": "http.response.body", "body": b""})


_lingering: set[Receive] = set()


async def _drop_rest(receive: Receive) -> None:
    if len(_lingering) >= LINGERING:
        return
    dropped = 0
    _lingering.add(receive)
    try:
        async with asyncio.timeout(LINGER_TIME):
            message = await receive()
            while message["type"] == "http.request" and message.get("more_body") and dropped < LINGER_SIZE:
                dropped += len(message.get("body", b""))
                message = await receive()
    except TimeoutError:
        pass
    finally:
        _lingering.discard(receive)
