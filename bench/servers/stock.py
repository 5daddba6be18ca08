"""Stock python-socketio on uvicorn with uvloop, otherwise in its default configuration."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import socketio
import uvicorn

from bench.servers import control

EPOCH = "9c2347a1eeccb389"
config = json.loads(Path(sys.argv[1]).read_text())
keys: dict[str, str] = config["keys"]
instances: list[str] = config["instances"]

server = socketio.AsyncServer(async_mode="asgi", namespaces="*")
seqs: defaultdict[str, Any] = defaultdict(lambda: itertools.count(1))


@server.on("connect", namespace="*")
async def connect(namespace: str, sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
    if keys.get(auth["apikey"]) not in ("*", namespace.removeprefix("/")):
        raise socketio.exceptions.ConnectionRefusedError("Unauthorized")


async def emit(name: str, ts: int) -> None:
    seq = next(seqs[name])
    envelope = {
        "event": control.EVENT,
        "instance": name,
        "data": control.message(ts),
        "date_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "apikey": None,
        "id": f"{EPOCH}.{seq}",
        "seq": seq,
        "prev": seq - 1,
    }
    await server.emit(control.EVENT, envelope, namespace=f"/{name}")


async def event(ts: int) -> None:
    await emit(instances[0], ts)


async def feed(events: int, per_turn: int, namespaces: int = 1) -> dict[str, int]:
    for turn in range(0, events, per_turn):
        for number in range(turn, turn + per_turn):
            await emit(instances[number % namespaces], time.monotonic_ns())
        await asyncio.sleep(0)
    return {"emitted": events}


async def round_robin(events: int, per_turn: int) -> dict[str, int]:
    return await feed(events, per_turn, len(instances))


if __name__ == "__main__":
    settings = uvicorn.Config(socketio.ASGIApp(server), port=0, loop="uvloop", log_level="error")
    control.run(uvicorn.Server(settings), {"event": event, "feed": feed, "round": round_robin})
