"""A provider in one file: pigeons carry texts, and whoever keeps them posts what they bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.views import APIView

from instances.changes import Change, InboundMessage, InvalidPayload
from instances.ingress.endpoint import IngressEndpoint
from instances.ingress.webhooks import ProviderIngress
from instances.models import Instance
from instances.outbound_message import OutboundMessage
from instances.providers.base import Provider, load_json


class PigeonPayload(serializers.Serializer):
    ring = serializers.CharField()
    sender = serializers.CharField()
    note = serializers.CharField()


class PigeonWebhook(APIView):
    """Describes `PigeonIngress` in the OpenAPI document."""

    @extend_schema(request=PigeonPayload, responses={200: OpenApiTypes.ANY})
    def post(self, request: Any) -> None:
        """Receive what a pigeon has brought."""


class PigeonIngress(ProviderIngress):
    path = "/webhook/pigeon"
    openapi_view = PigeonWebhook


class PigeonPost(Provider):
    integration = "PIGEON"
    label = "Pigeon post"
    members = {"businessId": "the number on the pigeon's ring"}
    required = ("businessId",)
    unique = "businessId"

    @property
    def endpoints(self) -> list[IngressEndpoint]:
        return [PigeonIngress(self)]

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        payload = load_json(body)
        try:
            return [
                InboundMessage(
                    business_id=payload["ring"],
                    id=f"{payload['ring']}:{payload['note']}",
                    remote_jid=payload["sender"],
                    type="conversation",
                    content={"conversation": payload["note"]},
                    timestamp=0,
                )
            ]
        except KeyError as missing:
            raise InvalidPayload(f"instance requires property {missing}") from None

    async def send(self, instance: Instance, message: OutboundMessage) -> str:
        return f"pigeon-{message.request_id}"
