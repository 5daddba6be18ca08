"""The Evolution channel: any program can act as WhatsApp, posting inbound messages and subscribing to outgoing ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from instances.changes import Change, InboundMessage, OutgoingText
from instances.models import Instance, Integration
from instances.providers.base import InvalidPayload, Provider, load_json

#: Widths of the columns for ids and addresses, and for message types.
MAX_ID_LENGTH = 255
MAX_TYPE_LENGTH = 64
#: Characters of a picture's URL; WhatsApp signs them at length.
MAX_URL_LENGTH = 8192


class EvolutionChannel(Provider):
    integration = Integration.EVOLUTION

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Return the one message of a body, which has the shape of Evolution API's POST /webhook/evolution."""
        payload = load_json(body)
        number = _text(payload, "numberId")
        if payload.get("message") is None:
            return []
        message = _object(payload, "message")
        key = _object(payload, "key")
        from_me = key.get("fromMe", False)
        if not isinstance(from_me, bool):
            raise InvalidPayload("key.fromMe is not of a type(s) boolean")
        picture = _picture(payload) or _picture(key, "key.")
        return [
            InboundMessage(
                number=number,
                id=_optional_text(key, "id", "key.") or str(uuid.uuid4()),
                remote_jid=_text(key, "remoteJid", "key."),
                participant=_optional_text(key, "participant", "key."),
                from_me=from_me,
                push_name=_optional_text(payload, "pushName", limit=None),
                profile_pic_url=picture,
                type=_optional_text(payload, "messageType", limit=MAX_TYPE_LENGTH) or "conversation",
                content=message,
                timestamp=int(time.time()),
                key_extra={"profilePicUrl": picture} if picture else {},
                always_upserts=True,
            )
        ]

    async def send_text(self, instance: Instance, text: OutgoingText) -> str:
        """Return a new id without calling anything: the channel's operator receives send.message and delivers it."""
        return str(uuid.uuid4())


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in holder:
        raise InvalidPayload(f'instance requires property "{name}"')
    if not isinstance(holder[name], dict):
        raise InvalidPayload(f"{name} is not of a type(s) object")
    return holder[name]


def _optional_text(holder: dict[str, Any], name: str, path: str = "", limit: int | None = MAX_ID_LENGTH) -> str | None:
    value = holder.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidPayload(f"{path}{name} is not of a type(s) string")
    if limit and len(value) > limit:
        raise InvalidPayload(f"{path}{name} does not meet maximum length of {limit}")
    if limit and "\x00" in value:
        raise InvalidPayload(f"{path}{name} must not contain NUL characters")
    return value


def _picture(holder: dict[str, Any], path: str = "") -> str | None:
    return _optional_text(holder, "profilePicUrl", path, limit=MAX_URL_LENGTH)


def _text(holder: dict[str, Any], name: str, path: str = "") -> str:
    value = _optional_text(holder, name, path)
    if not value:
        raise InvalidPayload(f'instance requires property "{path}{name}"')
    return value
