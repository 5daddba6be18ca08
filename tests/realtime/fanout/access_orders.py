"""One joiner and two changes of access, in an order that a stepper chooses; observed over ASGI, as a server would."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from instances.events import EventType
from instances.models import ApiKey, Instance
from realtime.asgi import SocketIO
from realtime.log.models import Event
from tests.environment import GLOBAL_KEY
from tests.stepper import Choices, Stepper

CHANGES = ("revoke", "rename", "rotate", "delete")


@dataclass(frozen=True)
class Scenario:
    """A client that joins, or resumes, with an API key or the instance's token, while two changes are made.

    `changes` may have "fail" as well: the next call of the database fails then.
    """

    changes: tuple[str, ...]
    has_key: bool
    #: "socket", "resumed" (a socket that resumes) or "stream" (server-sent events).
    kind: str

    @property
    def ends_access(self) -> bool:
        ends = {"rename", "delete", "revoke" if self.has_key else "rotate"}
        return bool(ends.intersection(self.changes))

    @property
    def is_renamed(self) -> bool:
        """True if the instance has another name at a time."""
        order = [change for change in self.changes if change in ("rename", "delete")]
        return order[:1] == ["rename"]

    @property
    def fails(self) -> bool:
        return "fail" in self.changes


SCENARIOS = [
    Scenario(changes, has_key, kind)
    for first, second in itertools.permutations(CHANGES, 2)
    for changes in ((first, second), (first, second, "fail"), (first, "fail", second))
    for has_key in (True, False)
    for kind in ("socket", "resumed", "stream")
]


class Client:
    """A Socket.IO client over an ASGI websocket."""

    def __init__(self, application: Any, namespace: str, auth: dict[str, Any]) -> None:
        self.namespace, self.auth = namespace, auth
        self.state = "connecting"
        self.data: dict[str, Any] = {}
        #: The arguments of each event, with its name.
        self.events: list[list[Any]] = []
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/socket.io/",
            "query_string": b"EIO=4&transport=websocket",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self._task = asyncio.ensure_future(application(scope, self._inbox.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.state = "closed" if self.state in ("connecting", "connected") else self.state
        elif message["type"] == "websocket.send":
            self._handle(message["text"])

    def _handle(self, packet: str) -> None:
        body = packet[2:].partition(",")[2]
        if packet.startswith("0"):
            self._reply(f"40{self.namespace},{json.dumps(self.auth)}")
        elif packet == "2":
            self._reply("3")
        elif packet.startswith("40"):
            self.state, self.data = "connected", json.loads(body)
        elif packet.startswith("41"):
            self.state = "disconnected"
        elif packet.startswith("44"):
            self.state = "refused"
        elif packet.startswith("42"):
            self.events.append(json.loads(body))

    def _reply(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    @property
    def seqs(self) -> list[int]:
        return [event[1]["seq"] for event in self.events]

    async def close(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self._task


class Stream:
    """A client of `/event/stream/<name>`."""

    def __init__(self, application: Any, name: str, key: str) -> None:
        self.state = "connecting"
        self.seqs: list[int] = []
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": f"/event/stream/{name}",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"apikey", key.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self._task = asyncio.ensure_future(application(scope, self._inbox.get, self._send))

    @property
    def events(self) -> list[int]:
        return self.seqs

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.state = {200: "connected", 401: "refused", 404: "refused"}.get(message["status"], "closed")
            return
        for line in message.get("body", b"").splitlines():
            if line.startswith(b"data: "):
                self.seqs.append(json.loads(line[6:])["seq"])
        if not message.get("more_body") and self.state == "connected":
            self.state = "closed"

    async def close(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})
        await self._task


class Server:
    """The application, started by its lifespan on the stepper's loop."""

    def __init__(self, loop: Stepper) -> None:
        self.loop = loop
        self.application = SocketIO()
        self._numbers = itertools.count()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self) -> None:
        self._lifespan = asyncio.ensure_future(
            self.application({"type": "lifespan"}, self._inbox.get, self._outbox.put)
        )
        await self._request("startup")

    async def stop(self) -> None:
        await self._request("shutdown")
        await self._lifespan

    async def _request(self, name: str) -> None:
        self._inbox.put_nowait({"type": f"lifespan.{name}"})
        message = await self._outbox.get()
        assert message["type"] == f"lifespan.{name}.complete", message

    def client(self, namespace: str, key: str, **auth: Any) -> Client:
        return Client(self.application, namespace, {"apikey": key} | auth)

    async def run(self, scenario: Scenario, choices: Choices) -> list[str]:
        """Run the scenario in this order; returns what was wrong about it."""
        await asyncio.sleep(1.05 - self.loop.time() % 1)  # background loops are at the same point in each run
        name = f"loja {next(self._numbers)}"
        make = self.loop.run_in_executor
        instance, key = await make(None, create, name)
        secret = key.secret if scenario.has_key else instance.token.reveal()
        witness = self.client(f"/{name}", GLOBAL_KEY)
        await asyncio.sleep(0.1)
        auth: dict[str, Any] = {}
        if scenario.kind == "resumed":
            auth = {"recover": True}
            before = self.client(f"/{name}", secret, recover=True)
            await asyncio.sleep(0.1)
            await make(None, record, instance.pk)
            await asyncio.sleep(0.1)
            auth |= {"pid": before.data["pid"], "offset": before.events[-1][-1]}
            await before.close()
            await make(None, record, instance.pk)
            await asyncio.sleep(0.1)
        newcomers: list[Client] = []

        def renamed() -> None:
            newcomers.append(self.client(f"/{name} nova", GLOBAL_KEY))

        def change(kind: str) -> Callable[[], object]:
            if kind == "fail":
                return self.loop.fail_next
            return lambda: apply(kind, instance.pk, key.pk, lambda: self.loop.call_soon_threadsafe(renamed))

        self.loop.explore(choices, [change(kind) for kind in scenario.changes])
        if scenario.kind == "stream":
            joiner: Any = Stream(self.application, name, secret)
        else:
            joiner = self.client(f"/{name}", secret, **auth)
        await asyncio.sleep(2.5)  # every recheck that is due has been made, after a failure too
        clients: list[Any] = [joiner, witness, *newcomers]
        already = [len(client.events) for client in clients]
        await make(None, record, instance.pk)
        await asyncio.sleep(0.1)

        is_deleted = "delete" in scenario.changes
        wrong = []
        expected = [scenario.ends_access, scenario.is_renamed or is_deleted, is_deleted]
        for title, client, count, is_over in zip(
            ("joiner", "witness", "newcomer"), clients, already, expected, strict=False
        ):
            later = len(client.events) - count
            if is_over and client.state in ("connecting", "connected"):
                wrong.append(f"the {title} has no access and is {client.state}")
            if is_over and later:
                wrong.append(f"the {title} has no access and receives events")
            if scenario.fails and client.state == "closed":
                continue  # whether it has access could not be known, so it comes back by itself
            if not is_over and client.state != "connected":
                wrong.append(f"the {title} has access and is {client.state}")
            if not is_over and later != 1:
                wrong.append(f"the {title} receives {later} events instead of one")
            if client.seqs != list(range(client.seqs[0], client.seqs[-1] + 1)) if client.seqs else False:
                wrong.append(f"the {title} receives {client.seqs}")
        if scenario.is_renamed and not newcomers:
            wrong.append("nobody joined under the new name")
        for client in clients:
            await client.close()
        return wrong


def create(name: str) -> tuple[Instance, Any]:
    instance = Instance(name=name)
    instance.give_token(f"token of {name}")
    instance.save()
    key, secret = ApiKey.objects.issue(name, ["listen"])
    key.instances.add(instance)
    key.secret = secret
    return instance, key


def apply(kind: str, instance_id: Any, key_id: int, on_rename: Callable[[], object]) -> None:
    """Make a change, as another thread or process makes it."""
    if kind == "revoke":
        ApiKey.objects.get(pk=key_id).revoke()
        return
    instance = Instance.objects.filter(pk=instance_id).first()
    if instance is None:
        return
    if kind == "rotate":
        instance.rotate_token()
    elif kind == "delete":
        instance.delete()
    else:
        instance.name += " nova"
        instance.save()
        on_rename()


def record(instance_id: Any) -> None:
    instance = Instance.objects.filter(pk=instance_id).first()
    if instance is not None:
        Event.objects.record(instance, EventType.CALL, {})
