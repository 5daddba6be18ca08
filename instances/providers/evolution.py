"""The Evolution channel: any program can act as WhatsApp, posting inbound messages and subscribing to outgoing ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.views import APIView

from instances.access.access import Access
from instances.access.cache import AccessCache
from instances.access.client_address import is_within
from instances.changes import Change, InboundMessage, InvalidPayload
from instances.errors import ApiError
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse
from instances.ingress.webhooks import SUCCESS, ProviderIngress, ProviderWork
from instances.models import Instance
from instances.outbound_message import OutboundMessage
from instances.providers import evolution_sends
from instances.providers.base import Provider, load_json

#: Widths of the columns for ids and addresses, and for message types.
MAX_ID_LENGTH = 255
MAX_TYPE_LENGTH = 64
#: Characters of a picture's URL; WhatsApp signs them at length.
MAX_URL_LENGTH = 8192
#: The pattern of texts that fit a column, in the OpenAPI document.
NO_NUL = r"^[^\x00]*$"


class EvolutionChannel(Provider):
    integration = "EVOLUTION"
    note = (
        "An engine of your own sends what this instance sends: it receives send.message, and posts what comes in to "
        "/webhook/evolution. Without one, nothing leaves this server"
    )
    label = "Evolution channel"
    members = {"number": "`numberId` of its payloads, the phone number"}
    unique = "number"
    number_is_phone = True
    reports_state = True
    unavailable = "Method not available on Evolution Channel"
    sends = evolution_sends.CONTENTS.keys()

    @property
    def endpoints(self) -> list[IngressEndpoint]:
        return [EvolutionIngress(self)]

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Return the one message of a body, which has the shape of Evolution API's POST /webhook/evolution."""
        payload = load_json(body)
        number = _text(payload, "numberId")
        if payload.get("message") is None:
            return []
        message = _object(payload, "message")
        key = _object(payload, "key")
        from_me = key.get("fromMe", False)
        if not isinstance(from_me, bool):
            raise InvalidPayload("key.fromMe is not of a type(s) boolean")
        picture = _picture(payload) or _picture(key, "key.")
        return [
            InboundMessage(
                number=number,
                id=_optional_text(key, "id", "key.") or str(uuid.uuid4()),
                remote_jid=_text(key, "remoteJid", "key."),
                remote_jid_alt=_optional_text(key, "remoteJidAlt", "key.") or None,
                participant=_optional_text(key, "participant", "key."),
                from_me=from_me,
                push_name=_optional_text(payload, "pushName", limit=None),
                profile_pic_url=picture,
                type=_optional_text(payload, "messageType", limit=MAX_TYPE_LENGTH) or "conversation",
                content=message,
                timestamp=int(time.time()),
                key_extra={"profilePicUrl": picture} if picture else {},
                always_upserts=True,
            )
        ]

    def content(self, message: OutboundMessage) -> tuple[str, dict[str, Any]]:
        return evolution_sends.CONTENTS[message.kind](message)

    async def send(self, instance: Instance, message: OutboundMessage) -> str:
        """Return the sender's id or a new one, and call nothing: the engine receives send.message and delivers it."""
        return message.message_id or str(uuid.uuid4())


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in holder:
        raise InvalidPayload(f'instance requires property "{name}"')
    if not isinstance(holder[name], dict):
        raise InvalidPayload(f"{name} is not of a type(s) object")
    return holder[name]


def _optional_text(holder: dict[str, Any], name: str, path: str = "", limit: int | None = MAX_ID_LENGTH) -> str | None:
    value = holder.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidPayload(f"{path}{name} is not of a type(s) string")
    if limit and len(value) > limit:
        raise InvalidPayload(f"{path}{name} does not meet maximum length of {limit}")
    if limit and "\x00" in value:
        raise InvalidPayload(f"{path}{name} must not contain NUL characters")
    return value


def _picture(holder: dict[str, Any], path: str = "") -> str | None:
    return _optional_text(holder, "profilePicUrl", path, limit=MAX_URL_LENGTH)


def _text(holder: dict[str, Any], name: str, path: str = "") -> str:
    value = _optional_text(holder, name, path)
    if not value:
        raise InvalidPayload(f'instance requires property "{path}{name}"')
    return value


# The endpoint


class EvolutionKey(serializers.Serializer):
    remoteJid = serializers.RegexField(NO_NUL, max_length=MAX_ID_LENGTH)
    id = serializers.RegexField(NO_NUL, required=False, allow_null=True, allow_blank=True, max_length=MAX_ID_LENGTH)
    remoteJidAlt = serializers.RegexField(
        NO_NUL, required=False, allow_null=True, allow_blank=True, max_length=MAX_ID_LENGTH
    )
    fromMe = serializers.BooleanField(required=False)
    participant = serializers.RegexField(
        NO_NUL, required=False, allow_null=True, allow_blank=True, max_length=MAX_ID_LENGTH
    )


class EvolutionPayload(serializers.Serializer):
    """A payload, described for the OpenAPI document; the provider validates it."""

    numberId = serializers.RegexField(NO_NUL, max_length=MAX_ID_LENGTH)
    key = EvolutionKey()
    message = serializers.DictField(required=False, allow_null=True)
    pushName = serializers.RegexField(NO_NUL, required=False, allow_null=True, allow_blank=True)
    messageType = serializers.RegexField(
        NO_NUL, required=False, allow_null=True, allow_blank=True, max_length=MAX_TYPE_LENGTH
    )
    profilePicUrl = serializers.RegexField(
        NO_NUL, required=False, allow_null=True, allow_blank=True, max_length=MAX_URL_LENGTH
    )


class EvolutionWebhook(APIView):
    """Describes `EvolutionIngress` in the OpenAPI document."""

    @extend_schema(request=EvolutionPayload, responses={200: OpenApiTypes.ANY})
    def post(self, request: Any) -> None:
        """Receive messages from an engine of the Evolution channel.

        The response to an unknown number has an empty body; that to a repeat of a `key.id` has `isRepeat`.
        """


class EvolutionIngress(ProviderIngress):
    """POST /webhook/evolution: the payloads of the engine behind an instance of the Evolution channel."""

    path = "/webhook/evolution"
    openapi_view = EvolutionWebhook

    def authorize(self, request: IngressRequest, cache: AccessCache) -> Access | None:
        if "apikey" in request.headers or not _is_open_to(request):
            return super().authorize(request, cache)
        if not _is_json(request):
            raise ApiError("Without a key the Content-Type must be application/json", 415)
        return None

    def prepare(self, request: IngressRequest, cache: AccessCache) -> EvolutionWork:
        access = self.authorize(request, cache)
        return EvolutionWork(self.provider.integration, self.parse(request), access, cache)


def _is_open_to(request: IngressRequest) -> bool:
    """Return whether EVOLUTION_INGRESS_OPEN lets the client post without a key."""
    allowed, caller = settings.EVOLUTION_INGRESS_OPEN, request.caller
    is_allowed = allowed if isinstance(allowed, bool) else is_within(caller.address, allowed)
    return is_allowed and caller.may_be_keyless


def _is_json(request: IngressRequest) -> bool:
    """Return whether the body is declared as JSON: browsers send that for no page of another origin without asking."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


class EvolutionWork(ProviderWork):
    def response(self) -> IngressResponse:
        """Return Evolution's response, by whose empty body clients recognize an unknown number, or that to a repeat."""
        if not self.has_instances and self.changes:
            return IngressResponse(200, b"")
        if not self.repeats:
            return IngressResponse(200, SUCCESS)
        said = (
            f'The message "{self.repeats[0].id}" is a repeat: this instance has one with that key.id, which is unique '
            "within an instance, whatever the chat. Nothing was changed."
        )
        return IngressResponse(200, orjson.dumps({"status": "success", "isRepeat": True, "message": said}))
