from __future__ import annotations

import socket
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from uvicorn.supervisors import Multiprocess

from realtime.asgi import SocketIO

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

#: Seconds that open requests may still take once the server is told to stop.
GRACE = 5


class GracefulServer(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First let the clients go, who come back by themselves: a poll that waits would use up the whole grace."""
        for application in SocketIO.running:
            application.close_transports()
        await super().shutdown(sockets)


class Command(BaseCommand):
    help = "Serve REST, the admin and Socket.IO with uvicorn, on SERVER_HOST:SERVER_PORT unless told otherwise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("address", nargs="?", default="", help="[host:]port")
        parser.add_argument("--workers", type=int, default=1)

    def handle(self, *args: Any, address: str, workers: int, **options: Any) -> None:
        host, port = _host_and_port(address)
        _allow_many_files()
        if workers > 1 and settings.IS_SQLITE:
            raise CommandError(
                "SQLite is written by one process at a time: for several workers set DATABASE_URL to PostgreSQL"
            )
        self.stdout.write(f"Serving on http://{host}:{port} (stop with Ctrl+C)")
        self.stdout.flush()
        config = _config(host, port, workers)
        if workers > 1:
            Multiprocess(config, sockets=[config.bind_socket()]).run()
            return
        server = GracefulServer(config)
        server.run()
        if not server.started:
            raise SystemExit(3)  # it has said why


def _config(host: str, port: int, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        settings.ASGI_APPLICATION.replace(".application", ":application"),
        host=host,
        port=port,
        workers=workers,
        loop="auto",
        http="realtime.wire.http:LimitedProtocol",
        ws="realtime.wire.websocket:WebSocketProtocol",
        ws_max_size=1_000_000,  # what Socket.IO's handshake promises as maxPayload
        ws_per_message_deflate=False,  # costs more than small events save
        ws_ping_interval=None,  # Engine.IO has a heartbeat of its own
        lifespan="on",
        log_config=None,
        access_log=False,  # the query may hold a key
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def _allow_many_files() -> None:
    """A connection is a file, and the usual limit of 1,024 is soft: thousands are welcome here."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # some systems name a limit that they do not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _host_and_port(address: str) -> tuple[str, int]:
    """From `host:port`, `port` or nothing, as Django's runserver takes it."""
    host, _, port = address.rpartition(":")
    try:
        return host.strip("[]") or settings.SERVER_HOST, int(port) if port else settings.SERVER_PORT
    except ValueError:
        raise CommandError(f'"{address}" is not a port or host:port') from None
