"""The server for the protocols' own test suites: this project's, with the handlers and times that they expect.

    uvicorn tests.conformance.app:application --port 3000 [--http realtime.wire.http:LimitedProtocol
            --ws realtime.wire.websocket:WebSocketProtocol]

The suites are docs/engine.io-protocol/v4-test-suite and docs/socket.io-protocol/v5-test-suite of the repository
socketio/socket.io: `npm ci && npm test` in each.
"""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")

import django

django.setup()

import socketio  # noqa: E402 (the rest needs Django to be set up)
from socketio.exceptions import ConnectionRefusedError as Refusal  # noqa: E402

from realtime.fanout.authorization import INVALID_NAMESPACE  # noqa: E402
from realtime.socketio.engine import Engine  # noqa: E402
from realtime.socketio.server import Server  # noqa: E402

TIMES = {"ping_interval": 0.3, "ping_timeout": 0.2}


async def echo(sid: str, message: Any) -> None:
    await engine.send(sid, message)


class Echo(socketio.AsyncNamespace):
    server: Server

    def __init__(self) -> None:
        super().__init__("*")
        self.auth: dict[str, Any] = {}

    async def on_connect(self, namespace: str, sid: str, environ: Any, auth: Any = None) -> None:
        if namespace not in ("/", "/custom"):
            raise Refusal(INVALID_NAMESPACE)
        self.auth[sid] = auth or {}

    async def on_joined(self, namespace: str, sid: str) -> None:
        await self.server.emit("auth", self.auth[sid], to=sid, namespace=namespace)

    async def on_disconnect(self, namespace: str, sid: str, reason: str) -> None:
        del self.auth[sid]

    async def trigger_event(self, event: str, *args: Any) -> Any:
        return await super().trigger_event(event.replace("-", "_"), *args)

    async def on_message(self, namespace: str, sid: str, *args: Any) -> None:
        await self.server.emit("message-back", args, to=sid, namespace=namespace)

    async def on_message_with_ack(self, namespace: str, sid: str, *args: Any) -> tuple[Any, ...]:
        return args


engine = Engine(**TIMES)
engine.on("message", echo)
server = Server(**TIMES)
server.register_namespace(Echo())


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        handler = engine if scope["path"].startswith("/engine.io") else server
        await handler.handle_request(scope, receive, send)
