"""Request bodies with Evolution API's member names, validated as strictly as by its JSON schemas."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from instances.access.minted_tokens import Mintable
from instances.api.fields import (
    MAX_NUMBER_LENGTH,
    Choice,
    Distinct,
    EventName,
    Flag,
    IntegrationName,
    MessageText,
    Milliseconds,
    Name,
    Object,
    PhoneNumber,
    Seconds,
    Text,
    Token,
)
from instances.models import ConnectionState


class RequestBody(serializers.Serializer):
    """A JSON object; unknown members are ignored, as clients send many."""

    default_error_messages = {"null": "is not of a type(s) object"}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not serializers.empty and data is not None and not isinstance(data, dict):
            raise serializers.ValidationError("is not of a type(s) object", code="type")
        return super().run_validation(data)


def validate(body: serializers.BaseSerializer) -> Any:
    """Return the members of a body, with defaults. Raises ValidationError."""
    body.is_valid(raise_exception=True)
    return body.validated_data


class WebsocketBody(RequestBody):
    enabled = Flag()
    events = Distinct(child=EventName(), default=list)


class WrappedWebsocket(RequestBody):
    websocket = WebsocketBody()


class CreateWebsocketBody(WebsocketBody):
    """The `websocket` or `rabbitmq` member of a creation, enabled unless it says otherwise."""

    enabled = Flag(default=True)


class SettingsBody(RequestBody):
    rejectCall = Flag(default=False)
    msgCall = Text(default="", allow_blank=True, max_length=100)
    groupsIgnore = Flag(default=False)
    alwaysOnline = Flag(default=False)
    readMessages = Flag(default=False)
    readStatus = Flag(default=False)
    syncFullHistory = Flag(default=False)
    wavoipToken = Text(default="", allow_blank=True, max_length=100)


class TokenBody(RequestBody):
    token = Token(required=False, allow_blank=True, max_length=4096)


class MintBody(RequestBody):
    expiresIn = Seconds(default=300, min_value=1, max_value=86400)
    scopes = Distinct(child=Choice(Mintable), default=[Mintable.LISTEN.value], allow_empty=False)


class CreateBody(SettingsBody):
    instanceName = Name()
    integration = IntegrationName()
    token = Token(required=False, allow_blank=True, max_length=4096)
    number = PhoneNumber(required=False, allow_blank=True, allow_null=True, max_length=255)
    businessId = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    ownerJid = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    profileName = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    profilePicUrl = Text(required=False, allow_blank=True, allow_null=True, max_length=2048)
    status = Choice(ConnectionState, required=False)
    qrcode = Flag(required=False)
    websocket = CreateWebsocketBody(required=False)


class QuotedKey(RequestBody):
    id = Text(max_length=255)


class QuotedBody(RequestBody):
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


class TextBody(RequestBody):
    """The body of POST /message/sendText and of the socket event send_message."""

    number = Text(max_length=MAX_NUMBER_LENGTH, error_messages={"type": "Invalid format"})
    text = MessageText()
    linkPreview = Flag(default=False)
    quoted = Quoted(required=False, allow_null=True)
    delay = Milliseconds(required=False)
    id = Text(required=False, allow_null=True, max_length=255)
    retryUnknown = Flag(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["retryUnknown"] and attrs.get("id") is None:
            raise serializers.ValidationError('retryUnknown requires property "id"')
        return attrs
