"""Serializer fields with the types and error texts of Evolution API's JSON schemas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from django.core.exceptions import ValidationError as ModelValidationError
from django.db.models import TextChoices
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from instances.bounds import LIST_ITEMS, TEXT_CHARACTERS
from instances.events import SUBSCRIBABLE, EventType, describe_unknown_event
from instances.integrations import integrations
from instances.names import MAX_NAME_LENGTH, NAME_PATTERN, TRIMMED, is_number, validate_name
from instances.spelling import nearest

#: Characters in a number; leaves room in a column of 255 for the `@s.whatsapp.net` of a JID.
MAX_NUMBER_LENGTH = 240


class Text(serializers.CharField):
    """A JSON string; values of other types are not converted. Its length is checked first: all other checks take time
    for each character.
    """

    default_error_messages = {
        "type": "is not of a type(s) string",
        "null": "is not of a type(s) string",
        "max_length": "does not meet maximum length of {max_length}",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"trim_whitespace": False, "max_length": TEXT_CHARACTERS} | kwargs))

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        if "\x00" in data:
            raise serializers.ValidationError("must not contain NUL characters", code="type")
        return super().to_internal_value(data)

    def schema(self) -> dict[str, Any]:
        return ({} if self.allow_blank else {"minLength": 1}) | {"pattern": r"^[^\x00]*$"}


class Flag(serializers.Field):
    """A JSON boolean; strings and numbers are not converted. `only` is the value that a body of its kind has."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) boolean")

    def __init__(self, only: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only = only

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("type")
        return data

    def to_representation(self, value: Any) -> bool:
        return bool(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"} | ({} if self.only is None else {"enum": [self.only]})


class Object(serializers.Field):
    """A JSON object with any members."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) object")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        return data

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


def unknown_event(message: str, name: Any, known: Sequence[str]) -> serializers.ValidationError:
    """Return the error for a name that is not among the known ones.

    `message` is Evolution API's text, which lists these; a sentence with the nearest follows it, if any are near.
    """
    details = [ErrorDetail(message, "enum")]
    event_type = EventType.named(name)
    is_misspelt = event_type is None or event_type.name in known
    if isinstance(name, str) and is_misspelt and nearest(name, known):
        details.append(ErrorDetail(describe_unknown_event(name, known), "invalid"))
    return serializers.ValidationError(details)


class EventName(serializers.Field):
    """The name of an event type that clients can subscribe to, such as MESSAGES_UPSERT."""

    default_error_messages = dict.fromkeys(("enum", "null"), "is not one of enum values: " + ",".join(SUBSCRIBABLE))

    def to_internal_value(self, data: Any) -> str:
        if data not in SUBSCRIBABLE:
            raise unknown_event(str(self.error_messages["enum"]), data, SUBSCRIBABLE)
        return data

    def schema(self) -> dict[str, Any]:
        # one spelling of each: generators of clients make one member of two
        names: dict[EventType, str] = {}
        for name in SUBSCRIBABLE:
            if event_type := EventType.named(name):
                names.setdefault(event_type, name)
        descriptions = [event_type.label for event_type in names]
        return {"type": "string", "enum": list(names.values()), "x-enum-descriptions": descriptions}


class IntegrationName(serializers.Field):
    """The integration of one of the providers in settings.PROVIDERS."""

    default_error_messages = dict.fromkeys(("enum", "null"), "is not one of enum values: {names}")

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in integrations():
            self.fail("enum")
        return data

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        super().fail(key, names=",".join(integrations()), **kwargs)

    def schema(self) -> dict[str, Any]:
        labels = [f"* `{name}` - {integration.label}" for name, integration in integrations().items()]
        return {"type": "string", "enum": list(integrations()), "description": "\n".join(labels)}


class Array(serializers.ListField):
    """A JSON array whose items the child field validates, once its length is."""

    max_length: int

    default_error_messages = {
        "not_a_list": "is not of a type(s) array",
        "null": "is not of a type(s) array",
        "empty": "does not meet minimum length of 1",
        "max_length": "does not meet maximum length of {max_length}",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"max_length": LIST_ITEMS} | kwargs))

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)

    def fail(self, key: str, **kwargs: Any) -> None:  # type: ignore[override]
        code = key if key == "required" else "type"
        raise serializers.ValidationError(self.error_messages[key].format(**kwargs), code=code)

    def schema(self) -> dict[str, Any]:
        return {} if self.allow_empty else {"minItems": 1}


class Distinct(Array):
    """A JSON array in which a repeated item counts once."""

    def to_internal_value(self, data: Any) -> list[Any]:
        return list(dict.fromkeys(super().to_internal_value(data)))


class Choice(serializers.ChoiceField):
    """A string that is a value of a `TextChoices` class."""

    def __init__(self, choices: type[TextChoices], **kwargs: Any) -> None:
        message = "is not one of enum values: " + ",".join(choices.values)
        super().__init__(choices.choices, error_messages=dict.fromkeys(("invalid_choice", "null"), message), **kwargs)


class Token(Text):
    """An instance token; a header must be able to carry it, from clients to us and from us to the Graph API."""

    def to_internal_value(self, data: Any) -> str:
        token = super().to_internal_value(data)
        if token != token.strip() or re.search(r"[\x00-\x1f\x7f]", token):
            raise serializers.ValidationError(
                "token must not contain control characters, nor begin or end with a space"
            )
        return token

    def schema(self) -> dict[str, Any]:
        return super().schema() | {"pattern": r"^([^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?)?$"}


class Name(Text):
    """The name of a new instance, without the white space around it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_NAME_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data).strip(TRIMMED)
        try:
            validate_name(name)
        except ModelValidationError as error:
            raise serializers.ValidationError(error.message) from None
        return name

    def schema(self) -> dict[str, Any]:
        return {"minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": NAME_PATTERN}


class PhoneNumber(Text):
    """The phone number of an instance, or an empty string."""

    def to_internal_value(self, data: Any) -> str:
        number = super().to_internal_value(data)
        if number and not is_number(number):
            raise serializers.ValidationError('number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"')
        return number

    def schema(self) -> dict[str, Any]:
        return {"pattern": r"^([0-9]+[.@0-9A-Za-z_-]+)?$"}


#: The name of a host, its IPv4 address, or its IPv6 address with or without brackets.
HOST_PATTERN = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
#: A number from 1 to 65535.
PORT_PATTERN = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"


class HostName(Text):
    """The name or address of a host."""

    def to_internal_value(self, data: Any) -> str:
        host = super().to_internal_value(data)
        if not re.fullmatch(HOST_PATTERN, host):
            raise serializers.ValidationError("is not the name or address of a host", code="pattern")
        return host

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^({HOST_PATTERN}){'?' if self.allow_blank else ''}$"}


class Port(Text):
    """A port as a string, as Evolution API has it."""

    def to_internal_value(self, data: Any) -> str:
        port = super().to_internal_value(data)
        if not re.fullmatch(PORT_PATTERN, port):
            raise serializers.ValidationError("is not a number from 1 to 65535", code="pattern")
        return port

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^({PORT_PATTERN}){'?' if self.allow_blank else ''}$"}


class ProxyProtocol(TextChoices):
    HTTP = "http"
    HTTPS = "https"
    SOCKS = "socks"
    SOCKS4 = "socks4"
    SOCKS5 = "socks5"


class WholeNumber(serializers.IntegerField):
    """A JSON integer; booleans, floats and texts are refused."""

    default_error_messages = {
        "type": "is not of a type(s) integer",
        "null": "is not of a type(s) integer",
        "min_value": "must be greater than or equal to {min_value}",
        "max_value": "must be less than or equal to {max_value}",
    }

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("type")
        return data


class Seconds(WholeNumber):
    """A duration as a JSON integer."""


class Milliseconds(serializers.IntegerField):
    """A duration as an integer that JavaScript can represent exactly."""

    default_error_messages = dict.fromkeys(
        ("invalid", "null", "max_string_length", "min_value", "max_value"), "Enter a value in milliseconds"
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1 - 2**53, max_value=2**53 - 1, **kwargs)


class MessageText(Text):
    """The text of a message; whitespace alone is refused."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str) and not data.strip():
            raise serializers.ValidationError("Text is required")
        return super().run_validation(data)

    def schema(self) -> dict[str, Any]:
        return super().schema() | {"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
