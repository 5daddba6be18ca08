"""The bodies of POST /message/…, validated as by Evolution API's JSON schemas; those of its version 1, too."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from typing import Any, ClassVar, cast
from urllib.parse import unquote, urlsplit

from django.http import QueryDict
from rest_framework import serializers

from instances import json_body
from instances.api.fields import Array, Flag, MessageText, Milliseconds, Object, Text
from instances.api.ignored import note_ignored
from instances.api.message_fields import (
    MAX_URL_LENGTH,
    Attribution,
    Components,
    Coordinate,
    Digits,
    FileSource,
    FlagOrText,
    Integer,
    Number,
    OneOf,
    Unique,
    is_base64,
    is_url,
    split_data_url,
)
from instances.api.multipart import FormData, FormFile
from instances.api.serializers import RequestBody, validate
from instances.api.version_1 import flat_body
from instances.bounds import MAX_BODY_BYTES, MESSAGE_PARTS
from instances.errors import ApiError
from instances.outbound_message import MediaFile

#: Bytes of a file in a form: in base64, as events have it, it is no longer than a body that is posted.
MAX_FILE_BYTES = MAX_BODY_BYTES // 4 * 3

#: The types of files that programs name when they know none.
_NO_TYPES = {"", "application/octet-stream"}

_OWNED = "Owned media must be a url or base64"
_EMOJI_BASE = (
    r"[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    r"\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff]"
)
_EMOJI_PART = rf"{_EMOJI_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*[\U000e0020-\U000e007f]*"
#: A single emoji (UTS #51): a flag, a keycap, or pictures that are joined to one.
EMOJI = re.compile(rf"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_EMOJI_PART}(?:\u200d{_EMOJI_PART}){{0,8}}")


class QuotedKey(RequestBody):
    also_known = None

    id = Text(max_length=255)


class QuotedBody(RequestBody):
    also_known = None

    key = QuotedKey()


class Quoted(Object):
    """The quoted message; only its `key.id` is validated."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        quoted = super().to_internal_value(data)
        validate(QuotedBody(data=quoted))
        return quoted

    def schema(self) -> dict[str, Any]:
        id_ = {"type": "string", "maxLength": 255} | Text().schema()
        key = {"type": "object", "required": ["id"], "properties": {"id": id_}}
        return {"type": "object", "required": ["key"], "properties": {"key": key}}


class SendBody(RequestBody):
    """A body that sends a message; forms, and the wrappers of version 1, are made flat first."""

    #: Version 1's name of the object that holds the kind's own members.
    wrapper: ClassVar[str] = ""
    #: Version 1's names of members, with their names since.
    old_names: ClassVar[dict[str, str]] = {}

    number = Number()
    delay = Milliseconds(required=False)
    quoted = Quoted(required=False, allow_null=True)
    mentionsEveryOne = Flag(required=False)
    mentioned = Unique(child=Digits(max_length=255), required=False, allow_empty=False)
    id = Text(required=False, allow_null=True, max_length=255)
    messageId = Text(required=False, allow_null=True, max_length=128)
    retryUnknown = Flag(default=False)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, QueryDict):
            data = FormData({name: values[0] if len(values) == 1 else values for name, values in data.lists()})
        if isinstance(data, FormData):
            data = {name: value for name, value in self._read_form(data) if value is not None}
        return super().to_internal_value(flat_body(data, self.wrapper, self.old_names, self.fields))

    def _read_form(self, form: FormData) -> Iterator[tuple[str, Any]]:
        """Yield the members of a form, whose values are strings, as the values that JSON would have."""
        for name, value in form.items():
            field = self.fields.get(name)
            if not isinstance(value, str) or field is None:
                yield name, value
            elif isinstance(field, Text | FileSource | OneOf):
                yield name, value if value or isinstance(field, Text) else None
            elif isinstance(field, Array) and value and not value.startswith("["):
                yield name, [value]
            elif value:
                yield name, _read_text(value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        note_ignored(name for name in ("mentionsEveryOne", "mentioned") if attrs.get(name))  # no channel takes them
        ids = [attrs[name] for name in ("id", "messageId") if attrs.get(name) is not None]
        if attrs["retryUnknown"] and not ids:
            raise serializers.ValidationError('retryUnknown requires property "id"')
        return attrs


def _read_text(value: str) -> Any:
    """Return the JSON value that a text of a form stands for; the text itself if that is none."""
    try:
        return json_body.load(value.lower().encode() if len(value) < 6 else value.encode())
    except json_body.NotJson:
        return value


class TextBody(SendBody):
    """The body of POST /message/sendText and of the socket event send_message."""

    wrapper = "textMessage"

    text = MessageText()
    linkPreview = Flag(default=False)


# Files


class FileBody(SendBody):
    """A body with a file: its URL or its bytes in base64, or, in a form, the file itself as `file`."""

    #: The member with the URL or base64, and the answer to what is neither.
    member: ClassVar[str]
    no_file: ClassVar[str] = _OWNED
    also_known = ("file",)

    def to_internal_value(self, data: Any) -> Any:
        sent = data.get("file")
        attrs = super().to_internal_value(data)
        if isinstance(sent, FormFile):
            attrs["upload"] = sent
        return attrs

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        attrs["file"] = self.read_file(attrs)
        return attrs

    def read_file(self, attrs: dict[str, Any]) -> MediaFile:
        """Return the file. Raises ApiError for what is none."""
        upload, text = cast("FormFile | None", attrs.pop("upload", None)), attrs.pop(self.member, "")
        name, mimetype = attrs.get("fileName") or None, attrs.get("mimetype") or None
        if upload is not None:
            if not upload.content:
                raise ApiError(self.no_file)
            if len(upload.content) > MAX_FILE_BYTES:
                raise ApiError(f"request entity too large: a file may have {MAX_FILE_BYTES} bytes", 413)
            name = name or upload.name or None
            named_type = None if upload.content_type in _NO_TYPES else upload.content_type
            mimetype = mimetype or named_type or _type_of(name) or upload.content_type or None
            return MediaFile(base64=upload.base64(), name=name, mimetype=mimetype)
        if is_url(text):
            name = name or _name_in(text)
            return MediaFile(url=text, name=name, mimetype=mimetype or _type_of(name))
        content, named_type = split_data_url(text)
        if not is_base64(content):
            raise ApiError(self.no_file)
        return MediaFile(base64=content, name=name, mimetype=mimetype or named_type or _type_of(name))


def _name_in(url: str) -> str | None:
    """Return the name of a file at the end of a URL's path, if there is one with an ending."""
    try:
        path = urlsplit(url if "://" in url else f"//{url}").path
    except ValueError:
        return None
    name = unquote(path.rpartition("/")[2]).replace("\x00", "")[:255]
    return name if re.search(r".\.[A-Za-z0-9]{1,10}$", name) else None


def _type_of(name: str | None) -> str | None:
    return mimetypes.guess_type(name, strict=False)[0] if name else None


class MediaBody(FileBody):
    wrapper = "mediaMessage"
    member = "media"

    mediatype = OneOf(("image", "document", "video", "audio"))
    media = FileSource(required=False)
    mimetype = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    caption = Text(required=False, allow_blank=True, allow_null=True)
    fileName = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    gifPlayback = FlagOrText(default=False)
    gifAttribution = Attribution(default=0)

    def read_file(self, attrs: dict[str, Any]) -> MediaFile:
        file = super().read_file(attrs)
        if attrs["mediatype"] == "document" and file.base64 is not None and not file.name:
            raise ApiError("For base64 the file name must be informed.")
        return file


class RoundVideoBody(FileBody):
    member = "video"

    video = FileSource(required=False)


class VoiceBody(FileBody):
    wrapper = "audioMessage"
    member = "audio"
    no_file = "Owned media must be a url, base64, or valid file with buffer"

    audio = FileSource(required=False)
    encoding = Flag(default=True)


class StickerBody(FileBody):
    wrapper = "stickerMessage"
    old_names: ClassVar[dict[str, str]] = {"image": "sticker"}
    member = "sticker"

    sticker = FileSource(required=False)
    notConvertSticker = Flag(default=False)


class StatusBody(SendBody):
    """A status for the contacts; `number` has no meaning."""

    wrapper = "statusMessage"
    also_known = ("file",)

    number = Number(required=False, default="status@broadcast")
    type = OneOf(("text", "image", "audio", "video"))
    content = FileSource(required=False)
    caption = Text(required=False, allow_blank=True)
    backgroundColor = Text(required=False, allow_blank=True, max_length=64)
    font = Integer(0, 5, required=False)
    statusJidList = Array(child=Text(max_length=255), required=False, allow_empty=False)
    allContacts = Flag(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data) | {"hasFile": isinstance(data.get("file"), FormFile)}


# Others


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
