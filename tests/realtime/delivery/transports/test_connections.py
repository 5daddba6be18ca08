"""The parts of aiohttp that realtime/delivery/transports/connections.py uses beyond its documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from realtime.delivery.transports.connections import Protocol, WebhookResponse, new_session

pytestmark = pytest.mark.any_database

VERSION = f"aiohttp {aiohttp.__version__}"
CONNECTIONS = "realtime/delivery/transports/connections.py"


@pytest.fixture
async def receiver() -> AsyncIterator[str]:
    """The URL of a server that reads two requests of 1 MB on a connection, and responds at once to both."""

    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await asyncio.sleep(0.05)
            await reader.readexactly(1_000_000)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    await server.wait_closed()
    await asyncio.gather(*serving)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The overridden methods that aiohttp calls, in its order; each does what it does."""
    found: list[str] = []

    def record(cls: type, name: str) -> None:
        method = getattr(cls, name)

        def called(self: Any, *args: Any, **options: Any) -> Any:
            found.append(f"{cls.__name__}.{name}")
            if name == "start":
                found.append(f"_writer is {type(self._writer).__name__}")
            return method(self, *args, **options)

        monkeypatch.setattr(cls, name, called)

    for cls, names in (
        (Protocol, ("set_response_params", "read", "data_received", "feed_data", "is_connected")),
        (WebhookResponse, ("start",)),
    ):
        for name in names:
            record(cls, name)
    return found


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (
            ResponseHandler,
            (
                *("set_response_params", "read", "data_received", "feed_data", "exception"),
                *("is_connected", "should_close", "force_close"),
            ),
        ),
        (aiohttp.ClientResponse, ("start", "_writer")),
    ],
)
def test_aiohttp_has_what_is_overridden(cls: type, names: tuple[str, ...]) -> None:
    for name in names:
        assert hasattr(cls, name), f"{VERSION} has no {cls.__name__}.{name}, which {CONNECTIONS} overrides or calls"


async def test_aiohttp_makes_the_protocol_of_a_connection_by_factory() -> None:
    async with aiohttp.TCPConnector() as connector:
        made = getattr(connector, "_factory", lambda: None)()
    assert isinstance(made, ResponseHandler), (
        f"{VERSION} has no TCPConnector._factory that makes a ResponseHandler: {CONNECTIONS} puts its Protocol there"
    )


async def test_aiohttp_calls_the_overridden_methods_in_order(receiver: str, calls: list[str]) -> None:
    async with new_session(is_trusted=True) as session:
        for _ in range(2):
            async with session.post(receiver, data=b"x" * 1_000_000) as response:
                assert await response.read() == b"ok"
    assert "Protocol.set_response_params" in calls, (
        f"{VERSION} does not use the Protocol of {CONNECTIONS} for its connections: TCPConnector._factory has moved"
    )
    first, second = _requests(calls)
    assert first.count("Protocol.set_response_params") == 1, (
        f"{VERSION} does not call set_response_params once a request; {CONNECTIONS} resets its limits there"
    )
    assert "_writer is Task" in first, (
        f"{VERSION} has no task in ClientResponse._writer while a body is sent; {CONNECTIONS} waits for it"
    )
    assert first.index("WebhookResponse.start") < first.index("Protocol.read"), (
        f"{VERSION} reads a response before ClientResponse.start; {CONNECTIONS} sets `upload` in it, for `read`"
    )
    assert first.count("Protocol.read") == 2, (
        f"{VERSION} does not read interim responses one by one by ResponseHandler.read; {CONNECTIONS} counts them there"
    )
    assert "Protocol.data_received" in first, (
        f"{VERSION} does not receive by ResponseHandler.data_received; {CONNECTIONS} limits the bytes there"
    )
    assert first.count("Protocol.feed_data") == 2, (
        f"{VERSION} does not pass each head to ResponseHandler.feed_data; {CONNECTIONS} notes the final one there"
    )
    assert "Protocol.is_connected" in second, (
        f"{VERSION} does not ask is_connected before it reuses a connection; {CONNECTIONS} checks it there"
    )


def _requests(calls: list[str]) -> tuple[list[str], list[str]]:
    """Split the calls before those for the second request: it begins with the check of the connection."""
    ends = [number for number, name in enumerate(calls) if name == "Protocol.set_response_params"]
    last = ends[-1]
    while last and calls[last - 1] == "Protocol.is_connected":
        last -= 1
    return calls[:last], calls[last:]
