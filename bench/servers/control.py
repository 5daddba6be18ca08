"""Common parts of the Python servers: the message, and commands as lines on the standard input."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

MESSAGE = json.loads(Path(__file__).with_name("message.json").read_text())
EVENT = "messages.upsert"

#: A command: a coroutine function of the numbers of its line, whose result is the response unless it is None.
Command = Callable[..., Awaitable[Any]]


def message(ts: int) -> dict[str, Any]:
    """Return the data of an event, built anew, with a time for the load generator in ns of the monotonic clock."""
    return {**MESSAGE, "message": {"conversation": f"ts={ts} {MESSAGE['message']['conversation']}"}}


async def usage() -> dict[str, Any]:
    """Return CPU seconds of all threads, and resident bytes."""
    return {"cpu": time.process_time(), "rss": _resident()}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def run(server: uvicorn.Server, commands: dict[str, Command]) -> None:
    """Serve on a free port, which is printed, and run commands until the standard input ends."""
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_run(server, commands | {"usage": usage}))


async def _run(server: uvicorn.Server, commands: dict[str, Command]) -> None:
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        if serving.done():
            raise SystemExit("The server did not start")
        await asyncio.sleep(0.01)
    _respond({"port": server.servers[0].sockets[0].getsockname()[1]})
    await _run_commands(commands)
    os._exit(0)  # thousands of clients need not be waited for


async def _run_commands(commands: dict[str, Command]) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        name, *numbers = line.decode().split()
        response = await commands[name](*map(int, numbers))
        if response is not None:
            _respond(response)


def _respond(response: Any) -> None:
    print(json.dumps(response), flush=True)
