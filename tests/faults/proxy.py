"""A TCP proxy that does what bad networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Proxy:
    """A proxy between clients and a server on loopback; its methods may be called from any thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        #: Bytes to the client after which a connection is reset; None for no limit.
        self.reset_after: int | None = None
        #: Bytes a second that pass to a client; None for no limit.
        self.rate: int | None = None
        #: True: bytes from either side are read and dropped, as by a connection that is dead without a FIN or RST.
        self.is_swallowing = False
        self.is_refusing = False
        self.resets = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._call(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._forward(reader, writer)
        finally:
            await self._close(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.is_refusing:
                raise ConnectionRefusedError
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        self._writers.add(upstream)
        try:
            down = self._pump(upstream_reader, writer, self.reset_after, is_down=True)
            await asyncio.gather(self._pump(reader, upstream, None), down)
        finally:
            await self._close(upstream)

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self._writers.discard(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, is_down: bool = False
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(16384 if is_down and self.rate else 65536):
                if self.is_swallowing:
                    continue
                if is_down and self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                if limit is not None and passed + len(data) > limit:
                    writer.write(data[: limit - passed])
                    await writer.drain()
                    self.resets += 1
                    _reset(writer)
                    return
                passed += len(data)
                writer.write(data)
                await writer.drain()
            while self.is_swallowing:  # noqa: ASYNC110 (it is set from another thread)
                await asyncio.sleep(0.05)  # a FIN is dropped too
            writer.write_eof()
        except (OSError, RuntimeError):
            pass  # the other side has disconnected

    def reset_all(self) -> None:
        """Send RST on every connection, to both sides."""

        async def reset() -> None:
            for writer in list(self._writers):
                _reset(writer)

        self._call(reset())

    def stop(self) -> None:
        async def close() -> None:
            self.is_refusing, self.is_swallowing = True, False
            while serving := asyncio.all_tasks() - {asyncio.current_task()}:
                for writer in list(self._writers):
                    _reset(writer)
                await asyncio.wait(serving, timeout=0.1)
            self._server.close()  # at last: asyncio forgets what it is about to accept

        self._call(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
