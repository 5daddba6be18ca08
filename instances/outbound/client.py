"""HTTP to the outside, on the server's event loop.

URLs that reach this module come from the operator's environment and are trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")

#: From the first packet of a call to the last byte of its answer, in seconds.
DEADLINE = 20.0
MAX_ANSWER_BYTES = 1024 * 1024


class Unreachable(Exception):
    """Raised when a call got no answer in time, or one that is no HTTP, or could not be made at all."""


class _Client:
    """One session for all calls, where a server runs; elsewhere (a shell, a command) one for each call."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.session = _session()

    async def stop(self) -> None:
        self.loop, session, self.session = None, self.session, None
        if session:
            await session.close()

    async def post(self, url: str, json: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        if self.session is not None:
            return await _post(self.session, url, json, headers)
        async with _session() as session:
            return await _post(session, url, json, headers)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))


async def _post(session: aiohttp.ClientSession, url: str, json: Any, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        async with session.post(url, json=json, headers=headers, allow_redirects=False) as answer:
            return answer.status, await _whole(answer)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unreachable(type(error).__name__) from error


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body; a long one only to its first part, which no reader here takes for an answer."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body)


client = _Client()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, waited for in a thread that has no event loop of its own."""
    if client.loop is not None:
        return asyncio.run_coroutine_threadsafe(coroutine, client.loop).result()
    return asyncio.run(coroutine)
