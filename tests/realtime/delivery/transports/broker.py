"""Clients of a RabbitMQ broker for tests: a consumer, and a forwarder that counts what the transport opens."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiormq

from realtime.delivery.transports.base import Endpoint
from tests.environment import RABBITMQ_URI


class Consumer:
    """Another client of the broker; deletes the exchanges and queues of the tests."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.exchanges: set[str] = set()
        self.queues: set[str] = set()

    def endpoint(self, id: int = 7, **options: Any) -> Endpoint:
        """Return an endpoint with an exchange of its own."""
        name = f"evoapi-test-{secrets.token_hex(6)}"
        self.exchanges.add(name)
        self.queues |= {f"{name}.{type}" for type in ("messages.upsert", "call", "instance.create", "chats.upsert")}
        return Endpoint(id, "rabbitmq", {"exchange": name} | options, {})

    async def take(self, queue: str) -> Any:
        """Return the next message of a queue, or None."""
        channel = await self.connection.channel()
        message = await channel.basic_get(queue, no_ack=True)
        await channel.close()
        return message if message.header.properties.message_id else None

    async def ids(self, queue: str) -> list[str]:
        found = []
        while message := await self.take(queue):
            found.append(message.header.properties.message_id)
        return found

    async def clean(self) -> None:
        for remove, names in (("queue_delete", self.queues), ("exchange_delete", self.exchanges)):
            for name in names:
                channel = await self.connection.channel()
                with suppress(aiormq.AMQPError):
                    await getattr(channel, remove)(name)
                await channel.close()
        await self.connection.close()


class Forwarder:
    """Forwards connections to the broker, and counts them and their open channels."""

    def __init__(self) -> None:
        self.connections = 0
        self.channels: set[int] = set()
        self.is_refusing = False
        self._tasks: set[Any] = set()

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        if self.is_refusing:
            writer.transport.abort()
            return
        uri = urlsplit(RABBITMQ_URI)
        upstream_reader, upstream = await asyncio.open_connection(uri.hostname, uri.port or 5672)
        await asyncio.gather(self._forward(reader, upstream, self._count), self._forward(upstream_reader, writer))

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[bytes], None] | None = None
    ) -> None:
        received = b""
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                if count:
                    received += data
                    count(received)
        writer.close()

    def _count(self, received: bytes) -> None:
        """Read a client's frames (AMQP 0-9-1, 2.3.5): channel.open is method 20.10, channel.close 20.40."""
        opened: set[int] = set()
        rest = received[8:]  # behind the protocol header
        while len(rest) >= 7:
            kind, channel, size = struct.unpack_from(">BHL", rest)
            method = rest[7:11]
            if kind == 1 and method == struct.pack(">HH", 20, 10):
                opened.add(channel)
            elif kind == 1 and method == struct.pack(">HH", 20, 40):
                opened.discard(channel)
            rest = rest[7 + size + 1 :]
        self.channels = opened

    def uri(self, scheme: str = "amqp", host: str = "127.0.0.1", query: str = "") -> str:
        login = urlsplit(RABBITMQ_URI).netloc.rpartition("@")[0]
        return f"{scheme}://{login}@{host}:{self.port}/{query}"

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()
        await asyncio.gather(*self._tasks, return_exceptions=True)
