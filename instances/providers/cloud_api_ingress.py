"""The endpoint of Meta's payloads: https://developers.facebook.com/docs/graph-api/webhooks/getting-started."""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.views import APIView

from instances.access.cache import AccessCache
from instances.access.gate import Caller
from instances.access.rate_limit import failed_authentications
from instances.crypto import is_same
from instances.errors import ApiError, error_response
from instances.ingress.endpoint import IngressRequest
from instances.ingress.webhooks import ProviderIngress, ProviderWork

logger = logging.getLogger(__name__)


def is_signed(body: bytes, signature: str, app_secret: str) -> bool:
    """Return whether X-Hub-Signature-256 is Meta's signature of these bytes: HMAC-SHA-256 keyed with the app secret.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads
    """
    expected = "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


class MetaWebhook(APIView):
    """Describes `MetaIngress` in the OpenAPI document."""

    authentication_classes = ()
    errors = {
        "GET": {403: "The verify token is wrong, or not set on this server."},
        "POST": {401: "The signature is missing.", 403: "The signature is wrong, or the app secret not set."},
    }

    @extend_schema(
        parameters=[OpenApiParameter(f"hub.{name}", required=True) for name in ("mode", "verify_token", "challenge")],
        responses={(200, "text/plain"): str},
    )
    def get(self, request: Any) -> None:
        """Verify the webhook: return the challenge to a client that knows the verify token."""

    @extend_schema(
        parameters=[OpenApiParameter("X-Hub-Signature-256", location=OpenApiParameter.HEADER, required=True)],
        request=dict[str, Any],
        responses={200: dict[str, Any]},
    )
    def post(self, request: Any) -> None:
        """Receive the payloads of all numbers of an app, authenticated by Meta's signature."""


class MetaIngress(ProviderIngress):
    """/webhook/meta: POST receives the payloads of all numbers of an app, GET verifies the webhook for Meta."""

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
        return ProviderWork(self.provider.integration, self.parse(request), None, cache)

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
