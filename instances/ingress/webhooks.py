"""The ingress endpoints of WhatsApp's events: the Evolution channel's and Meta's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Self

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.views import APIView

from instances.access.access import Access
from instances.access.cache import AccessCache
from instances.access.client_address import is_within
from instances.access.gate import Caller
from instances.access.rate_limit import failed_authentications
from instances.access.rest import authentication_error
from instances.access.rights import PUBLISH
from instances.api.fields import Flag, Object, Text
from instances.api.responses import Error
from instances.changes import Change, InboundMessage, Notice, StatusReport
from instances.crypto import is_same
from instances.errors import ApiError, error_response
from instances.events import announce
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, InstanceQuery, Work
from instances.ingress.view import IngressView
from instances.models import Instance, Integration, Message
from instances.providers import providers
from instances.providers.base import InvalidPayload
from instances.providers.cloud_api import is_signed

logger = logging.getLogger(__name__)

SUCCESS = b'{"status":"success"}'


class ProviderWork(Work):
    """The changes of a provider's payload: all are applied, or none."""

    def __init__(self, integration: str, changes: Iterable[Change]) -> None:
        self.changes = list(changes)
        #: True once applied, if an instance has one of the numbers or business ids.
        self.has_instances = False
        self.query = InstanceQuery(
            integration=integration,
            numbers=frozenset(change.number for change in self.changes if change.number),
            business_ids=frozenset(change.business_id for change in self.changes if change.business_id),
        )

    def authorize(self, instances: list[Instance]) -> None:
        """Raise APIException if the request may not change these instances."""

    def apply(self, instances: list[Instance]) -> None:
        self.apply_all([self], instances)

    @classmethod
    def apply_all(cls, works: Sequence[Self], instances: list[Instance]) -> None:
        """Apply changes in order; a change for a number that no instance has (any longer) is dropped and logged."""
        for work in works:
            work.authorize(instances)
            work.has_instances = bool(instances)
        changes = [change for work in works for change in work.changes]
        for instance in instances:
            of_instance = (change for change in changes if change.belongs_to(instance))
            for change_class, group in groupby(of_instance, key=lambda change: change.__class__):
                APPLY[change_class](instance, list(group))
        for change in changes:
            if not any(change.belongs_to(instance) for instance in instances):
                logger.info("No instance has the number %r", change.number or f"of business {change.business_id}")

    def response(self) -> IngressResponse:
        return IngressResponse(200, SUCCESS)


def _report_statuses(instance: Instance, reports: Sequence[StatusReport]) -> None:
    for report in reports:
        Message.record_status(instance, report)


def _announce_notices(instance: Instance, notices: Sequence[Notice]) -> None:
    for notice in notices:
        announce(notice.event_type, instance, notice.data, notice.dedupe_key)


#: Functions that store and announce changes of a class: several of one instance, in order, in the caller's transaction.
APPLY: dict[type[Change], Callable[[Instance, list[Any]], None]] = {
    InboundMessage: Message.receive,
    StatusReport: _report_statuses,
    Notice: _announce_notices,
}


def _parse(integration: str, request: IngressRequest) -> list[Change]:
    try:
        return providers()[integration].parse(request.body, request.headers)
    except InvalidPayload as error:
        raise ApiError(str(error)) from None


# Evolution


class EvolutionKey(serializers.Serializer):
    remoteJid = Text(max_length=255)
    id = Text(required=False, allow_null=True, allow_blank=True, max_length=255)
    fromMe = Flag(required=False)
    participant = Text(required=False, allow_null=True, allow_blank=True, max_length=255)


class EvolutionPayload(serializers.Serializer):
    """A payload, described for the OpenAPI document; the provider validates it."""

    numberId = Text(max_length=255)
    key = EvolutionKey()
    message = Object(required=False, allow_null=True)
    pushName = Text(required=False, allow_null=True, allow_blank=True, max_length=None)
    messageType = Text(required=False, allow_null=True, allow_blank=True, max_length=64)
    profilePicUrl = Text(required=False, allow_null=True, allow_blank=True, max_length=8192)


class EvolutionWebhook(APIView):
    """Describes `EvolutionIngress` in the OpenAPI document."""

    @extend_schema(request=EvolutionPayload, responses={200: OpenApiTypes.ANY})
    def post(self, request: Any) -> None:
        """Receive messages from an engine of the Evolution channel.

        The response to an unknown number has an empty body.
        """


class EvolutionIngress(IngressEndpoint):
    """POST /webhook/evolution: the payloads of the engine behind an instance of the Evolution channel."""

    path = "/webhook/evolution"
    openapi_view = EvolutionWebhook

    def authorize(self, request: IngressRequest, cache: AccessCache) -> Access | None:
        if "apikey" not in request.headers and _is_open_to(request):
            if not _is_json(request):
                raise ApiError("Without a key the Content-Type must be application/json", 415)
            return None
        access = cache.access(request.headers.get("apikey", ""))
        if access is None:
            raise authentication_error(request.client_address)
        if not access.may(PUBLISH):
            raise ApiError("This key may not publish", 403)
        return access

    def prepare(self, request: IngressRequest, cache: AccessCache) -> EvolutionWork:
        access = self.authorize(request, cache)
        return EvolutionWork(_parse(Integration.EVOLUTION, request), access, cache)


def _is_open_to(request: IngressRequest) -> bool:
    """Return whether EVOLUTION_INGRESS_OPEN lets the client post without a key."""
    allowed, caller = settings.EVOLUTION_INGRESS_OPEN, request.caller
    is_allowed = allowed if isinstance(allowed, bool) else is_within(caller.address, allowed)
    return is_allowed and caller.may_be_keyless


def _is_json(request: IngressRequest) -> bool:
    """Return whether the body is declared as JSON: browsers send that for no page of another origin without asking."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


class EvolutionWork(ProviderWork):
    """The changes of a payload, and the access of its key; None without a key where the endpoint is open."""

    def __init__(self, changes: list[Change], access: Access | None, cache: AccessCache) -> None:
        super().__init__(Integration.EVOLUTION, changes)
        self.access = access
        self.cache = cache

    def authorize(self, instances: list[Instance]) -> None:
        # a key for some instances must not reveal which numbers exist: unknown numbers are refused as foreign ones are
        if self.access is None or self.access.is_for_all or not self.changes:
            return
        if not instances or not all(self.cache.opens(self.access, instance) for instance in instances):
            raise AuthenticationFailed

    def response(self) -> IngressResponse:
        # clients recognize an unknown number by the empty response
        return IngressResponse(200, SUCCESS if self.has_instances or not self.changes else b"")


# Meta


class MetaWebhook(APIView):
    """Describes `MetaIngress` and `MetaIngressView` in the OpenAPI document."""

    authentication_classes = ()

    @extend_schema(
        parameters=[OpenApiParameter(f"hub.{name}", required=True) for name in ("mode", "verify_token", "challenge")],
        responses={(200, "text/plain"): str, 403: Error},
    )
    def get(self, request: Any) -> None:
        """Verify the webhook: return the challenge to a client that knows the verify token."""

    @extend_schema(
        parameters=[OpenApiParameter("X-Hub-Signature-256", location=OpenApiParameter.HEADER, required=True)],
        request=dict[str, Any],
        responses={200: dict[str, Any], 401: Error, 403: Error},
    )
    def post(self, request: Any) -> None:
        """Receive the payloads of all numbers of an app, authenticated by Meta's signature."""


class MetaIngress(IngressEndpoint):
    """POST /webhook/meta: the payloads of all numbers of an app, authenticated by Meta's signature.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    """

    path = "/webhook/meta"
    openapi_view = MetaWebhook

    def authorize(self, request: IngressRequest, cache: AccessCache) -> None:
        """Refuse a request without a signature; whether it is Meta's shows only once there is a body."""
        if not settings.WA_BUSINESS_APP_SECRET:
            logger.error("POST /webhook/meta was refused: WA_BUSINESS_APP_SECRET is not set")
            raise ApiError("Signatures cannot be checked: WA_BUSINESS_APP_SECRET is not set on this server", 403)
        if "x-hub-signature-256" not in request.headers:
            raise AuthenticationFailed

    def prepare(self, request: IngressRequest, cache: AccessCache) -> ProviderWork:
        self.authorize(request, cache)
        signature = request.headers["x-hub-signature-256"]
        if not is_signed(request.body, signature, settings.WA_BUSINESS_APP_SECRET):
            raise ApiError("The signature is not that of this body under the app secret", 403)
        return ProviderWork(Integration.CLOUD_API, _parse(Integration.CLOUD_API, request))


class MetaIngressView(IngressView):
    """/webhook/meta: GET verifies the webhook for Meta, POST receives its payloads."""

    endpoint = MetaIngress()

    def get(self, request: HttpRequest) -> HttpResponse:
        token, expected = request.GET.get("hub.verify_token", ""), settings.WA_BUSINESS_TOKEN_WEBHOOK
        if not expected:
            logger.error("GET /webhook/meta was refused: WA_BUSINESS_TOKEN_WEBHOOK is not set")
        if not expected or not is_same(token, expected) or request.GET.get("hub.mode") != "subscribe":
            peer = request.META.get("REMOTE_ADDR", "")
            if not failed_authentications.allows(Caller.of_request("GET", request.headers, peer).address):
                return error_response(429, ["Too many wrong tokens from this address; try again later"])
            return error_response(403, ["The verify token is not the one in WA_BUSINESS_TOKEN_WEBHOOK"])
        return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")
