"""The REST routes of webhook endpoints, of which an instance may have several."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.authentication import MANAGE, READ, Access
from instances.errors import NotFound, Refused
from instances.events import DEFAULT_EVENTS
from instances.models import Instance, Subscription
from instances.serializers import Body, EventName, Flag, Several, Text, iso
from instances.views import InstanceRequest, held
from instances.webhook_rules import MAX_SECRETS, check_secret, new_secret
from instances.webhook_settings import (
    MASK,
    MAX_URL_LENGTH,
    Headers,
    change,
    guard,
    new_endpoint,
    one_spelling,
    shown_headers,
    webhooks_of,
)
from realtime.deliveries import Delivery, State

#: Webhook endpoints that an instance may have.
MAX_ENDPOINTS = 20


class SigningSecret(Text):
    def to_internal_value(self, data: Any) -> str:
        secret = super().to_internal_value(data)
        try:
            check_secret(secret)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return secret


class EndpointBody(Body):
    url = Text(max_length=MAX_URL_LENGTH)
    headers = Headers(required=False)
    events = Several(child=EventName(), default=list)
    enabled = Flag(default=True)
    byEvents = Flag(required=False)
    base64 = Flag(required=False)
    ordered = Flag(required=False)
    secret = SigningSecret(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(one_spelling(data))


class EndpointChange(EndpointBody):
    """Used with `partial`: what is not told stays as it is."""

    rotateSecret = Flag(required=False)
    dropOldSecret = Flag(required=False)


class EndpointRow(serializers.BaseSerializer):
    """Needs `access` in its context: values of headers and secrets are for those who may set them."""

    def to_representation(self, endpoint: Subscription) -> dict[str, Any]:
        access: Access = self.context["access"]
        signing = endpoint.secret("signing", [])
        return {
            "id": str(endpoint.pk),
            "url": endpoint.options.get("url", ""),
            "headers": shown_headers(endpoint, access),
            "events": endpoint.events,
            "enabled": endpoint.is_enabled,
            "byEvents": endpoint.options.get("byEvents", False),
            "base64": endpoint.options.get("base64", False),
            "ordered": endpoint.options.get("ordered", False),
            "secrets": signing if access.may(MANAGE) else [MASK] * len(signing),
            "failingSince": iso(endpoint.failing_since) if endpoint.failing_since else None,
            "disabledReason": endpoint.disabled_reason or None,
            "createdAt": iso(endpoint.created_at),
            "updatedAt": iso(endpoint.updated_at),
        }


class Endpoints(APIView):
    """/webhook/endpoints/<instance>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    def get(self, request: InstanceRequest, name: str) -> Response:
        rows = webhooks_of(request.instance)
        return Response(EndpointRow(rows, many=True, context={"access": request.auth}).data)

    def post(self, request: InstanceRequest, name: str) -> Response:
        body = EndpointBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        guard(told["url"])
        with transaction.atomic():
            instance = held(request)
            if webhooks_of(instance).count() >= MAX_ENDPOINTS:
                raise Refused(f"An instance may have {MAX_ENDPOINTS} webhook endpoints")
            endpoint = new_endpoint(instance, told.get("secret", ""))
            change(endpoint, told)
            endpoint.is_enabled, endpoint.events = told["enabled"], told["events"] or DEFAULT_EVENTS
            endpoint.save()
        return Response(EndpointRow(endpoint, context={"access": request.auth}).data, status=201)


class Endpoint(APIView):
    """/webhook/endpoints/<instance>/<id>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        endpoint = endpoint_of(request.instance, pk)
        return Response(EndpointRow(endpoint, context={"access": request.auth}).data)

    def patch(self, request: InstanceRequest, name: str, pk: str) -> Response:
        body = EndpointChange(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        if "url" in told:
            guard(told["url"])
        with transaction.atomic():
            endpoint = endpoint_of(held(request), pk, is_to_change=True)
            _apply(endpoint, told)
            endpoint.save()
        return Response(EndpointRow(endpoint, context={"access": request.auth}).data)

    def delete(self, request: InstanceRequest, name: str, pk: str) -> Response:
        with transaction.atomic():
            endpoint = endpoint_of(held(request), pk, is_to_change=True)
            Delivery.objects.give_up([endpoint.pk], State.DROPPED)
            endpoint.delete()
        return Response({"status": "SUCCESS", "error": False, "response": {"message": "Endpoint deleted"}})


def _apply(endpoint: Subscription, told: dict[str, Any]) -> None:
    change(endpoint, told)
    if "events" in told:
        endpoint.events = told["events"] or DEFAULT_EVENTS
    if "enabled" in told:
        endpoint.is_enabled = told["enabled"]
    if endpoint.is_enabled:
        # POST /webhook/set leaves neither events nor, perhaps, a URL to what it switches off
        endpoint.events = endpoint.events or DEFAULT_EVENTS
        if not endpoint.options.get("url"):
            raise Refused('The "url" cannot be empty')
    _change_secrets(endpoint, told)


def _change_secrets(endpoint: Subscription, told: dict[str, Any]) -> None:
    signing = endpoint.secret("signing", [])
    if told.get("rotateSecret") or "secret" in told:
        # the one before it signs beside it, so that a receiver may change when it likes
        signing = [told.get("secret") or new_secret(), *signing][:MAX_SECRETS]
    if told.get("dropOldSecret"):
        signing = signing[:1]
    if signing != endpoint.secret("signing"):
        endpoint.keep_secrets(signing=signing)


def endpoint_of(instance: Instance, pk: str, is_to_change: bool = False) -> Subscription:
    """An instance's own one. Raises NotFound alike for one that does not exist and for somebody else's."""
    rows = webhooks_of(instance).select_for_update() if is_to_change else webhooks_of(instance)
    endpoint = rows.filter(pk=int(pk)).first() if is_id(pk) else None
    if endpoint is None:
        raise NotFound(f'The "{instance.name}" instance has no endpoint {pk[:20]}')
    return endpoint


def is_id(text: str) -> bool:
    """Whether it can be a row's primary key."""
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18
