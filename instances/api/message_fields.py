"""Serializer fields of the bodies that send messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from rest_framework import serializers

from instances import json_body
from instances.api.fields import MAX_NUMBER_LENGTH, Array, Object, Text
from instances.bounds import MAX_BODY_BYTES, MESSAGE_PARTS, TEXT_CHARACTERS

#: Characters of a URL of a file; storage services sign them at length.
MAX_URL_LENGTH = 8192
#: Characters of base64 that are checked in one piece, a multiple of four.
PIECE = 2**20

_NUMBER_PATTERN = r"^[^\x00]*$"


class Number(Text):
    """The number or address that a message goes to."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"max_length": MAX_NUMBER_LENGTH, "error_messages": {"type": "Invalid format"}} | kwargs))


class OneOf(serializers.Field):
    """One of a few strings."""

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        self.names = tuple(names)
        super().__init__(**kwargs)
        for code in ("enum", "null"):
            self.error_messages[code] = "is not one of enum values: " + ",".join(self.names)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.names:
            self.fail("enum")
        return data

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}


class Integer(serializers.Field):
    """A JSON integer within bounds; booleans are refused."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) integer")

    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        self.least, self.most = least, most
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("type")
        return _within(data, self.least, self.most)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Coordinate(serializers.Field):
    """An angle in degrees; booleans are refused."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) number")

    def __init__(self, most: int, **kwargs: Any) -> None:
        self.most = most
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> float:
        if not isinstance(data, int | float) or isinstance(data, bool) or not isfinite(data):
            self.fail("type")
        return _within(data, -self.most, self.most)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": -self.most, "maximum": self.most}


def _within(value: Any, least: int, most: int) -> Any:
    if value < least:
        raise serializers.ValidationError(f"must be greater than or equal to {least}", code="type")
    if value > most:
        raise serializers.ValidationError(f"must be less than or equal to {most}", code="type")
    return value


class FlagOrText(serializers.Field):
    """A boolean, which forms and some clients write as a string."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not exactly one from [subschema 0],[subschema 1]")

    def to_internal_value(self, data: Any) -> bool:
        if data not in ("true", "false") and not isinstance(data, bool):
            self.fail("type")
        return data in (True, "true")

    def schema(self) -> dict[str, Any]:
        return {"oneOf": [{"type": "boolean"}, {"type": "string", "enum": ["true", "false"]}]}


class Attribution(serializers.Field):
    """The service that a GIF is from: 0 for none, 1 for Giphy, 2 for Tenor; a number or its digit."""

    default_error_messages = FlagOrText.default_error_messages

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or data not in (0, 1, 2, "0", "1", "2"):
            self.fail("type")
        return int(data)

    def schema(self) -> dict[str, Any]:
        return {"oneOf": [{"type": "integer", "enum": [0, 1, 2]}, {"type": "string", "enum": ["0", "1", "2"]}]}


class FileSource(serializers.Field):
    """A string as long as a body may be: base64, a `data:` URL or a URL, which `is_base64` and `is_url` look at."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) string")

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        if len(data) > MAX_BODY_BYTES:  # a form may have been converted
            raise serializers.ValidationError(f"does not meet maximum length of {MAX_BODY_BYTES}", code="type")
        return data

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Unique(Array):
    """A JSON array whose items differ."""

    def to_internal_value(self, data: Any) -> list[Any]:
        items = super().to_internal_value(data)
        seen = {repr(item) for item in items}
        if len(seen) < len(items):
            raise serializers.ValidationError("contains duplicate item", code="type")
        return items

    def schema(self) -> dict[str, Any]:
        return super().schema() | {"uniqueItems": True}


class Components(Array):
    """Components of a template, which are the Graph API's: objects with no more text than a text may have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"child": Object(), "max_length": MESSAGE_PARTS} | kwargs))

    def to_internal_value(self, data: Any) -> list[Any]:
        components = super().to_internal_value(data)
        if json_body.is_large(components, TEXT_CHARACTERS):
            self.fail("max_length", max_length=TEXT_CHARACTERS)
        return components


class Digits(Text):
    """A string that begins with a digit: a phone number, or an address of a person."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not re.match("[0-9]", text):
            raise serializers.ValidationError('does not match pattern "^\\\\d+"', code="type")
        return text

    def schema(self) -> dict[str, Any]:
        return super().schema() | {"pattern": r"^[0-9][^\x00]*$"}


# Texts of files

_URL = re.compile(
    r"(?:(?:https?|ftp)://)?(?:[^\s/?#@]{1,1000}@)?"
    r"(?:[^\s/?#@:.]{1,63}\.){1,20}(?:[0-9]{1,3}|[^\s/?#@:.0-9][^\s/?#@:.]{0,61}[^\s/?#@:.])"
    r"(?::[0-9]{1,5})?(?:[/?#]\S*)?",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_DATA_URL = re.compile(r"data:([^,;\s]{0,255})(?:;[^,;\s]{0,255}){0,10};base64,", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Return whether a text is a URL of a public host, whose scheme may be missing, as Evolution API decides it."""
    if len(text) > MAX_URL_LENGTH or not _URL.fullmatch(text):
        return False
    host = re.split(r"[/?#]", text.partition("://")[2] or text, maxsplit=1)[0].rpartition("@")[2].partition(":")[0]
    return not host.rpartition(".")[2].isdecimal() or _IPV4.fullmatch(host) is not None


def is_base64(text: str) -> bool:
    """Return whether a text is base64 with its padding (RFC 4648); looks at a piece at a time."""
    return bool(text) and len(text) % 4 == 0 and all(_is_sound(*piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE], start + PIECE >= len(text)


def _is_sound(piece: str, is_last: bool) -> bool:
    return _BASE64.fullmatch(piece) is not None and (is_last or not piece.endswith("="))


def split_data_url(text: str) -> tuple[str, str | None]:
    """Return the base64 of a text and the type that it names: those of a `data:` URL, or the text itself and None."""
    found = _DATA_URL.match(text[:4096])
    return (text[found.end() :], found[1] or None) if found else (text, None)
