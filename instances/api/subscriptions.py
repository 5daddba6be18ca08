"""Routes of what an instance's sockets, webhook and RabbitMQ exchange receive."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.access import LISTEN, MANAGE, READ
from instances.access.minted_tokens import Mintable
from instances.api import rabbitmq as rabbitmq_settings
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import (
    Minted,
    SubscriptionRow,
    WebhookRow,
    subscription_row,
    webhook_row,
)
from instances.api.serializers import (
    MintBody,
    WrappedWebsocket,
    validate,
)
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
        """What its sockets hear; an empty list of events means all. The members may come without their wrapper."""
        # the official Python client sends the members without their wrapper
        is_flat = "websocket" not in request.data and "enabled" in request.data
        body = WrappedWebsocket(data={"websocket": request.data} if is_flat else request.data)
        body.is_valid(raise_exception=True)
        validated = body.validated_data["websocket"]
        with transaction.atomic():
            subscription = Subscription.set_websocket(lock_instance(request), validated["enabled"], validated["events"])
        return Response(subscription_row(subscription), status=201)


class FindWebsocket(APIView):
    scope = READ

    @extend_schema(responses={200: SubscriptionRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """What its sockets hear; null: no settings, so everything."""
        subscription = request.instance.subscriptions.for_sockets().first()
        return Response(subscription_row(subscription) if subscription else None)


class SetWebhook(APIView):
    scope = MANAGE

    @extend_schema(request=WrappedWebhook, responses={201: WebhookRow})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """The first webhook endpoint. The members may come without their wrapper, as v2.0 and v1 took them."""
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
        """The first webhook endpoint; null: there is none."""
        endpoint = first_webhook(request.instance)
        return Response(webhook_row(endpoint, request.auth) if endpoint else None)


class SetRabbitMQ(APIView):
    scope = MANAGE

    @extend_schema(request=rabbitmq_settings.WrappedRabbitMQ, responses={201: SubscriptionRow})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """The exchange of the instance's name; the members may come without their wrapper."""
        validated = rabbitmq_settings.validate_set(request.data)
        with transaction.atomic():
            endpoint = rabbitmq_settings.set_rabbitmq(lock_instance(request), validated["enabled"], validated["events"])
        return Response(subscription_row(endpoint), status=201)


class FindRabbitMQ(APIView):
    scope = READ

    @extend_schema(responses={200: SubscriptionRow | None})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """What RabbitMQ is validated; null: nothing."""
        endpoint = rabbitmq_settings.first_rabbitmq(request.instance.subscriptions.all())
        return Response(subscription_row(endpoint) if endpoint else None)


class MintToken(APIView):
    """For a backend to ask on behalf of its pages, which must not hold a key."""

    scope = LISTEN

    @extend_schema(request=MintBody, responses={201: Minted})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """A short-lived token for a page's socket."""
        validated = validate(MintBody(data=request.data))
        scopes = [scope for scope in Mintable.values if scope in validated["scopes"]]
        for scope in scopes:
            if not request.auth.may(scope):
                raise ApiError(f"This key may not {scope}", status_code=403)
        minted = request.auth.mint(request.instance, scopes, timedelta(seconds=validated["expiresIn"]))
        answer = {"token": minted.text, "expiresAt": iso(minted.expires_at), "scopes": scopes}
        return Response(answer, status=201)
