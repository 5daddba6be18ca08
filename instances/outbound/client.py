"""HTTP requests to the outside, on the server's event loop.

URLs that reach this module come from the operator's environment and are trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiohttp

from instances.bounds import SEND_SECONDS

T = TypeVar("T")

#: Seconds from the first packet of a request to the last byte of its response.
DEADLINE = float(SEND_SECONDS)
#: Bytes of a response's body that are read; a longer one is truncated, and is then no valid JSON.
MAX_RESPONSE_BYTES = 1024 * 1024


class Unreachable(Exception):
    """Raised when a request got no response in time, got one that is not HTTP, or could not be made at all.

    `is_sent` is False if no byte of it can have arrived; then it may be made again without harm.
    """

    def __init__(self, cause: str, is_sent: bool) -> None:
        super().__init__(cause)
        self.is_sent = is_sent


class NoResponse(Unreachable):
    """Raised when the deadline passed."""


class HttpClient:
    """An aiohttp client with one session between `start` and `stop`; outside (a shell, a command) one per request."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open a session on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._session = _new_session()

    async def stop(self) -> None:
        self._loop, session, self._session = None, self._session, None
        if session:
            await session.close()

    async def post(self, url: str, json: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a POST request; returns the status and body of its response. Raises Unreachable."""
        return await self.request("POST", url, json, headers)

    async def request(self, method: str, url: str, json: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request, without a body if `json` is None; returns the status and body of its response.

        Redirects are not followed. Raises Unreachable.
        """
        if self._session is not None:
            return await _request(self._session, method, url, json, headers)
        async with _new_session() as session:
            return await _request(session, method, url, json, headers)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that uses this client, and wait for its result in a thread without an event loop."""
        if self._loop is not None:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        return asyncio.run(coroutine)


def _new_session() -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    for signal in (tracing.on_connection_create_end, tracing.on_connection_reuseconn):
        signal.append(_note_connection)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE), trace_configs=[tracing])


async def _note_connection(session: aiohttp.ClientSession, trace: Any, parameters: Any) -> None:
    trace.trace_request_ctx.is_connected = True


class _Attempt:
    """A request, which may have arrived from the moment it has a connection."""

    is_connected = False


async def _request(
    session: aiohttp.ClientSession, method: str, url: str, json: Any, headers: dict[str, str]
) -> tuple[int, bytes]:
    attempt = _Attempt()
    try:
        async with session.request(
            method, url, json=json, headers=headers, allow_redirects=False, trace_request_ctx=attempt
        ) as response:
            return response.status, await _read_body(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raised = NoResponse if isinstance(error, TimeoutError) else Unreachable
        raise raised(type(error).__name__, attempt.is_connected) from error
    except ValueError as error:  # a header that cannot be written
        raise Unreachable(type(error).__name__, is_sent=False) from error


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            break
    return bytes(body)


#: The client of this process.
http_client = HttpClient()
