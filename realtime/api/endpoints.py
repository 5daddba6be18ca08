"""The REST routes of webhook endpoints, of which an instance may have several."""

from __future__ import annotations

import re
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.access import MANAGE, READ
from instances.api.fields import Array, EventName, Flag, Text
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import Done, Error, done
from instances.api.serializers import Body, validate
from instances.api.webhook import (
    HeadersField,
    Url,
    apply_changes,
    check_public_url,
    new_endpoint,
    normalize_aliases,
    webhooks_of,
)
from instances.errors import ApiError, NotFound
from instances.events import DEFAULT_EVENTS
from instances.models import Instance, Subscription
from instances.outbound.webhook_secrets import MAX_SECRETS, PREFIX, check_secret, new_secret
from realtime.api.responses import EndpointRow, endpoint_row
from realtime.delivery.models import DELETED, Delivery, State

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

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{PREFIX}[A-Za-z0-9+/]{{32,86}}={{0,2}}$"}


class EndpointBody(Body):
    url = Url()
    headers = HeadersField(required=False)
    events = Array(child=EventName(), default=list)
    enabled = Flag(default=True)
    byEvents = Flag(required=False)
    base64 = Flag(required=False)
    ordered = Flag(required=False)
    secret = SigningSecret(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(normalize_aliases(data))


class EndpointChange(EndpointBody):
    """Used with `partial`: what is not told stays as it is."""

    rotateSecret = Flag(required=False)
    dropOldSecret = Flag(required=False)


class EndpointsView(APIView):
    """/webhook/endpoints/<instance>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    @extend_schema(responses={200: list[EndpointRow]})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """All webhook endpoints, the first one first."""
        rows = webhooks_of(request.instance)
        return Response([endpoint_row(one, request.auth) for one in rows])

    @extend_schema(request=EndpointBody, responses={201: EndpointRow, 409: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """One more webhook endpoint; an empty list of events means all."""
        told = validate(EndpointBody(data=request.data))
        check_public_url(told["url"])
        with transaction.atomic():
            instance = lock_instance(request)
            if webhooks_of(instance).count() >= MAX_ENDPOINTS:
                raise ApiError(f"An instance may have {MAX_ENDPOINTS} webhook endpoints", 409)
            endpoint = new_endpoint(instance, told.get("secret", ""))
            apply_changes(endpoint, told)
            endpoint.is_enabled, endpoint.events = told["enabled"], told["events"] or DEFAULT_EVENTS
            endpoint.save()
        return Response(endpoint_row(endpoint, request.auth), status=201)


class EndpointView(APIView):
    """/webhook/endpoints/<instance>/<id>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    @extend_schema(responses={200: EndpointRow})
    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """One webhook endpoint."""
        endpoint = endpoint_of(request.instance, pk)
        return Response(endpoint_row(endpoint, request.auth))

    @extend_schema(request=EndpointChange, responses={200: EndpointRow})
    def patch(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """What is not told stays as it is. Rotating keeps the secret before it, which signs too until it is dropped."""
        told = validate(EndpointChange(data=request.data, partial=True))
        if "url" in told:
            check_public_url(told["url"])
        with transaction.atomic():
            endpoint = endpoint_of(lock_instance(request), pk, is_to_change=True)
            _apply(endpoint, told)
            endpoint.save()
        return Response(endpoint_row(endpoint, request.auth))

    @extend_schema(responses={200: Done})
    def delete(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """What it is still owed is dropped."""
        with transaction.atomic():
            endpoint = endpoint_of(lock_instance(request), pk, is_to_change=True)
            Delivery.objects.give_up([endpoint.pk], State.DROPPED, DELETED)
            endpoint.delete()
        return Response(done("Endpoint deleted"))


def _apply(endpoint: Subscription, told: dict[str, Any]) -> None:
    apply_changes(endpoint, told)
    if "events" in told:
        endpoint.events = told["events"] or DEFAULT_EVENTS
    if "enabled" in told:
        endpoint.is_enabled = told["enabled"]
    if endpoint.is_enabled:
        # POST /webhook/set leaves neither events nor, perhaps, a URL to what it switches off
        endpoint.events = endpoint.events or DEFAULT_EVENTS
        if not endpoint.options.get("url"):
            raise ApiError('The "url" cannot be empty')
        if told.get("enabled"):
            check_public_url(endpoint.options["url"])  # it was set when other networks may have been allowed
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
    return re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) is not None
