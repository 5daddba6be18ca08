"""Heads without measure, from strangers: nobody else waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from evoapi.threads import InThreads
from realtime.asgi import SocketIO

pytestmark = pytest.mark.any_database


class Turns:
    """Takes turns of the event loop while the `with` block runs, and sees how long the longest lasted."""

    async def __aenter__(self):
        self.longest = 0
        self._task = asyncio.create_task(self._take())
        await asyncio.sleep(0)
        return self

    async def _take(self):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.monotonic() - began)

    async def __aexit__(self, *error):
        await asyncio.sleep(0.01)  # the last one, too
        self._task.cancel()


async def asked(application, path, query, headers):
    """The messages that an ASGI application sends for a GET."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": query}
    await application(scope | {"headers": headers}, receive, send)
    return sent


LINE = (b"x-a", b"b" * 100)


async def test_lines_of_one_name_are_joined_once_for_django():
    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [environ["HTTP_X_A"].encode()]

    async with Turns() as turns:
        sent = await asked(InThreads(wsgi, 1), "/", b"", [LINE] * 60_000)
    assert sent[1]["body"] == b",".join([b"b" * 100] * 60_000)
    assert turns.longest < 1


async def test_lines_of_one_name_are_joined_once_for_engine_io():
    async with Turns() as turns:
        sent = await asked(SocketIO(), "/socket.io/", b"EIO=4&transport=polling", [LINE] * 60_000)
    assert sent[0]["status"] == 200
    assert turns.longest < 1
