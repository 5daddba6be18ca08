"""Routes of instances: create, find, rotate the token, delete; `connection` has those of their connections."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.chosen_tokens import check_chosen_token, count_as_guess
from instances.access.rest import GlobalKeyOnly, address_of
from instances.access.rights import MANAGE, READ
from instances.api.ignored import note_ignored
from instances.api.license import PublicView
from instances.api.proxy import proxy_of
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import (
    Created,
    Done,
    Error,
    Greeting,
    InstanceRow,
    Rotated,
    Valid,
    done,
    identity,
    instance_row,
)
from instances.api.serializers import (
    CreateBody,
    CreateWebsocketBody,
    SettingsBody,
    TokenBody,
    validate,
)
from instances.api.transports import create_body_of, declared_transports, set_endpoint
from instances.api.transports import validate_create as validate_endpoint
from instances.api.webhook import (
    CreateWebhookBody,
    check_public_url,
    needs_url_check,
    set_webhook,
    validate_create,
)
from instances.crypto import Secret
from instances.errors import ApiError, NotFound
from instances.integrations import MEMBERS, NOTE_HEADER, described, integration_of
from instances.models import Instance, Proxy, Subscription
from instances.providers import provider_of
from instances.unreadable import readable


class Welcome(PublicView):
    @extend_schema(responses={200: Greeting})
    def get(self, request: Request) -> Response:
        """Return that the server runs, and the version of Evolution API that it is compatible with.

        `whatsappWebVersion` is CONFIG_BAILEYS_VERSION, where that is set: nobody is asked for it.
        """
        greeting = {
            "status": 200,
            "message": "Welcome to the Evolution API, it is working!",
            "version": settings.EVOLUTION_VERSION,
            "clientName": settings.DATABASE_CONNECTION_CLIENT_NAME,
            "documentation": "https://doc.evolution-api.com",
        }
        if settings.EVOLUTION_MANAGER_DIR:
            greeting["manager"] = manager_url(request)
        if settings.CONFIG_BAILEYS_VERSION:
            greeting["whatsappWebVersion"] = settings.CONFIG_BAILEYS_VERSION
        return Response(greeting)


def manager_url(request: Request) -> str:
    """Return the URL of the dashboard under the host that the request names; https behind a proxy, if SERVER_URL is."""
    is_https = request.is_secure() or settings.SERVER_URL.startswith("https:")
    return f"{'https' if is_https else 'http'}://{request.get_host()}/manager"


class VerifyCreds(APIView):
    permission_classes = (GlobalKeyOnly,)

    @extend_schema(request=None, responses={200: Valid})
    def post(self, request: Request) -> Response:
        """Check that the key is the global key; returns Evolution API's FACEBOOK_* variables where they are set."""
        facebook = {
            "facebookAppId": settings.FACEBOOK_APP_ID,
            "facebookConfigId": settings.FACEBOOK_CONFIG_ID,
            "facebookUserToken": settings.FACEBOOK_USER_TOKEN,
        }
        given = {name: value for name, value in facebook.items() if value}
        return Response({"status": 200, "message": "Credentials are valid"} | given)


class CreateInstanceBody(CreateBody):
    """The body as the OpenAPI document shows it; the view validates the transports separately."""

    websocket = CreateWebsocketBody(required=False)
    webhook = CreateWebhookBody(required=False)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields with descriptions by the providers, and a member for each transport."""
        fields: dict[str, Any] = super().get_fields()
        fields |= {transport.name: create_body_of(transport)(required=False) for transport in declared_transports()}
        for member in MEMBERS:
            fields[member].help_text = described(member)
        return fields


class CreateInstance(APIView):
    permission_classes = (GlobalKeyOnly,)

    @extend_schema(request=CreateInstanceBody, responses={201: Created})
    def post(self, request: Request) -> Response:
        """Create an instance; only the global key may.

        Where an instance needs something besides this server, such as an engine of yours, the header `X-Evoapi-Note`
        says so.
        """
        validated = validate(CreateBody(data=request.data))
        validated["webhook"] = validate_create(request.data)
        if validated["webhook"] and needs_url_check(validated["webhook"]):
            check_public_url(validated["webhook"]["url"])
        validated["endpoints"] = [
            (transport, settings)
            for transport in declared_transports()
            if (settings := validate_endpoint(transport, request.data)) is not None
        ]
        instance = self._new_instance(validated)
        try:
            provider_of(instance).check_new(instance)
        except ValueError as error:
            raise ApiError(str(error)) from None
        self._store(instance, validated)
        note = integration_of(instance.integration).note
        headers = {NOTE_HEADER: note} if note else None
        return Response(self._response_body(instance, validated), status=201, headers=headers)

    def _new_instance(self, validated: dict[str, Any]) -> Instance:
        integration = integration_of(validated["integration"])
        instance = Instance(
            name=validated["instanceName"],
            integration=validated["integration"],
            number=validated.get("number") or None,
            business_id=validated.get("businessId") or None,
            owner_jid=validated.get("ownerJid") or None,
            profile_name=validated.get("profileName") or None,
            profile_pic_url=validated.get("profilePicUrl") or None,
            connection_state=integration.initial_state,
            settings={name: validated[name] for name in map(str, SettingsBody().fields)},
        )
        if integration.takes_state:
            instance.connection_state = validated.get("status") or integration.initial_state
        if token := validated.get("token"):
            instance.give_token(token)
            if integration.token_is_credential:
                instance.provider_token = Secret(token)  # Evolution's clients give the Graph token by this name
        return instance

    def _store(self, instance: Instance, validated: dict[str, Any]) -> None:
        if Instance.objects.filter(name=instance.name).exists():
            raise in_use_error("name", instance.name)
        try:
            with transaction.atomic():
                # endpoints before the instance, so that they receive instance.create
                if (webhook := validated["webhook"]) is not None:
                    set_webhook(instance, webhook)
                for transport, endpoint in validated["endpoints"]:
                    set_endpoint(transport, instance, endpoint)
                instance.save(force_insert=True)
                if proxy := proxy_of(validated):
                    Proxy.set(instance, proxy)
                if (websocket := validated.get("websocket")) is not None:
                    Subscription.set_websocket(instance, websocket["enabled"], websocket["events"])
        except IntegrityError:
            if Instance.objects.filter(name=instance.name).exists():
                raise in_use_error("name", instance.name) from None
            raise in_use_error(instance.provider.unique, str(instance.unique_key)) from None

    def _response_body(self, instance: Instance, validated: dict[str, Any]) -> dict[str, Any]:
        return {
            "instance": identity(instance, is_for_operator=True),
            "hash": instance.token.reveal(),
            "webhook": self._webhook(validated["webhook"]),
            "websocket": {"enabled": validated["websocket"]["enabled"]} if "websocket" in validated else {},
            **{name: {} for name in ("rabbitmq", "nats", "sqs")},
            **{transport.name: {"enabled": endpoint["enabled"]} for transport, endpoint in validated["endpoints"]},
            "settings": instance.settings,
        }

    def _webhook(self, validated: dict[str, Any] | None) -> dict[str, Any]:
        if validated is None:
            return {}
        return {
            "webhookUrl": validated["url"],
            "webhookHeaders": validated.get("headers") or {},
            "webhookByEvents": validated.get("byEvents", False),
            "webhookBase64": validated.get("base64", False),
        }


def in_use_error(attribute: str, value: str) -> ApiError:
    return ApiError(f'This {attribute} "{value}" is already in use.', status_code=403)


class FetchInstances(APIView):
    scope = READ

    @extend_schema(
        parameters=[OpenApiParameter(name) for name in ("instanceName", "instanceId", "number")],
        responses={200: list[InstanceRow], 404: Error},
    )
    def get(self, request: InstanceRequest) -> Response:
        """Return the instances that the key gives access to, filtered by the query.

        An engine that drives an instance finds its settings and its proxy here: this server acts on neither.
        """
        access = request.auth
        rows = Instance.objects.counted().select_related("proxy").prefetch_related("subscriptions")
        if access.key and not access.is_for_all:
            rows = rows.filter(api_keys=access.key)
        elif not access.is_for_all:
            rows = rows.filter(token_digest__in=access.token_digests)
        filters = self._filters(request)
        found = readable(self._filtered(rows, filters))
        if filters and not found:
            raise NotFound(f'Instance "{next(iter(filters.values()))}" not found')
        beyond = access.digests_beyond() if access.may(MANAGE) else frozenset()
        return Response([instance_row(instance, access, beyond) for instance in found])

    def _filters(self, request: Request) -> dict[str, str]:
        given = {name: request.query_params.get(name) for name in ("instanceId", "number", "instanceName")}
        note_ignored(name for name in request.query_params if name not in given)
        filters = {name: value for name, value in given.items() if value}
        if "instanceId" in filters or "number" in filters:
            filters.pop("instanceName", None)
        return filters

    def _filtered(self, rows: Any, filters: dict[str, str]) -> Any:
        columns = {"instanceName": "name", "instanceId": "pk", "number": "number"}
        for name, value in filters.items():
            if "\x00" in value or (name == "instanceId" and not _is_uuid(value)):
                rows = rows.none()
            else:
                rows = rows.filter(**{columns[name]: value})
        return rows


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


class RotateToken(APIView):
    scope = MANAGE

    @extend_schema(request=TokenBody, responses={200: Rotated, 429: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Replace the token by the given one or, without one, by a generated one; the old token is no longer valid.

        A token that is given by another key than the global one has 16 characters or more and is no key that exists.
        """
        token = validate(TokenBody(data=request.data)).get("token", "")
        is_chosen = bool(token) and not request.auth.is_global
        if is_chosen:
            count_as_guess(address_of(request))
        with transaction.atomic():
            instance = lock_instance(request)
            if is_chosen:
                check_chosen_token(instance, token)
            instance.rotate_token(token)
        return Response({"hash": instance.token.reveal(), "instance": identity(instance, request.auth.is_global)})


class DeleteInstance(APIView):
    scope = MANAGE

    @extend_schema(responses={200: Done})
    def delete(self, request: InstanceRequest, name: str) -> Response:
        """Log the instance out, delete it and disconnect its sockets; its events are kept until the retention ends."""
        with transaction.atomic():
            instance = lock_instance(request)
            instance.log_out()
            instance.delete()
        return Response(done("Instance deleted"))
