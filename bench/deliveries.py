"""Rate and latency of webhook deliveries, without and with dead endpoints: `make bench-deliveries`.

The dispatcher runs on one core, on SQLite with `synchronous=FULL`, against receivers on the other one, which respond
with 200 at once. Each delivery is claimed, signed, posted, and its outcome and attempt stored. A dead endpoint accepts
connections and never responds. Latency is from the event's commit to the receiver's response.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "bench" / "work" / "deliveries"
ENDPOINTS = 50
#: Events a second in the rows about latency; each goes to all endpoints.
RATE = 10

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Receiver(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end].lower()
            length = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
            if len(self.rest) < end + 4 + length:
                return
            self.rest = self.rest[end + 4 + length :]
            self.transport.write(RESPONSE)


async def receive() -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def set_up() -> None:
    """Create a database and set Django up, before anything of Django is imported."""
    shutil.rmtree(DATA, ignore_errors=True)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "evoapi.settings",
        "DATA_DIR": str(DATA),
        "LOG_LEVEL": "WARNING",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    os.environ.pop("DATABASE_URL", None)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def prepare(port: int, dead: int, dead_port: int) -> Any:
    """Create and return an instance with ENDPOINTS endpoints, `dead` of them dead; delete all others."""
    from instances.models import Instance, Subscription
    from realtime.delivery.models import Attempt, Delivery

    Attempt.objects.all().delete()
    Delivery.objects.all().delete()
    Instance.objects.all().delete()
    instance = Instance(name="bench")
    instance.save()
    for number in range(ENDPOINTS):
        url = f"http://127.0.0.1:{dead_port if number < dead else port}/{number}"
        endpoint = Subscription(instance=instance, transport="webhook", events=["CALL"], options={"url": url})
        endpoint.keep_secrets(headers={}, signing=["whsec_" + "A" * 32])
        endpoint.save()
    return instance


def record(instance: Any, count: int) -> None:
    from instances.events import EventType
    from realtime.log.models import Event, EventDraft

    drafts = [EventDraft(EventType.CALL, {"number": number, "padding": "x" * 400}) for number in range(count)]
    for begin in range(0, count, 100):
        Event.objects.record_all(instance, drafts[begin : begin + 100])


@asynccontextmanager
async def dispatching() -> AsyncIterator[None]:
    from realtime.delivery.dispatcher import Dispatcher

    task = asyncio.ensure_future(Dispatcher().run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def drained(port: int) -> None:
    """Wait until no delivery to the receivers is pending."""
    from realtime.database import database
    from realtime.delivery.models import Delivery

    pending = Delivery.objects.pending().filter(destination__contains=f":{port}/")
    while await database(pending.exists):  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.05)


async def rate(port: int) -> float:
    """Return deliveries a second."""
    from realtime.database import database
    from realtime.delivery.models import Delivery

    count = await database(Delivery.objects.count)
    began = time.perf_counter()
    async with dispatching():
        await drained(port)
        return count / (time.perf_counter() - began)


async def latencies(instance: Any, port: int, events: int) -> list[float]:
    """Return the sorted latencies of the receivers in milliseconds, with events recorded at RATE."""
    from realtime.database import database
    from realtime.delivery.models import Attempt

    async with dispatching():
        for _ in range(events):
            began = time.perf_counter()
            await database(record, instance, 1)
            await asyncio.sleep(max(0.0, 1 / RATE - (time.perf_counter() - began)))
        await drained(port)
    attempts = await database(lambda: list(Attempt.objects.filter(status=200).select_related("delivery")))
    return sorted((row.at - row.delivery.created_at).total_seconds() * 1000 + row.duration_ms for row in attempts)


def main() -> None:
    if sys.argv[1:] == ["receive"]:
        uvloop.run(receive())
        return
    cores = sorted(os.sched_getaffinity(0))
    pin: Callable[[], None] = lambda: os.sched_setaffinity(0, {cores[-1]})  # noqa: E731
    command = [sys.executable, "-m", "bench.deliveries", "receive"]
    receiving = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=pin)
    assert receiving.stdout
    port = int(receiving.stdout.readline())
    os.sched_setaffinity(0, {cores[0]})
    set_up()
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as silent:
            measure(port, silent.getsockname()[1])
    finally:
        receiving.kill()
        receiving.wait()
        shutil.rmtree(DATA)


def measure(port: int, dead_port: int) -> None:
    for deliveries in (1_000, 5_000, 100_000):
        record(prepare(port, 0, dead_port), deliveries // ENDPOINTS)
        speed = f"{uvloop.run(rate(port)):.0f} a second"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{deliveries:7,} deliveries to {ENDPOINTS} endpoints: {speed}; at most {memory} MB", flush=True)
    for round_number in range(3):
        for dead in (0, 5):
            times = uvloop.run(latencies(prepare(port, dead, dead_port), port, 100))
            p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
            print(
                f"round {round_number + 1}, {dead} of {ENDPOINTS} dead: p50 {p50:.0f} ms, p99 {p99:.0f} ms", flush=True
            )


if __name__ == "__main__":
    main()
