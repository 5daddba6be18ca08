"""A webhook receiver on a raw socket, and functions that make it misbehave."""

import asyncio
import socket
import struct

from realtime.delivery.payload import Payload
from realtime.delivery.transports.base import Endpoint, OutgoingMessage

BODY = b'{"event":"messages.upsert","instance":"loja","data":{"text":"ol\xc3\xa1"}}'
INSTANCE_ID = "0b0a7c5e-3f0f-4b0e-9a55-6f5a6a2d1c11"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Seconds that no test should need; one that takes them hangs.
PATIENCE = 30


class Request:
    def __init__(self, head, peer):
        line, *fields = head.decode().split("\r\n")
        self.method, self.path, _ = line.split(" ", 2)
        self.fields = [tuple(field.split(": ", 1)) for field in fields if field]
        self.headers = {name.lower(): value for name, value in self.fields}
        self.peer = peer


class Receiver:
    """Keeps the `requests` that it receives, and responds with bytes or by a function of the streams."""

    def __init__(self):
        self.requests, self.open, self.response = [], set(), OK

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=2048)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                request = Request(head, writer.get_extra_info("peername"))
                request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
                self.requests.append(request)
                if callable(self.response):
                    await self.response(reader, writer)
                    return
                writer.write(self.response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def is_disconnected(self):
        """Wait until all connections are closed; returns whether they are."""
        for _ in range(100 * PATIENCE):
            if self.open:
                await asyncio.sleep(0.01)
        return not self.open

    async def stop(self):
        for writer in [*self.open]:
            writer.transport.abort()
        self.server.close()
        await self.server.wait_closed()
        await self.is_disconnected()


def endpoint(url, id=7, secrets=None, **options):
    return Endpoint(id, "webhook", {"url": url} | options, secrets or {})


def outgoing(*body, type="messages.upsert", name="loja"):
    return OutgoingMessage("epoch.7", type, Payload(*(body or (BODY,))), 1, INSTANCE_ID, name)


async def send(webhook, receiver, **options):
    async with asyncio.timeout(PATIENCE):
        return await webhook.send(outgoing(), endpoint(receiver.url, **options))


def silent(beginning=b""):
    async def respond(reader, writer):
        writer.write(beginning)
        await reader.read()

    return respond


def drip(beginning, data):
    async def respond(_, writer):
        writer.write(beginning)
        while True:
            for byte in data:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.02)

    return respond


def flood(beginning, repeated):
    async def respond(_, writer):
        writer.write(beginning)
        while True:
            writer.write(repeated)
            await writer.drain()
            await asyncio.sleep(0)

    return respond


def then_close(data, reset=False):
    async def respond(_, writer):
        writer.write(data)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            await writer.drain()

    return respond
