"""Routes that set the events which an instance's sockets, webhook and other endpoints receive."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any, TypedDict, get_type_hints

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.serializers import Field, IntegerField
from rest_framework.views import APIView

from instances.access.minted_tokens import Mintable
from instances.access.rights import LISTEN, MANAGE, READ
from instances.api.fields import Flag
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import (
    Minted,
    SubscriptionRow,
    WebhookRow,
    subscription_row,
    webhook_row,
)
from instances.api.serializers import MintBody, WrappedWebsocket, validate
from instances.api.transports import (
    TransportSettings,
    first_endpoint,
    set_endpoint,
    shown_options,
    wrapped_body_of,
)
from instances.api.transports import validate_set as validate_transport
from instances.api.webhook import (
    WrappedWebhook,
    check_public_url,
    first_webhook,
    needs_url_check,
    note_headers,
    set_webhook,
    validate_set,
)
from instances.errors import ApiError
from instances.models import Subscription
from instances.timestamps import iso


class SetWebsocket(APIView):
    scope = MANAGE

    @extend_schema(request=WrappedWebsocket, responses={201: SubscriptionRow})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Set the events that the instance's sockets receive; an empty list means all.

        The members of `websocket` may also be sent at the top level.
        """
        # the official Python client sends them at the top level
        is_flat = "websocket" not in request.data and "enabled" in request.data
        body = {"websocket": request.data} if is_flat else request.data
        validated = validate(WrappedWebsocket(data=body))["websocket"]
        with transaction.atomic():
            subscription = Subscription.set_websocket(lock_instance(request), validated["enabled"], validated["events"])
        return Response(subscription_row(subscription), status=201)


class FindWebsocket(APIView):
    scope = READ

    @extend_schema(responses={200: SubscriptionRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the websocket settings, or null where none are set; the sockets then receive all events."""
        subscription = request.instance.subscriptions.for_sockets().first()
        return Response(subscription_row(subscription) if subscription else None)


class SetWebhook(APIView):
    scope = MANAGE

    @extend_schema(request=WrappedWebhook, responses={201: WebhookRow})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Set the first webhook endpoint.

        The members of `webhook` may also be sent at the top level, as in v1 and v2.0. The header `X-Evoapi-Note` says
        what has to be set for a host that looks private.
        """
        validated = validate_set(request.data)
        if needs_url_check(validated):
            check_public_url(validated["url"])
        with transaction.atomic():
            endpoint = set_webhook(lock_instance(request), validated)
        return Response(webhook_row(endpoint, request.auth), status=201, headers=note_headers(validated.get("url", "")))


class FindWebhook(APIView):
    scope = READ

    @extend_schema(responses={200: WebhookRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the first webhook endpoint, or null where there is none."""
        endpoint = first_webhook(request.instance)
        return Response(webhook_row(endpoint, request.auth) if endpoint else None)


@cache
def set_view(transport: TransportSettings) -> type[APIView]:
    """Return the view of POST /<transport>/set/<name>, by the transport's declaration."""

    class SetEndpoint(APIView):
        scope = MANAGE

        @extend_schema(request=wrapped_body_of(transport), responses={201: _row_of(transport)})
        def post(self, request: InstanceRequest, name: str) -> Response:
            validated = validate_transport(transport, request.data)
            with transaction.atomic():
                endpoint = set_endpoint(transport, lock_instance(request), validated)
            return Response(_endpoint_row(transport, endpoint), status=201)

        post.__doc__ = f"""Set {transport.description}; an empty list means all.

        The members of `{transport.name}` may also be sent at the top level.
        """

    SetEndpoint.__name__ = f"Set{transport.title}"
    return SetEndpoint


@cache
def find_view(transport: TransportSettings) -> type[APIView]:
    """Return the view of GET /<transport>/find/<name>, by the transport's declaration."""

    class FindEndpoint(APIView):
        scope = READ

        @extend_schema(responses={200: _row_of(transport) | None})
        def get(self, request: InstanceRequest, name: str) -> Response:
            endpoint = first_endpoint(transport, request.instance.subscriptions.all())
            return Response(_endpoint_row(transport, endpoint) if endpoint else None)

        get.__doc__ = f"Return the {transport.title} settings, or null where none are set."

    FindEndpoint.__name__ = f"Find{transport.title}"
    return FindEndpoint


def _endpoint_row(transport: TransportSettings, endpoint: Subscription) -> dict[str, Any]:
    return {**subscription_row(endpoint), **shown_options(transport, endpoint)}


@cache
def _row_of(transport: TransportSettings) -> Any:
    """Return the type of the row that `_endpoint_row` returns, for the OpenAPI document."""
    if not transport.shown_names:
        return SubscriptionRow
    options = {name: _type_of(transport.fields[name]) | None for name in transport.shown_names}
    return TypedDict(f"{transport.title}Row", get_type_hints(SubscriptionRow) | options)  # type: ignore[operator]


def _type_of(field: Field) -> Any:
    return bool if isinstance(field, Flag) else int if isinstance(field, IntegerField) else str


class MintToken(APIView):
    """POST /websocket/token/<name>: a backend requests tokens for its pages, which must not contain a key."""

    scope = LISTEN

    @extend_schema(request=MintBody, responses={201: Minted})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Mint a short-lived token for the sockets of a page."""
        validated = validate(MintBody(data=request.data))
        scopes = [scope for scope in Mintable.values if scope in validated["scopes"]]
        for scope in scopes:
            if not request.auth.may(scope):
                raise ApiError(f"This key may not {scope}", status_code=403)
        minted = request.auth.mint(request.instance, scopes, timedelta(seconds=validated["expiresIn"]))
        return Response({"token": minted.text, "expiresAt": iso(minted.expires_at), "scopes": scopes}, status=201)
