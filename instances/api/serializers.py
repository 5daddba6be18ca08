"""Request bodies with Evolution API's member names, validated as strictly as by its JSON schemas."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from rest_framework import serializers

from instances.access.minted_tokens import Mintable
from instances.api.fields import (
    Choice,
    Distinct,
    EventName,
    Flag,
    HostName,
    IntegrationName,
    Name,
    PhoneNumber,
    Port,
    ProxyProtocol,
    Seconds,
    Text,
    Token,
)
from instances.api.ignored import note_ignored
from instances.models import ConnectionState
from instances.spelling import describe_unknown

#: Unknown members that an error names.
MAX_UNKNOWN = 5


class RequestBody(serializers.Serializer):
    """A JSON object; unknown members are ignored, as clients of Evolution API send many, and named in a header."""

    default_error_messages = {"null": "is not of a type(s) object"}

    #: True if unknown members are refused, with the nearest names: in the bodies of our own routes.
    is_strict: ClassVar[bool] = False
    #: The noun for a member in errors.
    member_noun: ClassVar[str] = "member"
    #: Names of members besides those of the fields; None if any are another's business.
    also_known: ClassVar[Collection[str] | None] = ()

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not serializers.empty and data is not None and not isinstance(data, dict):
            raise serializers.ValidationError("is not of a type(s) object", code="type")
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        self._check_names(data)
        return super().to_internal_value(data)

    def _check_names(self, data: Mapping[str, Any]) -> None:
        if self.also_known is None:
            return
        unknown = [name for name in data if name not in self.fields and name not in self.also_known]
        if unknown and self.is_strict:
            known = list(self.fields)
            sentences = [describe_unknown(self.member_noun, name, known) for name in unknown[:MAX_UNKNOWN]]
            raise serializers.ValidationError({"non_field_errors": sentences})
        note_ignored(unknown)


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


#: The names that settings had in Evolution API 1.
SETTING_ALIASES = {
    "rejectCall": "reject_call",
    "msgCall": "msg_call",
    "groupsIgnore": "groups_ignore",
    "alwaysOnline": "always_online",
    "readMessages": "read_messages",
    "readStatus": "read_status",
    "syncFullHistory": "sync_full_history",
}


def with_setting_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return members with the settings under their present names; where both are given, the present one counts."""
    aliases = {alias: name for name, alias in SETTING_ALIASES.items()}
    old = {aliases[name]: value for name, value in data.items() if name in aliases}
    return old | {name: value for name, value in data.items() if name not in aliases}


class SettingsBody(RequestBody):
    """The settings of a new instance, by their names of Evolution API 2 or 1."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(with_setting_names(data))

    rejectCall = Flag(default=False)
    msgCall = Text(default="", allow_blank=True, max_length=100)
    groupsIgnore = Flag(default=False)
    alwaysOnline = Flag(default=False)
    readMessages = Flag(default=False)
    readStatus = Flag(default=False)
    syncFullHistory = Flag(default=False)
    wavoipToken = Text(default="", allow_blank=True, max_length=100)


class SetSettingsBody(SettingsBody):
    """The settings of POST /settings/set: those that are left out stay as they are, and flags may not be left out."""

    rejectCall = Flag()
    msgCall = Text(required=False, allow_blank=True, max_length=100)
    groupsIgnore = Flag()
    alwaysOnline = Flag()
    readMessages = Flag()
    readStatus = Flag()
    syncFullHistory = Flag()
    wavoipToken = Text(required=False, allow_blank=True, max_length=100)


class TokenBody(RequestBody):
    is_strict = True

    token = Token(required=False, allow_blank=True, max_length=4096)


class MintBody(RequestBody):
    is_strict = True

    expiresIn = Seconds(default=300, min_value=1, max_value=86400)
    scopes = Distinct(child=Choice(Mintable), default=[Mintable.LISTEN.value], allow_empty=False)


class CreateBody(SettingsBody):
    #: Read apart: the settings of transports, and those of v1's webhook, which stand at the top level.
    also_known = (
        *("webhook", "rabbitmq", "events", "byEvents", "webhookByEvents", "webhook_by_events"),
        *("base64", "webhookBase64", "webhook_base64"),
    )

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
    proxyHost = HostName(required=False, allow_blank=True, allow_null=True, max_length=255)
    proxyPort = Port(required=False, allow_blank=True, allow_null=True)
    proxyProtocol = Choice(ProxyProtocol, required=False, allow_blank=True, allow_null=True)
    proxyUsername = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    proxyPassword = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    websocket = CreateWebsocketBody(required=False)
