"""WhatsApp Web's rules of messages beyond their schema, in Evolution API's words; an engine would refuse them, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instances.outbound_message import MessageKind

#: Buttons that reply, and buttons that open, copy or call something, which a message may have.
MAX_REPLIES, MAX_ACTIONS = 3, 2


def broken_rule(kind: MessageKind, members: Mapping[str, Any]) -> str | None:
    """Return the words for the first rule that a valid body breaks, None if it breaks none."""
    if kind == MessageKind.BUTTONS:
        return _broken_by_buttons([button["type"] for button in members.get("buttons") or []])
    if kind == MessageKind.STATUS:
        return _broken_by_status(members)
    return None


def _broken_by_buttons(types: list[str]) -> str | None:
    replies, pix = types.count("reply"), types.count("pix")
    if not types:
        return "At least one button is required"
    if replies > MAX_REPLIES:
        return f"Maximum of {MAX_REPLIES} reply buttons allowed"
    if 0 < replies < len(types):
        return "Reply buttons cannot be mixed with CTA or PIX buttons"
    if pix > 1:
        return "Only one PIX button is allowed"
    if len(types) - replies - pix > MAX_ACTIONS:
        return f"Maximum of {MAX_ACTIONS} CTA buttons allowed"
    return None


def _broken_by_status(members: Mapping[str, Any]) -> str | None:
    if not members.get("content") and not members["hasFile"]:
        return "Content is required"
    if not members.get("allContacts") and not members.get("statusJidList"):
        return "StatusJidList is required"
    if members["type"] == "text" and not members.get("backgroundColor"):
        return "Background color is required"
    if members["type"] == "text" and members.get("font") is None:
        return "Font is required"
    return None
