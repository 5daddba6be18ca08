"""Our server, started as `manage.py serve` starts it, with events fed at the relay's door.

    python -m bench.servers.evoapi prepare INSTANCES    a migrated database with these instances and keys in DATA_DIR
    python -m bench.servers.evoapi INSTANCES            serve

Fed events are handed to `Relay.on_hint` as the bus hands over what was committed: with their envelopes, which are made
when an event is recorded. What that and storing them costs is in the rows with POST; one row has them rendered while
the clock runs, as the other servers serialise theirs at every emit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import transaction

from bench.servers import control
from evoapi.asgi import application
from instances.crypto import Secret, digest
from instances.events import EventType
from instances.models import ApiKey, Instance, Integration, Message
from realtime.database import database
from realtime.envelope import EventNumber, render
from realtime.log.models import Event
from realtime.management.commands import serve

EPOCH = "9c2347a1eeccb389"


def prepare(told: dict[str, Any]) -> None:
    call_command("migrate", verbosity=0)
    with transaction.atomic():
        for number, name in enumerate(told["instances"]):
            _create(name, told, integration=Integration.EVOLUTION, number=str(5511000000000 + number))
        _create(told["meta"], told, integration=Integration.CLOUD_API, number=told["meta_number"])
        for key, opened in told["keys"].items():
            if opened == "*":
                fields = {"prefix": key[:12], "scopes": [ApiKey.Scope.LISTEN], "all_instances": True}
                ApiKey.objects.create(name="bench", digest=digest(key), **fields)


def _create(name: str, told: dict[str, Any], **fields: Any) -> None:
    instance = Instance(name=name, provider_token=Secret("none"), **fields)
    instance.give_token(next(key for key, opened in told["keys"].items() if opened == name))
    instance.save()


class Feed:
    """Events of instances that have listeners, numbered on from where the relay stands."""

    def __init__(self, names: list[str]) -> None:
        known = {one.name: one for one in Instance.objects.filter(name__in=names)}
        self.instances = [known[name] for name in names]
        self.relay = application.relay
        self.seqs: dict[Any, int] = {}
        self.ready: deque[tuple[Event, Instance]] = deque()

    async def all_live(self) -> None:
        """Wait for those who were told CONNECT and are on their way into their rooms still."""
        while not all(map(self._is_live, self.instances)):  # noqa: ASYNC110 (nobody tells us)
            await asyncio.sleep(0.01)

    def _is_live(self, instance: Instance) -> bool:
        feed = self.relay.feeds.get(instance.pk)
        return feed is not None and all(listener.room for listener in feed.listeners.values())

    def blank(self, instance: Instance) -> Event:
        """An event without its envelope."""
        seq = self.seqs[instance.pk] = self.seqs.get(instance.pk) or self.relay.feeds[instance.pk].position
        self.seqs[instance.pk] = seq + 1
        return Event(instance_id=instance.pk, name=instance.name, seq=seq + 1, type=control.EVENT, is_heard=True)

    def write(self, event: Event, instance: Instance, ts: int) -> Event:
        number = EventNumber(EPOCH, event.seq, event.seq - 1)
        event.envelope = render(instance, EventType.MESSAGES_UPSERT, control.message(ts), number)
        return event

    async def event(self, ts: int) -> None:
        instance = self.instances[0]
        self.relay.on_hint([self.write(self.blank(instance), instance, ts)])

    async def make(self, events: int, is_round: int, is_whole: int) -> dict[str, int]:
        """Have the events of the next command ready: whole, as they are once committed, or without their envelopes."""
        await self.all_live()
        places = len(self.instances) if is_round else 1
        for number in range(events):
            instance = self.instances[number % places]
            event = self.blank(instance)
            self.ready.append((self.write(event, instance, time.monotonic_ns()) if is_whole else event, instance))
        return {"made": events}

    async def feed(self, events: int, per_turn: int) -> dict[str, int]:
        for turn in range(0, events, per_turn):
            # none is kept once it is told: fresh memory for each would cost more than to write it
            now = [self.ready.popleft() for _ in range(min(per_turn, events - turn))]
            self.relay.on_hint([event if event.envelope else self.write(event, instance, 0) for event, instance in now])
            await asyncio.sleep(0)
        return {"emitted": events}


def _recorded() -> dict[str, int]:
    return {
        "messages": Message.objects.count(),
        "events": Event.objects.filter(type=control.EVENT).count(),
    }


async def recorded() -> dict[str, int]:
    """How many messages and events of messages the database holds."""
    return await database(_recorded)


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[-1]).read_text())
    if sys.argv[1] == "prepare":
        prepare(told)
    else:
        feed = Feed(told["instances"])
        config = serve._config("127.0.0.1", 0, 1)
        commands: dict[str, control.Command] = {
            "event": feed.event,
            "make": feed.make,
            "feed": feed.feed,
            "round": feed.feed,
            "recorded": recorded,
        }
        control.run(serve.GracefulServer(config), commands)
