"""What all bodies of POST /message/… have in common; forms, and those of Evolution API's version 1, are made flat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework import serializers

from instances import json_body
from instances.api.fields import Array, Flag, Milliseconds, Object, Text
from instances.api.ignored import note_ignored
from instances.api.message_fields import Digits, FileSource, Number, OneOf, Unique
from instances.api.multipart import FormData
from instances.api.serializers import RequestBody, validate
from instances.api.version_1 import flat_body


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
