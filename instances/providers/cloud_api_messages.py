"""Meta's messages in Evolution API's format.

Types without a counterpart stay as they are, as messageType "unknown" beside Meta's own `type`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Members of a message of Meta's besides its content.
_COMMON = {"id", "from", "to", "from_user_id", "to_user_id", "timestamp", "type", "group_id", "history_context"}


@dataclass(frozen=True)
class Content:
    """The content of a message as Evolution API's events hold it."""

    #: Evolution API's `messageType`.
    type: str
    message: dict[str, Any]
    context: dict[str, Any] | None = None
    #: Members without a counterpart in Evolution API, under Meta's names.
    extra: dict[str, Any] = field(default_factory=dict)


def content_of(raw: dict[str, Any]) -> Content:
    """Convert one of Meta's messages; no member is dropped."""
    kind = str(raw.get("type", ""))
    given = raw.get(kind)
    context = _context(raw.get("context"))
    converter = _CONVERTERS.get(kind)
    if converter and isinstance(given, list if kind == "contacts" else dict):
        message_type, convert = converter
        message_type, message = (message_type, convert(given)) if message_type else convert(given)
    else:
        message_type, message = "unknown", ({kind: given} if given is not None else {})
    if context:
        message = message | {"contextInfo": context}
    extra = {name: value for name, value in raw.items() if name not in _COMMON and name not in (kind, "context")}
    if message_type == "unknown" and raw.get("type") is not None:
        extra["type"] = raw["type"]
    return Content(message_type, message, context, extra)


def _context(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, dict) or not given:
        return None
    rest = {name: value for name, value in given.items() if name != "id"}
    return ({"stanzaId": given["id"]} if given.get("id") else {}) | rest


def _text(given: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in given.items() if name != "body"}
    return {"conversation": str(given.get("body") or "")} | ({"text": rest} if rest else {})


def _as(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda given: {name: given}


def _audio(given: dict[str, Any]) -> dict[str, Any]:
    return {"audioMessage": given | {"ptt": given.get("voice") or False}}


def _location(given: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in given.items() if name not in ("latitude", "longitude")}
    coordinates = {"degreesLatitude": given.get("latitude"), "degreesLongitude": given.get("longitude")}
    return {"locationMessage": coordinates | rest}


def _reaction(given: dict[str, Any]) -> dict[str, Any]:
    emoji = {"text": given["emoji"]} if given.get("emoji") else {}
    return {"reactionMessage": {"key": {"id": given.get("message_id")}} | emoji}


def _interactive(given: dict[str, Any]) -> dict[str, Any]:
    reply = given.get(str(given.get("type")))
    title = reply.get("title") if isinstance(reply, dict) else None
    return ({"conversation": title} if title else {}) | {"interactiveMessage": given}


def _button(given: dict[str, Any]) -> dict[str, Any]:
    return {"conversation": given.get("text"), "buttonMessage": given}


def _contacts(given: list[Any]) -> tuple[str, dict[str, Any]]:
    cards = [_card(contact) for contact in given if isinstance(contact, dict)]
    if len(cards) == 1:
        return "contactMessage", {"contactMessage": cards[0]}
    return "contactsArrayMessage", {
        "contactsArrayMessage": {"displayName": f"{len(cards)} contacts", "contacts": cards}
    }


def _card(contact: dict[str, Any]) -> dict[str, Any]:
    """Return the display name and vCard 3.0 (RFC 2426) of a contact, beside Meta's own form of it."""
    name = contact.get("name")
    shown = str(name.get("formatted_name") or name.get("first_name") or "") if isinstance(name, dict) else ""
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{shown}", f"FN:{shown}"]
    organization = contact.get("org")
    if isinstance(organization, dict) and organization.get("company"):
        lines.append(f"ORG:{organization['company']};")
    lines += [f"EMAIL:{email['email']}" for email in _each(contact, "emails", "email")]
    lines += [f"URL:{url['url']}" for url in _each(contact, "urls", "url")]
    for number, phone in enumerate(_each(contact, "phones", "phone"), start=1):
        waid = f";waid={phone['wa_id']}" if phone.get("wa_id") else ""
        lines += [f"item{number}.TEL{waid}:{phone['phone']}", f"item{number}.X-ABLabel:Celular"]
    return {"displayName": shown, "vcard": "\n".join([*lines, "END:VCARD"]), "contact": contact}


def _each(contact: dict[str, Any], name: str, needed: str) -> list[dict[str, Any]]:
    given = contact.get(name)
    return [item for item in given if isinstance(item, dict) and item.get(needed)] if isinstance(given, list) else []


#: Meta's type → Evolution API's messageType (None if the converter returns it too) and the converter of `message`.
_CONVERTERS: dict[str, tuple[str | None, Callable[[Any], Any]]] = {
    "text": ("conversation", _text),
    "image": ("imageMessage", _as("imageMessage")),
    "video": ("videoMessage", _as("videoMessage")),
    "document": ("documentMessage", _as("documentMessage")),
    "sticker": ("stickerMessage", _as("stickerMessage")),
    "audio": ("audioMessage", _audio),
    "location": ("locationMessage", _location),
    "contacts": (None, _contacts),
    "reaction": ("reactionMessage", _reaction),
    "interactive": ("interactiveMessage", _interactive),
    "button": ("buttonMessage", _button),
}
