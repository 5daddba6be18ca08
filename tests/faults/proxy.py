"""A TCP proxy that does what bad networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any


class Proxy:
    """Stands between clients and a server on loopback; its methods may be called from any thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        #: Bytes to the client after which a connection is reset; None for no limit.
        self.cut_after: int | None = None
        #: Bytes of the server's are taken and not passed on, as by a line that is dead without anybody's notice.
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
        if self.is_refusing:
            _reset(writer)
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, upstream}
        try:
            down = self._pump(upstream_reader, writer, self.cut_after, is_down=True)
            await asyncio.gather(self._pump(reader, upstream, None), down)
        finally:
            for one in (writer, upstream):
                self._writers.discard(one)
                one.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, is_down: bool = False
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(65536):
                if is_down and self.is_swallowing:
                    continue
                if limit is not None and passed + len(data) > limit:
                    writer.write(data[: limit - passed])
                    await writer.drain()
                    self.resets += 1
                    _reset(writer)
                    return
                passed += len(data)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            pass  # the other side has gone

    def reset_all(self) -> None:
        """RST on every connection, to both sides."""

        async def reset() -> None:
            for writer in list(self._writers):
                _reset(writer)

        self._call(reset())

    def stop(self) -> None:
        async def close() -> None:
            self._server.close()
            for writer in list(self._writers):
                _reset(writer)
            if serving := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(serving, timeout=5)

        self._call(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
