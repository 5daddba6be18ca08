"""A transport in one file: each event is a file in a folder of the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers

from instances.api.fields import Flag, Text
from instances.api.serializers import RequestBody
from instances.events import EventType
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, RenderedBody, Result, Transport
from realtime.envelope import encode


class SpoolOptions(RequestBody):
    folder = serializers.RegexField("^[a-z0-9-]+$", max_length=40, help_text="The name of a folder.")
    isPretty = Flag(default=False, label="Pretty", help_text="With line breaks.")
    passphrase = Text(write_only=True, max_length=100, help_text="The first line of each file.")


class Spool(Transport):
    name = "spool"
    title = "Spool"
    description = "the events that are written to files"
    options = SpoolOptions

    def body(self, envelope: Mapping[str, Any]) -> RenderedBody:
        return RenderedBody(encode(dict(envelope)))

    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        return f"{endpoint.options['folder']}/{event_type.value}"

    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        folder = settings.SPOOL_DIR / endpoint.options["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{message.id}.json"
        file.with_suffix(".part").write_bytes(endpoint.secrets["passphrase"].encode() + b"\n" + message.body)
        file.with_suffix(".part").rename(file)
        return Outcome(Result.DELIVERED)
