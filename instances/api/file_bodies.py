"""The bodies of POST /message/… with a file: its URL, its bytes in base64, or a form's own file."""

from __future__ import annotations

import mimetypes
import re
from typing import Any, ClassVar, cast
from urllib.parse import unquote, urlsplit

from instances.api.fields import Array, Flag, Text
from instances.api.message_fields import (
    Attribution,
    FileSource,
    FlagOrText,
    Integer,
    Number,
    OneOf,
    is_base64,
    is_url,
    split_data_url,
)
from instances.api.multipart import FormFile
from instances.api.send_body import SendBody
from instances.bounds import MAX_BODY_BYTES
from instances.errors import ApiError
from instances.outbound_message import MediaFile

#: Bytes of a file in a form: in base64, as events have it, it is no longer than a body that is posted.
MAX_FILE_BYTES = MAX_BODY_BYTES // 4 * 3

#: The types of files that programs name when they know none.
_NO_TYPES = {"", "application/octet-stream"}

_OWNED = "Owned media must be a url or base64"


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
