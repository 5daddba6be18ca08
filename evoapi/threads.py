"""Django's WSGI application within an ASGI process.

Django's ASGI handler and asgiref's adapters switch between event loop and threads several times a request, which costs
more than most requests do. Here a thread gets the complete request and returns the complete response: no response of
Django's is long, and `/event/stream`, which streams, is not one of its views.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from typing import Any, NamedTuple

from instances import errors
from instances.asgi import Receive, Scope, Send, header_variables, respond
from instances.bounds import QUEUE_SECONDS, SMALL_BODY
from instances.bounds.shares import Shares
from instances.ingress.held_bytes import RETRY_AFTER, Overloaded, held_bytes


class WsgiResponse(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ThreadedWsgi:
    """An ASGI application that runs a WSGI application (PEP 3333) in up to `threads` threads.

    Requests for one instance have at most half of them, those with one key at most three quarters: whatever they wait
    for, other tenants are served. Who waits for a thread longer than QUEUE_SECONDS gets 503.

    It expects the request's body in one message, as `BodyLimit` passes it.
    """

    def __init__(self, application: Callable[..., Any], threads: int) -> None:
        self.application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")
        self._threads = Shares(threads)
        self._of_instances = Shares(max(1, threads // 2))
        self._of_keys = Shares(max(1, threads * 3 // 4))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, key = message.pop("body", b""), dict(scope["headers"]).get(b"apikey")
        try:
            async with self._slot(_instance_name(scope["path"]), key):
                running = asyncio.get_running_loop().run_in_executor(self._pool, self._respond, scope, body)
                del body
                response = await running
        except Overloaded as error:
            response = _refusal(error)
        size = len(response.body)
        with held_bytes.charge(key if response.status < 400 else None) as charge:
            # a change that is made is answered in any case
            if size > SMALL_BODY and _only_reads(scope) and not charge.hold(size):
                response = _refusal(held_bytes.refusal())
            await respond(send, response.status, response.headers, response.body)

    @asynccontextmanager
    async def _slot(self, instance_name: str, key: bytes | None) -> AsyncIterator[None]:
        """Hold a slot of the request's instance, of its key and of all. Raises Overloaded if that takes too long."""
        async with AsyncExitStack() as slots:
            try:
                async with asyncio.timeout(QUEUE_SECONDS):
                    if instance_name:
                        await slots.enter_async_context(self._of_instances.slot(instance_name))
                    await slots.enter_async_context(self._of_keys.slot(key))
                    await slots.enter_async_context(self._threads.slot(None))
            except TimeoutError:
                raise held_bytes.refusal(f"a request waited {QUEUE_SECONDS} s for those before it") from None
            yield

    def _respond(self, scope: Scope, body: bytes) -> WsgiResponse:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            started[:] = status, headers

        parts = self.application(_environ(scope, body), start_response)
        try:
            response_body = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        status, headers = started
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return WsgiResponse(int(status[:3]), encoded, response_body)


def _only_reads(scope: Scope) -> bool:
    """Return whether a request changes nothing; Evolution API's routes that find are POST requests."""
    return scope["method"] in ("GET", "HEAD") or scope["path"].startswith("/chat/find")


def _refusal(error: Overloaded) -> WsgiResponse:
    content = errors.error_response(error.status_code, [str(error.detail)]).content
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    return WsgiResponse(error.status_code, [*headers, (b"retry-after", str(RETRY_AFTER).encode())], content)


def _instance_name(path: str) -> str:
    """Return the instance in a path of REST, which is its third part; "" in a path without one."""
    parts = path.split("/", 4)
    return parts[3] if len(parts) > 3 else ""


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", "").encode().decode("latin-1"),
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 80),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    return environ | header_variables(scope["headers"])
