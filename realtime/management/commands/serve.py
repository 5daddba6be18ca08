from __future__ import annotations

import errno
import os
import socket
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from instances.bounds import MESSAGE_BYTES
from realtime.operation.variables import warn_of_unknown_variables
from realtime.wire.connections import FEW_CONNECTIONS, most_connections
from realtime.wire.server import bind, run

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

#: Seconds that open requests may still take once the server is stopping.
GRACE = 5


class Command(BaseCommand):
    help = "Serve REST, the admin and Socket.IO with uvicorn, on SERVER_HOST:SERVER_PORT by default."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("address", nargs="?", default="", help="[host:]port")
        parser.add_argument("--workers", type=int, default=1)

    def handle(self, *args: Any, address: str, workers: int, **options: Any) -> None:
        host, port = _host_and_port(address)
        _allow_many_files()
        if most_connections() < FEW_CONNECTIONS:
            self.stderr.write(
                f"The system lets this process open few files: no more than {most_connections():,} clients can be "
                "connected. Raise its limit: `ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of Docker."
            )
        if workers > 1 and settings.IS_SQLITE:
            raise CommandError(
                "SQLite is written by one process at a time: for several workers set DATABASE_URL to PostgreSQL"
            )
        try:
            sockets = bind(host, port)
        except OSError as error:
            raise CommandError(f"The server cannot listen on {host}, port {port}. {_reason(error)}") from None
        if workers > 1:
            warn_of_unknown_variables()
        port = sockets[0].getsockname()[1]
        # this process and its workers recognize their own URLs by it
        settings.SERVER_PORT, os.environ["SERVER_PORT"] = port, str(port)

        def announce() -> None:
            self.stdout.write(f"Serving on http://{f'[{host}]' if ':' in host else host}:{port} (stop with Ctrl+C)")
            self.stdout.flush()

        if code := run(uvicorn_config(host, port, workers), sockets, announce):
            raise SystemExit(code)  # the log has the reason


def _reason(error: OSError) -> str:
    """Return why a port cannot be bound, and what to do."""
    if isinstance(error, socket.gaierror):
        return "This machine knows no address of that name: see SERVER_HOST"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "Another program has it, perhaps an earlier server that still runs: stop that, or take another port by"
                " SERVER_PORT or `manage.py serve <port>`"
            )
        case errno.EACCES:
            return "This user may not: take a port from 1024, by SERVER_PORT or `manage.py serve <port>`"
        case errno.EADDRNOTAVAIL:
            return "That is no address of this machine: see SERVER_HOST; 0.0.0.0 is all of them"
    return f"The system says: {error.strerror}"


def uvicorn_config(host: str, port: int, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        settings.ASGI_APPLICATION.replace(".application", ":application"),
        host=host,
        port=port,
        workers=workers,
        loop="auto",
        http="realtime.wire.http:LimitedProtocol",
        ws="realtime.wire.websocket:WebSocketProtocol",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # costs more than small events save
        ws_ping_interval=None,  # Engine.IO has a heartbeat of its own
        lifespan="auto",  # a router may pass none on
        log_config=None,
        access_log=False,  # the query may contain a key
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def _allow_many_files() -> None:
    """Raise the soft limit of open files, usually 1,024, to the hard one: each connection is a file."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # some systems report a limit that they do not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _host_and_port(address: str) -> tuple[str, int]:
    """Parse `host:port`, `port` or an empty string, as Django's runserver does. Raises CommandError."""
    host, _, port = address.rpartition(":")
    try:
        number = int(port) if port else settings.SERVER_PORT
    except ValueError:
        raise CommandError(f'"{address}" is not a port or host:port') from None
    if not 0 <= number < 65536:
        raise CommandError(f"{number} is no port: ports are numbers up to 65535")
    return host.strip("[]") or settings.SERVER_HOST, number
