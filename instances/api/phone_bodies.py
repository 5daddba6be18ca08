"""Request bodies of the chat, label, call and business routes, with the rules of Evolution API's schemas."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from instances.api.fields import MAX_NUMBER_LENGTH, Flag, Seconds, Text
from instances.api.message_fields import OneOf, Unique
from instances.api.schema_fields import ChatNumber, JsonNumber
from instances.api.serializers import RequestBody
from instances.bounds import READ_MESSAGES

PRESENCES = ("unavailable", "available", "composing", "recording", "paused")
_AUDIENCE = ("all", "contacts", "contact_blacklist", "none")


class MessageKeyBody(RequestBody):
    """The `key` of a stored message."""

    also_known: ClassVar[Collection[str] | None] = ("participant", "remoteJidAlt")

    id = Text(max_length=255)
    fromMe = Flag()
    remoteJid = Text(max_length=255)


class WhatsappNumbersBody(RequestBody):
    numbers = Unique(allow_empty=False, child=Text(max_length=MAX_NUMBER_LENGTH, min_length=1), required=False)


class ReadMessagesBody(RequestBody):
    readMessages = Unique(allow_empty=False, child=MessageKeyBody(), max_length=READ_MESSAGES)


class PlayedMessagesBody(RequestBody):
    playedMessages = Unique(allow_empty=False, child=MessageKeyBody())


class LastMessageBody(RequestBody):
    also_known = None

    key = MessageKeyBody()
    messageTimestamp = Seconds(required=False)


class ArchiveChatBody(RequestBody):
    archive = Flag()
    chat = Text(required=False, max_length=255)
    lastMessage = LastMessageBody(required=False)


class MarkChatUnreadBody(RequestBody):
    lastMessage = LastMessageBody()
    chat = Text(required=False, max_length=255)


class DeleteMessageBody(MessageKeyBody):
    also_known = ()

    participant = Text(required=False, max_length=255)


class UpdateMessageBody(RequestBody):
    number = Text(required=False, max_length=MAX_NUMBER_LENGTH)
    text = Text(required=False)
    key = MessageKeyBody(required=False)


class ChatPresenceBody(RequestBody):
    number = ChatNumber()
    presence = OneOf(PRESENCES)
    delay = JsonNumber()


class BlockStatusBody(RequestBody):
    number = Text(max_length=MAX_NUMBER_LENGTH)
    status = OneOf(("block", "unblock"))


class OptionalNumberBody(RequestBody):
    number = Text(required=False, max_length=MAX_NUMBER_LENGTH)


class ProfileNameBody(RequestBody):
    name = Text(required=False)


class ProfileStatusBody(RequestBody):
    status = Text(required=False)


class ProfilePictureBody(RequestBody):
    also_known = ("number",)

    picture = Text(required=False, max_length=None)  # a URL, or the picture in base64


class PrivacyBody(RequestBody):
    readreceipts = OneOf(("all", "none"))
    profile = OneOf(_AUDIENCE)
    status = OneOf(_AUDIENCE)
    online = OneOf(("all", "match_last_seen"))
    last = OneOf(_AUDIENCE)
    groupadd = OneOf(_AUDIENCE)


class HandleLabelBody(RequestBody):
    number = ChatNumber()
    labelId = Text(max_length=255)
    action = OneOf(("add", "remove"))


class OfferCallBody(RequestBody):
    number = ChatNumber()
    isVideo = Flag(required=False)
    callDuration = Seconds(min_value=1, max_value=15)
