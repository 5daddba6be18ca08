"""Payloads of providers, made up, and the events that the code of the providers makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import orjson

from instances.changes import Change, InboundMessage, Notice, StatusReport
from instances.events import EventType
from instances.events.document import EXAMPLE
from instances.models import Instance, Message
from instances.providers.base import Provider
from instances.providers.cloud_api import CloudApi
from instances.providers.evolution import EvolutionChannel

PHONE, ANA, NUMBER_ID = "5511900000001", "5511911112222", "106540352242922"


@dataclass(frozen=True)
class ProviderPayload:
    """The body of a request to a provider's route."""

    title: str
    #: The operation, as the REST reference has it.
    route: str
    provider: type[Provider]
    body: dict[str, Any]


def _from_meta(title: str, value: dict[str, Any], field: str = "messages") -> ProviderPayload:
    change = {"field": field, "value": value}
    entry = {"id": "102290129340398", "time": EXAMPLE.seconds, "changes": [change]}
    body = {"object": "whatsapp_business_account", "entry": [entry]}
    return ProviderPayload(title, "POST /webhook/meta", CloudApi, body)


def _of_number(**members: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": PHONE, "phone_number_id": NUMBER_ID}
    return {"messaging_product": "whatsapp", "metadata": metadata, **members}


def _from_ana(kind: str, content: dict[str, Any], **members: Any) -> dict[str, Any]:
    head = {"from": ANA, "id": "wamid.HBgNNTUxMTkxMTExMjIyMhUCABIYFDNBAA", "timestamp": str(EXAMPLE.seconds)}
    message = head | {"type": kind, kind: content} | members
    return _of_number(contacts=[{"profile": {"name": "Ana Lima"}, "wa_id": ANA}], messages=[message])


_QUOTED = {"from": PHONE, "id": "wamid.HBgNNTUxMTkxMTExMjIyMhUCABEYEjlB"}
_STATUS = {"id": "wamid.HBgNNTUxMTkxMTExMjIyMhUCABEYEjlB", "timestamp": str(EXAMPLE.seconds), "recipient_id": ANA}
_PRICING = {"billable": True, "pricing_model": "PMP", "category": "service"}
_TOO_LATE = {"code": 131047, "title": "Re-engagement message"}
_IMAGE = {"id": "1000000000000001", "mime_type": "image/jpeg", "sha256": "c3ludGhldGlj", "caption": "The receipt"}
_BUTTON = {"type": "button_reply", "button_reply": {"id": "sales", "title": "Talk to sales"}}
_ORIGINAL = {"original_message_id": "wamid.HBgNNTUxMTkxMTExMjIyMhUCABIYFDNBAB"}
_AT_SIX = {"type": "text", "text": {"body": "At six"}}
_CALL = {"id": "wacid.HBgNNTUxMTkx", "from": ANA, "to": PHONE, "event": "connect", "direction": "USER_INITIATED"}
_GROUP_KEY = {
    "remoteJid": "120363012345678901@g.us",
    "fromMe": False,
    "id": "3EB0FFEE",
    "participant": f"{ANA}@s.whatsapp.net",
}

PAYLOADS = (
    _from_meta("A text that quotes a message", _from_ana("text", {"body": "Yes, please"}, context=_QUOTED)),
    _from_meta("A picture", _from_ana("image", _IMAGE)),
    _from_meta("A button that was pressed", _from_ana("interactive", _BUTTON, context=_QUOTED)),
    _from_meta("A kind that Evolution API has no name for", _from_ana("order", {"catalog_id": "1", "text": "Two"})),
    ProviderPayload(
        "A text in a group, from an engine",
        "POST /webhook/evolution",
        EvolutionChannel,
        {
            "numberId": PHONE,
            "key": _GROUP_KEY,
            "pushName": "Ana Lima",
            "message": {"conversation": "When do you close?"},
            "messageType": "conversation",
        },
    ),
    _from_meta("A message that was read", _of_number(statuses=[_STATUS | {"status": "read", "pricing": _PRICING}])),
    _from_meta("A message that failed", _of_number(statuses=[_STATUS | {"status": "failed", "errors": [_TOO_LATE]}])),
    _from_meta("An edited message", _from_ana("edit", _ORIGINAL | {"message": _AT_SIX})),
    _from_meta("A message that was taken back", _from_ana("revoke", _ORIGINAL)),
    _from_meta("A call that comes in", _of_number(calls=[_CALL | {"timestamp": str(EXAMPLE.seconds)}]), "calls"),
    _from_meta("A change of the account", {"event": "ACCOUNT_UPDATE", "phone_number": PHONE}, "account_update"),
)  # fmt: skip


@cache
def examples() -> dict[EventType, list[tuple[ProviderPayload, Any]]]:
    """Return the payloads that make events of each type, with the data of these events."""
    found: dict[EventType, list[tuple[ProviderPayload, Any]]] = {}
    for payload in PAYLOADS:
        for change in payload.provider().parse(orjson.dumps(payload.body), {}):
            for event_type, data in _events(change):
                found.setdefault(event_type, []).append((payload, event_type.scrub(data)))
    return found


def _events(change: Change) -> Iterator[tuple[EventType, Any]]:
    """Yield the event about the change itself; those of the contact and the chat are the samples of their types."""
    if isinstance(change, InboundMessage):
        change = replace(change, timestamp=EXAMPLE.seconds)  # the Evolution channel takes the time of the request
        message = Message(instance=Instance(pk=EXAMPLE.id), wa_id=change.id, **change.fields())
        data = message.as_event()
        yield EventType.MESSAGES_UPSERT, data | {"key": data["key"] | change.key_extra}
    elif isinstance(change, StatusReport):
        yield EventType.MESSAGES_UPDATE, change.as_event() | {"instanceId": EXAMPLE.id}
    elif isinstance(change, Notice):
        yield change.event_type, change.data
