"""The public shapes, in Evolution API's names. Types are checked as strictly as its JSON schemas do."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError as ModelValidationError
from django.db.models import TextChoices
from rest_framework import serializers

from instances.events import SUBSCRIBABLE
from instances.models import ConnectionState, Instance, Integration, Subscription
from instances.names import is_number, validate_name
from instances.tokens import Mintable

#: Leaves room in a column of 255 for the `@s.whatsapp.net` that makes an address of it.
MAX_NUMBER_LENGTH = 240


class Text(serializers.CharField):
    """A JSON string, and nothing that could be turned into one."""

    default_error_messages = {
        "type": "is not of a type(s) string",
        "null": "is not of a type(s) string",
        "max_length": "does not meet maximum length of {max_length}",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"trim_whitespace": False} | kwargs))

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        if "\x00" in data:
            raise serializers.ValidationError("must not contain NUL characters", code="type")
        return super().to_internal_value(data)


class Flag(serializers.Field):
    """true or false, and no word for them."""

    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) boolean")

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("type")
        return data

    def to_representation(self, value: Any) -> bool:
        return bool(value)


class Object(serializers.Field):
    default_error_messages = dict.fromkeys(("type", "null"), "is not of a type(s) object")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        return data


class EventName(serializers.Field):
    default_error_messages = dict.fromkeys(("enum", "null"), "is not one of enum values: " + ",".join(SUBSCRIBABLE))

    def to_internal_value(self, data: Any) -> str:
        if data not in SUBSCRIBABLE:
            self.fail("enum")
        return data


class Several(serializers.ListField):
    default_error_messages = {
        "not_a_list": "is not of a type(s) array",
        "null": "is not of a type(s) array",
        "empty": "does not meet minimum length of 1",
    }

    def fail(self, key: str, **kwargs: Any) -> None:  # type: ignore[override]
        raise serializers.ValidationError(self.error_messages[key].format(**kwargs), code="type")


class Body(serializers.Serializer):
    """A JSON object; members that nobody asked for are ignored, as clients send many."""

    default_error_messages = {"null": "is not of a type(s) object"}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not serializers.empty and data is not None and not isinstance(data, dict):
            raise serializers.ValidationError("is not of a type(s) object", code="type")
        return super().run_validation(data)


class WebsocketBody(Body):
    enabled = Flag()
    events = Several(child=EventName(), default=list)


class WrappedWebsocket(Body):
    websocket = WebsocketBody()


class CreateWebsocketBody(WebsocketBody):
    """At creation, to name the transport is to want it."""

    enabled = Flag(default=True)


class SettingsBody(Body):
    rejectCall = Flag(default=False)
    msgCall = Text(default="", allow_blank=True, max_length=100)
    groupsIgnore = Flag(default=False)
    alwaysOnline = Flag(default=False)
    readMessages = Flag(default=False)
    readStatus = Flag(default=False)
    syncFullHistory = Flag(default=False)
    wavoipToken = Text(default="", allow_blank=True, max_length=100)


class OneOf(serializers.ChoiceField):
    def __init__(self, choices: type[TextChoices], **kwargs: Any) -> None:
        message = "is not one of enum values: " + ",".join(choices.values)
        super().__init__(choices.choices, error_messages=dict.fromkeys(("invalid_choice", "null"), message), **kwargs)


class Token(Text):
    """A key as a header can carry it: to this server from clients, to the Graph API from us."""

    def to_internal_value(self, data: Any) -> str:
        token = super().to_internal_value(data)
        if token != token.strip() or re.search(r"[\x00-\x1f\x7f]", token):
            raise serializers.ValidationError(
                "token must not contain control characters, nor begin or end with a space"
            )
        return token


class TokenBody(Body):
    token = Token(required=False, allow_blank=True, max_length=4096)


class Seconds(serializers.IntegerField):
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


class MintBody(Body):
    expiresIn = Seconds(default=300, min_value=1, max_value=86400)
    scopes = Several(child=OneOf(Mintable), default=[Mintable.LISTEN.value], allow_empty=False)


class CreateBody(SettingsBody):
    instanceName = Text()
    integration = OneOf(Integration)
    token = Token(required=False, allow_blank=True, max_length=4096)
    number = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    businessId = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    ownerJid = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    profileName = Text(required=False, allow_blank=True, allow_null=True, max_length=255)
    profilePicUrl = Text(required=False, allow_blank=True, allow_null=True, max_length=2048)
    status = OneOf(ConnectionState, required=False)
    qrcode = Flag(required=False)
    websocket = CreateWebsocketBody(required=False)

    def validate_instanceName(self, name: str) -> str:
        try:
            validate_name(name)
        except ModelValidationError as error:
            raise serializers.ValidationError(error.message) from None
        return name

    def validate_number(self, number: str | None) -> str | None:
        if number and not is_number(number):
            raise serializers.ValidationError('number does not match pattern "^\\\\d+[\\\\.@\\\\w-]+"')
        return number


class QuotedKey(Body):
    id = Text(max_length=255)


class QuotedBody(Body):
    key = QuotedKey()


class TextBody(Body):
    """POST /message/sendText and the socket event send_message, which calls the text `message` too."""

    number = Text(max_length=MAX_NUMBER_LENGTH, error_messages={"type": "Invalid format"})
    text = Text(allow_blank=True, max_length=65536)
    linkPreview = Flag(default=False)
    quoted = Object(required=False, allow_null=True)
    delay = serializers.IntegerField(
        required=False,
        error_messages=dict.fromkeys(("invalid", "null", "max_string_length"), "Enter a value in milliseconds"),
    )
    id = Text(required=False, allow_null=True, max_length=255)

    def validate_text(self, text: str) -> str:
        if not text.strip():
            raise serializers.ValidationError("Text is required")
        return text

    def validate_quoted(self, quoted: dict[str, Any] | None) -> dict[str, Any] | None:
        if quoted is not None:
            QuotedBody(data=quoted).is_valid(raise_exception=True)
        return quoted


def iso(moment: datetime) -> str:
    """UTC with milliseconds and a Z, as JavaScript writes dates."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class WebsocketRow(serializers.BaseSerializer):
    """What /websocket/set, /websocket/find and those of RabbitMQ answer."""

    def to_representation(self, subscription: Subscription) -> dict[str, Any]:
        return {
            "id": str(subscription.pk),
            "enabled": subscription.is_enabled,
            "events": subscription.events,
            "createdAt": iso(subscription.created_at),
            "updatedAt": iso(subscription.updated_at),
            "instanceId": str(subscription.instance_id),
        }


class InstanceRow(serializers.BaseSerializer):
    """A row of fetchInstances. Needs `subscriptions` prefetched and the counts of `InstanceQuerySet.counted`."""

    def to_representation(self, instance: Instance) -> dict[str, Any]:
        subscriptions = sorted(instance.subscriptions.all(), key=lambda one: one.pk)
        websocket, rabbitmq = (
            next((one for one in subscriptions if one.transport == name), None)
            for name in (Subscription.WEBSOCKET, Subscription.RABBITMQ)
        )
        may_read_token = self.context["access"].may("manage")
        return {
            "id": str(instance.pk),
            "name": instance.name,
            "connectionStatus": instance.connection_state,
            "ownerJid": instance.owner_jid,
            "profileName": instance.profile_name,
            "profilePicUrl": instance.profile_pic_url,
            "integration": instance.integration,
            "number": instance.number,
            "businessId": instance.business_id,
            "token": instance.token.reveal() if may_read_token else None,
            "clientName": self.context["client_name"],
            "disconnectionReasonCode": None,
            "disconnectionObject": None,
            "disconnectionAt": None,
            "createdAt": iso(instance.created_at),
            "updatedAt": iso(instance.updated_at),
            "Chatwoot": None,
            "Proxy": None,
            "Rabbitmq": WebsocketRow(rabbitmq).data if rabbitmq else None,
            "Nats": None,
            "Sqs": None,
            "Websocket": WebsocketRow(websocket).data if websocket else None,
            "Setting": self._settings(instance),
            "_count": {name: getattr(instance, f"{name.lower()}_count") for name in ("Message", "Contact", "Chat")},
        }

    def _settings(self, instance: Instance) -> dict[str, Any] | None:
        if not instance.settings:
            return None
        dates = {"createdAt": iso(instance.created_at), "updatedAt": iso(instance.updated_at)}
        return {"id": str(instance.pk)} | instance.settings | dates | {"instanceId": str(instance.pk)}
