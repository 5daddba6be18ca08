"""Django's WSGI application within an ASGI process.

Django's ASGI handler and asgiref's adapters switch between event loop and threads several times a request, which costs
more than most requests do. Here a thread gets the complete request and returns the complete response: no response of
Django's is long, and `/event/stream`, which streams, is not one of its views.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, NamedTuple

from instances.asgi import Receive, Scope, Send, header_variables, respond


class WsgiResponse(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ThreadedWsgi:
    """An ASGI application that runs a WSGI application (PEP 3333) in up to `threads` threads.

    It expects the request's body in one message, as `BodyLimit` passes it.
    """

    def __init__(self, application: Callable[..., Any], threads: int) -> None:
        self.application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body = message.get("body", b"")
        response = await asyncio.get_running_loop().run_in_executor(self._pool, self._respond, scope, body)
        await respond(send, response.status, response.headers, response.body)

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
