"""REST routes of an instance's webhook endpoints."""

from __future__ import annotations

import re
import time
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ
from instances.api.fields import Distinct, EventName, Flag, Seconds, Text
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import Done, Error, done
from instances.api.serializers import RequestBody, validate
from instances.api.webhook import (
    ALL_ALIASES,
    HeadersField,
    Url,
    apply_changes,
    check_public_url,
    new_endpoint,
    normalize_aliases,
    note_headers,
    require_room,
    webhooks_of,
)
from instances.errors import ApiError, NotFound
from instances.models import Instance, Subscription
from instances.outbound.signing_secrets import MAX_OVERLAP, active_secrets, rotated, with_overlap
from instances.outbound.webhook_secrets import PREFIX, check_secret, new_secret
from realtime.api.responses import EndpointRow, endpoint_row, endpoint_rows
from realtime.delivery.models import DELETED, Delivery, State


class SigningSecret(Text):
    """A secret of Standard Webhooks: `whsec_` and base64, https://www.standardwebhooks.com."""

    def to_internal_value(self, data: Any) -> str:
        secret = super().to_internal_value(data)
        try:
            check_secret(secret)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return secret

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{PREFIX}[A-Za-z0-9+/]{{32,86}}={{0,2}}$"}


class EndpointBody(RequestBody):
    is_strict = True
    also_known = ALL_ALIASES

    url = Url()
    headers = HeadersField(required=False)
    events = Distinct(child=EventName(), default=list)
    enabled = Flag(default=True)
    byEvents = Flag(required=False)
    base64 = Flag(required=False)
    ordered = Flag(required=False)
    followRedirects = Flag(required=False, help_text="Follow a 302 or 303 once, by GET without headers and body.")
    secret = SigningSecret(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(normalize_aliases(data))


class EndpointChange(EndpointBody):
    """Changes of an endpoint, with `partial`: omitted members stay unchanged."""

    rotateSecret = Flag(required=False)
    overlapSeconds = Seconds(required=False, min_value=0, max_value=MAX_OVERLAP)
    dropOldSecret = Flag(required=False)


class EndpointsView(APIView):
    """GET and POST /webhook/endpoints/<instance>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    @extend_schema(responses={200: list[EndpointRow]})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """List the webhook endpoints, oldest first."""
        return Response(endpoint_rows(webhooks_of(request.instance), request.auth))

    @extend_schema(request=EndpointBody, responses={201: EndpointRow, 409: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Add a webhook endpoint; an empty list of events means all."""
        validated = validate(EndpointBody(data=request.data))
        check_public_url(validated["url"])
        with transaction.atomic():
            instance = lock_instance(request)
            require_room(instance)
            endpoint = new_endpoint(instance, validated.get("secret", ""))
            apply_changes(endpoint, validated)
            endpoint.is_enabled, endpoint.events = validated["enabled"], validated["events"]
            endpoint.save()
        return Response(endpoint_row(endpoint, request.auth), status=201, headers=note_headers(validated["url"]))


class EndpointView(APIView):
    """GET, PATCH and DELETE /webhook/endpoints/<instance>/<id>"""

    @property
    def scope(self) -> str:
        return READ if self.request.method in SAFE_METHODS else MANAGE

    @extend_schema(responses={200: EndpointRow})
    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Show a webhook endpoint."""
        endpoint = get_endpoint(request.instance, pk)
        return Response(endpoint_row(endpoint, request.auth))

    @extend_schema(request=EndpointChange, responses={200: EndpointRow})
    def patch(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Change the given members. After a rotation the old secret signs as well: for overlapSeconds, or until it is
        dropped.
        """
        validated = validate(EndpointChange(data=request.data, partial=True))
        if "url" in validated:
            check_public_url(validated["url"])
        with transaction.atomic():
            endpoint = get_endpoint(lock_instance(request), pk, for_update=True)
            _apply(endpoint, validated)
            endpoint.save()
        headers = note_headers(validated.get("url", ""))
        return Response(endpoint_row(endpoint, request.auth), headers=headers)

    @extend_schema(responses={200: Done})
    def delete(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Delete an endpoint and drop its pending deliveries."""
        with transaction.atomic():
            endpoint = get_endpoint(lock_instance(request), pk, for_update=True)
            Delivery.objects.give_up([endpoint.pk], State.DROPPED, DELETED)
            endpoint.delete()
        return Response(done("Endpoint deleted"))


def _apply(endpoint: Subscription, validated: dict[str, Any]) -> None:
    apply_changes(endpoint, validated)
    if "events" in validated:
        endpoint.events = validated["events"]
    if "enabled" in validated:
        endpoint.is_enabled = validated["enabled"]
    if endpoint.is_enabled:
        if not endpoint.options.get("url"):  # POST /webhook/set may clear it of an endpoint that it disables
            raise ApiError('The "url" cannot be empty')
        if validated.get("enabled"):
            check_public_url(endpoint.options["url"])  # other networks may have been allowed when it was set
    _change_secrets(endpoint, validated)


def _change_secrets(endpoint: Subscription, validated: dict[str, Any]) -> None:
    stored, now = endpoint.all_secrets, time.time()
    overlap = 0 if validated.get("dropOldSecret") else validated.get("overlapSeconds")
    if validated.get("rotateSecret") or "secret" in validated:
        # the former secret signs as well, so that the receiver can switch at any time
        endpoint.keep_secrets(**rotated(stored, validated.get("secret") or new_secret(), overlap, now))
    elif overlap is not None:
        if overlap and len(active_secrets(stored, now)) < 2:
            raise ApiError('There is no old secret: "overlapSeconds" goes with "rotateSecret" or "secret"')
        endpoint.keep_secrets(**with_overlap(stored, overlap, now))


def get_endpoint(instance: Instance, pk: str, for_update: bool = False) -> Subscription:
    """Return an instance's webhook endpoint. Raises NotFound, also for another instance's endpoint."""
    rows = webhooks_of(instance).select_for_update() if for_update else webhooks_of(instance)
    endpoint = rows.filter(pk=int(pk)).first() if is_id(pk) else None
    if endpoint is None:
        raise NotFound(f'The "{instance.name}" instance has no endpoint {pk[:20]}')
    return endpoint


def is_id(text: str) -> bool:
    """Return whether the text is an integer that can be a primary key."""
    return re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) is not None
