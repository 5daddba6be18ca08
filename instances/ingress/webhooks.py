"""The doors where WhatsApp's events come in."""

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

from instances.access.access import PUBLISH, Access
from instances.access.cache import AccessCache
from instances.access.client_address import is_within
from instances.access.rest import authentication_error
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


def _report_statuses(instance: Instance, reports: Sequence[StatusReport]) -> None:
    for report in reports:
        Message.status_reported(instance, report)


def _announce_notices(instance: Instance, notices: Sequence[Notice]) -> None:
    for notice in notices:
        announce(notice.event_type, instance, notice.data, notice.dedupe_key)


#: How changes of each kind are stored and announced: several of one instance, in order, in the caller's transaction.
APPLY: dict[type[Change], Callable[[Instance, list[Any]], None]] = {
    InboundMessage: Message.receive,
    StatusReport: _report_statuses,
    Notice: _announce_notices,
}


class Changes(Work):
    """The changes that a payload reports, all or none."""

    def __init__(self, integration: str, changes: Iterable[Change]) -> None:
        self.changes = list(changes)
        #: Of the instances that they belonged to.
        self.names: set[str] = set()
        self.address = InstanceQuery(
            integration=integration,
            numbers=frozenset(change.number for change in self.changes if change.number),
            business_ids=frozenset(change.business_id for change in self.changes if change.business_id),
        )

    def check(self, instances: list[Instance]) -> None:
        """Raises what a request for these instances is refused with."""

    def apply(self, instances: list[Instance]) -> None:
        self.apply_all([self], instances)

    @classmethod
    def apply_all(cls, works: Sequence[Self], instances: list[Instance]) -> None:
        """Changes that belong to no instance are dropped with a log line: the number is not, or no longer, ours."""
        for work in works:
            work.check(instances)
            work.names = {instance.name for instance in instances}
        changes = [change for work in works for change in work.changes]
        for instance in instances:
            its_own = (change for change in changes if change.belongs_to(instance))
            for kind, group in groupby(its_own, key=lambda change: change.__class__):
                APPLY[kind](instance, list(group))
        for change in changes:
            if not any(change.belongs_to(instance) for instance in instances):
                logger.info("Nobody here has the number %r", change.number or f"of business {change.business_id}")

    def answer(self) -> IngressResponse:
        return IngressResponse(200, SUCCESS)


class EvolutionKey(serializers.Serializer):
    remoteJid = Text(max_length=255)
    id = Text(required=False, allow_null=True, allow_blank=True, max_length=255)
    fromMe = Flag(required=False)
    participant = Text(required=False, allow_null=True, allow_blank=True, max_length=255)


class EvolutionPayload(serializers.Serializer):
    """As the OpenAPI document shows it; the provider reads it, and says what of it is wrong."""

    numberId = Text(max_length=255)
    key = EvolutionKey()
    message = Object(required=False, allow_null=True)
    pushName = Text(required=False, allow_null=True, allow_blank=True)
    messageType = Text(required=False, allow_null=True, allow_blank=True, max_length=64)
    profilePicUrl = Text(required=False, allow_null=True, allow_blank=True, max_length=8192)


class EvolutionWebhook(APIView):
    """Described by it; `EvolutionIngress` is what takes the request."""

    @extend_schema(request=EvolutionPayload, responses={200: OpenApiTypes.ANY})
    def post(self, request: Any) -> None:
        """What an engine of the Evolution channel posts: messages in, and their states.

        An unknown number is answered by an empty body.
        """


class EvolutionIngress(IngressEndpoint):
    """POST /webhook/evolution, from whatever is the WhatsApp behind an instance of the Evolution channel."""

    path = "/webhook/evolution"
    openapi_view = EvolutionWebhook

    def admit(self, call: IngressRequest, cache: AccessCache) -> EvolutionChanges:
        access = None
        if "apikey" in call.headers or not _is_open_to(call):
            access = cache.access(call.headers.get("apikey", ""))
            if access is None:
                raise authentication_error(call.address)
            if not access.may(PUBLISH):
                raise ApiError("This key may not publish", 403)
        return EvolutionChanges(_parsed(Integration.EVOLUTION, call), access, cache)


class EvolutionChanges(Changes):
    def __init__(self, changes: list[Change], access: Access | None, cache: AccessCache) -> None:
        super().__init__(Integration.EVOLUTION, changes)
        self.access = access
        self.cache = cache

    def check(self, instances: list[Instance]) -> None:
        """A key that is not for all learns nothing of numbers: an unknown one is refused as a foreign one is."""
        if self.access is None or self.access.is_for_all or not self.changes:
            return
        if not instances or not all(self.cache.opens(self.access, instance) for instance in instances):
            raise AuthenticationFailed

    def answer(self) -> IngressResponse:
        # clients know an unknown number by the empty answer
        return IngressResponse(200, SUCCESS if self.names or not self.changes else b"")


def _is_open_to(call: IngressRequest) -> bool:
    allowed = settings.EVOLUTION_INGRESS_OPEN
    return allowed if isinstance(allowed, bool) else is_within(call.address, allowed)


class MetaWebhook(APIView):
    """Described by it; `MetaIngress` is what takes the request."""

    authentication_classes = ()

    @extend_schema(
        parameters=[OpenApiParameter(f"hub.{name}", required=True) for name in ("mode", "verify_token", "challenge")],
        responses={(200, "text/plain"): str, 403: Error},
    )
    def get(self, request: Any) -> None:
        """Meta asks whether this is where it should post; it is told its challenge if it knows the verify token."""

    @extend_schema(
        parameters=[OpenApiParameter("X-Hub-Signature-256", location=OpenApiParameter.HEADER, required=True)],
        request=dict[str, Any],
        responses={200: dict[str, Any], 401: Error, 403: Error},
    )
    def post(self, request: Any) -> None:
        """What Meta posts for all numbers of an app, proven by its signature."""


class MetaIngress(IngressEndpoint):
    """POST /webhook/meta: what Meta posts for all numbers of an app, proven by its signature.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    """

    path = "/webhook/meta"
    openapi_view = MetaWebhook

    def admit(self, call: IngressRequest, cache: AccessCache) -> Changes:
        if not settings.WA_BUSINESS_APP_SECRET:
            logger.error("POST /webhook/meta was refused: WA_BUSINESS_APP_SECRET is not set")
            raise ApiError("Signatures cannot be checked: WA_BUSINESS_APP_SECRET is not set on this server", 403)
        signature = call.headers.get("x-hub-signature-256")
        if signature is None:
            raise AuthenticationFailed
        if not is_signed(call.body, signature, settings.WA_BUSINESS_APP_SECRET):
            raise ApiError("The signature is not that of this body under the app secret", 403)
        return Changes(Integration.CLOUD_API, _parsed(Integration.CLOUD_API, call))


def _parsed(integration: str, call: IngressRequest) -> list[Change]:
    try:
        return providers()[integration].parse(call.body, call.headers)
    except InvalidPayload as error:
        raise ApiError(str(error)) from None


class MetaIngressView(IngressView):
    """/webhook/meta: Meta first asks whether this is where it should post, and then posts."""

    door = MetaIngress()

    def get(self, request: HttpRequest) -> HttpResponse:
        given, expected = request.GET.get("hub.verify_token", ""), settings.WA_BUSINESS_TOKEN_WEBHOOK
        if not expected:
            logger.error("GET /webhook/meta was refused: WA_BUSINESS_TOKEN_WEBHOOK is not set")
        if not expected or not is_same(given, expected) or request.GET.get("hub.mode") != "subscribe":
            return error_response(403, ["The verify token is not the one in WA_BUSINESS_TOKEN_WEBHOOK"])
        return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")
