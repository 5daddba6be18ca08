"""Our server, started as `manage.py serve` starts it, with events fed to the relay.

    python -m bench.servers.evoapi prepare INSTANCES    a migrated database with these instances and keys in DATA_DIR
    python -m bench.servers.evoapi INSTANCES            serve

Fed events are passed to `Relay.on_hint` as the bus passes committed ones: with their envelopes, which are rendered when
an event is recorded. The cost of recording is in the rows with POST; in one row the envelopes are rendered within the
measured time, as the other servers serialise theirs at every emit.
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
from instances.models import ApiKey, Instance, Message
from realtime.database import database
from realtime.envelope import EventNumber, render
from realtime.log.models import Event
from realtime.management.commands import serve
from realtime.wire.server import GracefulServer

EPOCH = "9c2347a1eeccb389"


def prepare(config: dict[str, Any]) -> None:
    """Migrate the database and create the instances and keys."""
    call_command("migrate", verbosity=0)
    with transaction.atomic():
        for number, name in enumerate(config["instances"]):
            _create(name, config, integration="EVOLUTION", number=str(5511000000000 + number))
        _create(config["meta"], config, integration="WHATSAPP-BUSINESS", number=config["meta_number"])
        for key, scope in config["keys"].items():
            if scope == "*":
                fields = {"prefix": key[:12], "scopes": [ApiKey.Scope.LISTEN], "all_instances": True}
                ApiKey.objects.create(name="bench", digest=digest(key), **fields)


def _create(name: str, config: dict[str, Any], **fields: Any) -> None:
    instance = Instance(name=name, provider_token=Secret("none"), **fields)
    instance.give_token(next(key for key, scope in config["keys"].items() if scope == name))
    instance.save()


class Feed:
    """Events of instances that have listeners, numbered from the relay's position on."""

    def __init__(self, names: list[str]) -> None:
        known = {instance.name: instance for instance in Instance.objects.filter(name__in=names)}
        self.instances = [known[name] for name in names]
        self.relay = application.relay
        self.seqs: dict[Any, int] = {}
        self.ready: deque[tuple[Event, Instance]] = deque()

    async def all_live(self) -> None:
        """Wait until all listeners are in a room: clients receive CONNECT before that."""
        while not all(map(self._is_live, self.instances)):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)

    def _is_live(self, instance: Instance) -> bool:
        feed = self.relay.feeds.get(instance.pk)
        return feed is not None and all(listener.room for listener in feed.listeners.values())

    def blank(self, instance: Instance) -> Event:
        """Return the next event without envelope."""
        seq = self.seqs[instance.pk] = self.seqs.get(instance.pk) or self.relay.feeds[instance.pk].position
        self.seqs[instance.pk] = seq + 1
        return Event(instance_id=instance.pk, name=instance.name, seq=seq + 1, type=control.EVENT, is_heard=True)

    def render(self, event: Event, instance: Instance, ts: int) -> Event:
        """Render the envelope of an event; return the event."""
        number = EventNumber(EPOCH, event.seq, event.seq - 1)
        event.envelope = render(instance, EventType.MESSAGES_UPSERT, control.message(ts), number)
        return event

    async def event(self, ts: int) -> None:
        instance = self.instances[0]
        self.relay.on_hint([self.render(self.blank(instance), instance, ts)])

    async def make(self, events: int, is_round: int, has_envelopes: int) -> dict[str, int]:
        """Prepare the events of the next command, with their envelopes as committed ones or without."""
        await self.all_live()
        count = len(self.instances) if is_round else 1
        for number in range(events):
            instance = self.instances[number % count]
            event = self.blank(instance)
            if has_envelopes:
                self.render(event, instance, time.monotonic_ns())
            self.ready.append((event, instance))
        return {"made": events}

    async def feed(self, events: int, per_turn: int) -> dict[str, int]:
        for turn in range(0, events, per_turn):
            # events are not kept once emitted: allocating memory for each would cost more than rendering it
            batch = [self.ready.popleft() for _ in range(min(per_turn, events - turn))]
            rendered = [event if event.envelope else self.render(event, instance, 0) for event, instance in batch]
            self.relay.on_hint(rendered)
            await asyncio.sleep(0)
        return {"emitted": events}


def _recorded() -> dict[str, int]:
    return {
        "messages": Message.objects.count(),
        "events": Event.objects.filter(type=control.EVENT).count(),
    }


async def recorded() -> dict[str, int]:
    """Return the numbers of messages and of events of messages in the database."""
    return await database(_recorded)


if __name__ == "__main__":
    options = json.loads(Path(sys.argv[-1]).read_text())
    if sys.argv[1] == "prepare":
        prepare(options)
    else:
        feed = Feed(options["instances"])
        config = serve.uvicorn_config("127.0.0.1", 0, 1)
        commands: dict[str, control.Command] = {
            "event": feed.event,
            "make": feed.make,
            "feed": feed.feed,
            "round": feed.feed,
            "recorded": recorded,
        }
        control.run(GracefulServer(config), commands)
