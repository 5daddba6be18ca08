"""Routes that set the events which an instance's sockets, webhook and RabbitMQ exchange receive."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.minted_tokens import Mintable
from instances.access.rights import LISTEN, MANAGE, READ
from instances.api import rabbitmq as rabbitmq_settings
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import (
    Minted,
    SubscriptionRow,
    WebhookRow,
    subscription_row,
    webhook_row,
)
from instances.api.serializers import MintBody, WrappedWebsocket, validate
from instances.api.timestamps import iso
from instances.api.webhook import (
    WrappedWebhook,
    check_public_url,
    first_webhook,
    needs_url_check,
    set_webhook,
    validate_set,
)
from instances.errors import ApiError
from instances.models import Subscription


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

        The members of `webhook` may also be sent at the top level, as in v1 and v2.0.
        """
        validated = validate_set(request.data)
        if needs_url_check(validated):
            check_public_url(validated["url"])
        with transaction.atomic():
            endpoint = set_webhook(lock_instance(request), validated)
        return Response(webhook_row(endpoint, request.auth), status=201)


class FindWebhook(APIView):
    scope = READ

    @extend_schema(responses={200: WebhookRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the first webhook endpoint, or null where there is none."""
        endpoint = first_webhook(request.instance)
        return Response(webhook_row(endpoint, request.auth) if endpoint else None)


class SetRabbitMQ(APIView):
    scope = MANAGE

    @extend_schema(request=rabbitmq_settings.WrappedRabbitMQ, responses={201: SubscriptionRow})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Set the events that are published to the exchange with the instance's name; an empty list means all.

        The members of `rabbitmq` may also be sent at the top level.
        """
        validated = rabbitmq_settings.validate_set(request.data)
        with transaction.atomic():
            endpoint = rabbitmq_settings.set_rabbitmq(lock_instance(request), validated["enabled"], validated["events"])
        return Response(subscription_row(endpoint), status=201)


class FindRabbitMQ(APIView):
    scope = READ

    @extend_schema(responses={200: SubscriptionRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the RabbitMQ settings, or null where none are set."""
        endpoint = rabbitmq_settings.first_rabbitmq(request.instance.subscriptions.all())
        return Response(subscription_row(endpoint) if endpoint else None)


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
