"""Messages of the Evolution channel, as the engine behind an instance receives them in send.message.

The members are Evolution API's, and what it drops although an engine needs it: bytes, caption, name and type of a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from instances.outbound_message import MediaFile, MessageKind, OutboundMessage
from instances.providers.base import quotation

#: The names of buttons in WhatsApp's native flows, and the members that the parameters of each have besides their text.
_FLOW_BUTTONS: dict[str, tuple[str, dict[str, str]]] = {
    "reply": ("quick_reply", {"id": "id"}),
    "url": ("cta_url", {"url": "url", "merchant_url": "url"}),
    "copy": ("cta_copy", {"copy_code": "copyCode"}),
    "call": ("cta_call", {"phone_number": "phoneNumber"}),
}


def _text(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    return "conversation", {"conversation": message.members["text"], **quotation(message)}


def _media(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    members = message.members
    about = _given({"caption": members.get("caption")})
    if members["mediatype"] == "video" and members["gifPlayback"]:
        about |= {"gifPlayback": True, "gifAttribution": members["gifAttribution"]}
    return _with_file(message, f"{members['mediatype']}Message", about)


def _voice(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    return _with_file(message, "audioMessage", {"ptt": True})


def _with_file(message: OutboundMessage, message_type: str, about: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    file: MediaFile = message.members["file"]
    about |= _given({"fileName": file.name, "mimetype": file.mimetype})
    content = {message_type: about, "mediaUrl": file.url}
    if file.base64 is not None:
        content["base64"] = file.base64
    return message_type, content | quotation(message)


def _buttons(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    names = ("title", "description", "footer", "thumbnailUrl", "buttons")
    return "buttonMessage", _given({name: message.members.get(name) for name in names}) | quotation(message)


def _carousel(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    cards = [_card(card, number) for number, card in enumerate(message.members["cards"], start=1)]
    carousel = {"cards": cards, "messageVersion": 1}
    interactive = {"body": {"text": message.members["body"]}, "carouselMessage": carousel}
    return "interactiveMessage", {"interactiveMessage": interactive, **quotation(message)}


def _card(card: dict[str, Any], number: int) -> dict[str, Any]:
    image = {"imageMessage": {"url": card["imageUrl"]}} if card.get("imageUrl") else {}
    header = {"title": card.get("title", ""), "hasMediaAttachment": bool(image), **image}
    buttons = [_flow_button(button, f"card-{number}-{place}") for place, button in enumerate(card["buttons"], start=1)]
    footer = {"footer": {"text": card["footer"]}} if card.get("footer") else {}
    return {"header": header, "body": {"text": card["body"]}, **footer, "nativeFlowMessage": {"buttons": buttons}}


def _flow_button(button: dict[str, Any], made_id: str) -> dict[str, Any]:
    """Return a button of a native flow; one that replies needs an id."""
    name, members = _FLOW_BUTTONS[button["type"]]
    button = {"id": made_id} | _given(button)
    given = {parameter: button.get(member) for parameter, member in members.items()}
    parameters = _given({"display_text": button.get("displayText"), **given})
    return {"name": name, "buttonParamsJson": json.dumps(parameters, ensure_ascii=False)}


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, "")}


#: What forms `messageType` and `message` of each kind that is sent.
CONTENTS: dict[MessageKind, Callable[[OutboundMessage], tuple[str, dict[str, Any]]]] = {
    MessageKind.TEXT: _text,
    MessageKind.MEDIA: _media,
    MessageKind.VOICE: _voice,
    MessageKind.BUTTONS: _buttons,
    MessageKind.CAROUSEL: _carousel,
}
