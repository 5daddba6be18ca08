"""Messages to send: what every channel is given, whatever the route or the socket event that asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class MessageKind(StrEnum):
    """The kinds of messages, by the routes that send them: POST /message/send<Kind>."""

    TEXT = "Text"
    MEDIA = "Media"
    ROUND_VIDEO = "Ptv"
    VOICE = "WhatsAppAudio"
    STATUS = "Status"
    STICKER = "Sticker"
    LOCATION = "Location"
    CONTACT = "Contact"
    REACTION = "Reaction"
    POLL = "Poll"
    LIST = "List"
    BUTTONS = "Buttons"
    CAROUSEL = "Carousel"
    TEMPLATE = "Template"


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """The file of a message: a URL to fetch it from, or its bytes in base64."""

    url: str | None = None
    base64: str | None = None
    name: str | None = None
    mimetype: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutboundMessage:
    """A message to send."""

    kind: MessageKind
    remote_jid: str
    #: The validated members of the body of the kind's route; `file` is a MediaFile.
    members: Mapping[str, Any]
    #: Evolution API's `messageType` and `message`, as the instance's provider forms them.
    type: str = "conversation"
    content: dict[str, Any] = field(default_factory=dict)
    quoted: dict[str, Any] | None = None
    #: The client's own id of its request, by which a repeat returns the result of the first.
    request_id: str | None = None
    #: The id that the client has chosen for the message, where the channel lets it.
    message_id: str | None = None
    #: Text that comes back in WhatsApp's reports on the message, where the provider can do that.
    callback_data: str | None = None
