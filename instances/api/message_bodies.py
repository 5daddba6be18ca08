"""The bodies of POST /message/… without a file, validated as by Evolution API's JSON schemas."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from rest_framework import serializers

from instances.api.fields import Array, Flag, MessageText, Text
from instances.api.message_fields import MAX_URL_LENGTH, Components, Coordinate, Integer, Number, OneOf, Unique
from instances.api.send_body import SendBody
from instances.api.serializers import RequestBody
from instances.bounds import MESSAGE_PARTS
from instances.errors import ApiError

_EMOJI_BASE = (
    r"[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    r"\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff]"
)
_EMOJI_PART = rf"{_EMOJI_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*[\U000e0020-\U000e007f]*"
#: A single emoji (UTS #51): a flag, a keycap, or pictures that are joined to one.
EMOJI = re.compile(rf"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_EMOJI_PART}(?:\u200d{_EMOJI_PART}){{0,8}}")


class TextBody(SendBody):
    """The body of POST /message/sendText and of the socket event send_message."""

    wrapper = "textMessage"

    text = MessageText()
    linkPreview = Flag(default=False)


class LocationBody(SendBody):
    wrapper = "locationMessage"

    latitude = Coordinate(90)
    longitude = Coordinate(180)
    name = Text(allow_blank=True, max_length=1024)
    address = Text(allow_blank=True, max_length=1024)


class AtLeast(Text):
    """A string of a least length."""

    def __init__(self, least: int, **kwargs: Any) -> None:
        self.least = least
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if len(text) < self.least:
            raise serializers.ValidationError(f"does not meet minimum length of {self.least}", code="type")
        return text

    def schema(self) -> dict[str, Any]:
        return super().schema() | ({} if self.allow_blank else {"minLength": self.least})


class CardBody(RequestBody):
    fullName = Text(max_length=1024)
    phoneNumber = AtLeast(10, max_length=255)
    wuid = AtLeast(10, required=False, allow_blank=True, allow_null=True, max_length=255)
    organization = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    email = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    url = Text(required=False, allow_blank=True, allow_null=True, max_length=MAX_URL_LENGTH)


class ContactBody(SendBody):
    old_names: ClassVar[dict[str, str]] = {"contactMessage": "contact"}

    contact = Array(child=CardBody(), allow_empty=False, max_length=MESSAGE_PARTS)


class ReactionKey(RequestBody):
    also_known = None

    id = Text(max_length=255)
    remoteJid = Text(max_length=240)
    fromMe = Flag()


class ReactionBody(SendBody):
    """A reaction to the message `key`; an empty one takes an earlier reaction back."""

    wrapper = "reactionMessage"

    number = Number(required=False)
    key = ReactionKey()
    reaction = Text(allow_blank=True, max_length=64)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if attrs["reaction"] and not EMOJI.fullmatch(attrs["reaction"]):
            raise ApiError("Reaction must be a single emoji or empty string")
        attrs["number"] = attrs["key"]["remoteJid"]
        return attrs


class PollBody(SendBody):
    wrapper = "pollMessage"

    name = Text(max_length=1024)
    selectableCount = Integer(0, 10)
    values = Unique(child=Text(max_length=1024), max_length=10)

    def validate_values(self, values: list[str]) -> list[str]:
        if len(values) < 2:
            raise serializers.ValidationError("does not meet minimum length of 2", code="type")
        return values


class RowBody(RequestBody):
    title = Text(max_length=1024)
    description = Text(required=False, allow_blank=True, allow_null=True, max_length=4096)
    rowId = Text(max_length=1024)


class SectionBody(RequestBody):
    title = Text(allow_blank=True, max_length=1024)
    rows = Unique(child=RowBody(), allow_empty=False, max_length=MESSAGE_PARTS)


class ListBody(SendBody):
    wrapper = "listMessage"

    title = Text(allow_blank=True, max_length=4096)
    description = Text(required=False, allow_blank=True, allow_null=True)
    footerText = Text(allow_blank=True, max_length=4096)
    buttonText = Text(allow_blank=True, max_length=1024)
    sections = Unique(child=SectionBody(), allow_empty=False, max_length=MESSAGE_PARTS)


class CardButtonBody(RequestBody):
    type = OneOf(("reply", "copy", "url", "call"))
    displayText = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    id = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    url = Text(required=False, allow_blank=True, allow_null=True, max_length=MAX_URL_LENGTH)
    copyCode = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    phoneNumber = Text(required=False, allow_blank=True, allow_null=True, max_length=255)


class ButtonBody(CardButtonBody):
    type = OneOf(("reply", "copy", "url", "call", "pix"))
    currency = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    name = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)
    keyType = OneOf(("phone", "email", "cpf", "cnpj", "random"), required=False)
    key = Text(required=False, allow_blank=True, allow_null=True, max_length=1024)


class ButtonsBody(SendBody):
    title = Text(required=False, allow_blank=True, allow_null=True)
    description = Text(required=False, allow_blank=True, allow_null=True)
    footer = Text(required=False, allow_blank=True, allow_null=True)
    thumbnailUrl = Text(required=False, allow_blank=True, allow_null=True, max_length=MAX_URL_LENGTH)
    buttons = Array(child=ButtonBody(), required=False, max_length=MESSAGE_PARTS)


class CarouselCardBody(RequestBody):
    title = Text(required=False, allow_blank=True, allow_null=True)
    body = Text()
    footer = Text(required=False, allow_blank=True, allow_null=True)
    imageUrl = Text(required=False, allow_blank=True, allow_null=True, max_length=MAX_URL_LENGTH)
    buttons = Array(child=CardButtonBody(), allow_empty=False, max_length=3)


class CarouselBody(SendBody):
    body = Text()
    cards = Array(child=CarouselCardBody(), allow_empty=False, max_length=10)


class TemplateBody(SendBody):
    """A template that Meta has approved; `components` are the Graph API's."""

    name = Text(max_length=512)
    language = Text(allow_blank=True, max_length=64)
    components = Components(required=False, allow_null=True)
