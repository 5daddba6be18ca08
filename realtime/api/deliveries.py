"""REST routes of deliveries: list, show, resend, send a test event, explain an event."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import Error, shown_url
from instances.api.serializers import validate
from instances.api.webhook import check_public_url, webhooks_of
from instances.bounds import RESENT
from instances.errors import ApiError, NotFound
from instances.models import Instance, Subscription
from instances.unreadable import readable
from realtime.api.delivery_serializers import DeliveriesQuery, ResendBody, ResendOneBody, TestBody
from realtime.api.endpoints import get_endpoint, is_id
from realtime.api.explain import explain
from realtime.api.responses import (
    DeliveriesPage,
    DeliveryRow,
    Explanation,
    Resent,
    SentTests,
    WholeDelivery,
    delivery_detail,
    delivery_row,
)
from realtime.delivery.models import Attempt, Delivery, DeliveryQuerySet, load_bodies
from realtime.delivery.resend import TargetOverride, in_range, live_endpoints, send_again, send_test
from realtime.delivery.transports.base import off_reason

logger = logging.getLogger(__name__)


def visible_deliveries(request: InstanceRequest) -> DeliveryQuerySet:
    """Return the instance's deliveries; those to the operator's URLs only for keys of all instances."""
    deliveries = Delivery.objects.filter(instance_id=request.instance.pk)
    return deliveries if request.auth.is_for_all else deliveries.filter(is_operators=False)


def get_delivery(request: InstanceRequest, pk: str) -> Delivery:
    """Return a visible delivery of the instance. Raises NotFound, and ApiError if its row cannot be read."""
    rows = visible_deliveries(request).filter(pk=int(pk)) if is_id(pk) else Delivery.objects.none()
    delivery = next(iter(readable(rows)), None)
    if delivery is None and rows.exists():
        raise ApiError("The row of this delivery cannot be read: the server's log says why", 409)
    if delivery is None:
        raise NotFound(f'The "{request.instance.name}" instance has no delivery {pk[:20]}')
    return delivery


class Deliveries(APIView):
    """GET /webhook/deliveries/<instance>"""

    scope = READ

    @extend_schema(parameters=[DeliveriesQuery], responses={200: DeliveriesPage})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """List deliveries without their bodies, newest first; those that cannot be read are left out."""
        filters = validate(DeliveriesQuery.of(request.query_params))
        limit = filters.pop("limit")
        rows = visible_deliveries(request).filter(**filters).order_by("-pk")
        ids = list(rows.values_list("pk", flat=True)[: limit + 1])
        page = readable(rows.filter(pk__in=ids[:limit]).defer("body"))
        last_attempts = Attempt.last_of(page)
        shown = [delivery_row(delivery, last_attempts.get(delivery.pk), request.auth) for delivery in page]
        return Response({"deliveries": shown, "hasMore": len(ids) > limit})


class OneDelivery(APIView):
    """GET /webhook/deliveries/<instance>/<id>"""

    scope = READ

    @extend_schema(responses={200: WholeDelivery})
    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Show a delivery with its request and every attempt."""
        delivery = get_delivery(request, pk)
        load_bodies([delivery])
        endpoint = Subscription.objects.filter(pk=delivery.endpoint_id).first()
        return Response(delivery_detail(delivery, delivery.tries.all(), endpoint, request.auth))


class ResendOne(APIView):
    """POST /webhook/deliveries/<instance>/<id>/resend"""

    scope = MANAGE

    @extend_schema(request=ResendOneBody, responses={200: DeliveryRow, 201: DeliveryRow, 409: Error, 429: Error})
    def post(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Resend the same bytes under the same id, to its endpoint or, given a url and a secret, to another URL.

        Without a url a pending delivery is sent now instead of later, and answered with 200.
        """
        validated = validate(ResendOneBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            delivery = get_delivery(request, pk)
            override = _override(request, validated)
            if override is None and (reason := off_reason(delivery.transport)):
                raise ApiError(f"{reason}; give a url to send it to", 409)
            if override is None and delivery.endpoint_id not in live_endpoints(instance, request.auth.is_for_all):
                raise ApiError("Its endpoint is disabled or deleted; give a url to send it to", 409)
            resent = send_again(Delivery.objects.filter(pk=delivery.pk), 1, request.auth.actor, override)
            if resent.in_flight:
                raise ApiError("It is being sent at this moment", 409)
            if not resent.copied:
                delivery.refresh_from_db(fields=("state", "due_at"))
                return Response(delivery_row(delivery, Attempt.last_of([delivery]).get(delivery.pk), request.auth))
            new = Delivery.objects.filter(resent_from=delivery.pk, instance_id=instance.pk).latest("pk")
        return Response(delivery_row(new, None, request.auth), status=201)


class Resend(APIView):
    """POST /webhook/deliveries/<instance>/resend"""

    scope = MANAGE

    @extend_schema(request=ResendBody, responses={201: Resent, 429: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Resend deliveries by id or within a time range, by default the dead ones.

        Within a range those are skipped that were resent to the same target before. Pending ones are not copied but
        sent now: `dueAtOnce` counts them.
        """
        validated = validate(ResendBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            wanted = visible_deliveries(request)
            if "ids" in validated:
                wanted = wanted.filter(pk__in=validated["ids"])
            else:
                limits = {
                    name: validated[name]
                    for name in ("since", "until", "state", "endpoint", "url")
                    if name in validated
                }
                wanted = in_range(wanted, instance.pk, **limits)
            override = _override(request, validated)
            if override is None:
                wanted = wanted.filter(endpoint_id__in=live_endpoints(instance, request.auth.is_for_all))
            resent = send_again(wanted, RESENT, request.auth.actor, override)
        has_more = "ids" not in validated and resent.has_more
        counts = {"count": resent.copied, "dueAtOnce": resent.due, "beingSent": resent.in_flight, "hasMore": has_more}
        return Response(counts, status=201)


def _override(request: InstanceRequest, validated: dict[str, Any]) -> TargetOverride | None:
    """Return the URL and secret to send to instead, if the request has them, and log whose request it was."""
    if "url" not in validated:
        return None
    if "secret" not in validated:
        raise ValidationError({"secret": ["is required with a url, to sign what is sent there"]}, code="type")
    check_public_url(validated["url"])
    # without path and query, which often hold a credential of the receiver's
    host = urlsplit(validated["url"]).hostname
    logger.warning("Deliveries of %s are sent to %s, asked for by %s", request.instance.name, host, request.auth.actor)
    return TargetOverride(validated["url"], validated["secret"], request.auth.is_for_all)


class SendTest(APIView):
    """POST /webhook/test/<instance>"""

    scope = MANAGE

    @extend_schema(request=TestBody, responses={201: SentTests, 409: Error, 429: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a sample event to one endpoint or to all that are enabled."""
        validated = validate(TestBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            endpoints = [
                endpoint for endpoint in self._endpoints(instance, validated.get("endpoint")) if endpoint.is_enabled
            ]
            if not endpoints:
                raise ApiError("There is no enabled webhook endpoint", 409)
            deliveries = send_test(instance, validated["event"], endpoints, request.auth.actor)
        sent = [{"id": str(delivery.pk), "endpoint": str(delivery.endpoint_id)} for delivery in deliveries]
        return Response({"event": deliveries[0].event_id, "deliveries": sent}, status=201)

    def _endpoints(self, instance: Instance, endpoint_id: int | None) -> list[Subscription]:
        if endpoint_id is not None:
            return [get_endpoint(instance, str(endpoint_id))]
        return list(webhooks_of(instance))


class Why(APIView):
    """GET /webhook/why/<instance>/<number or id of an event>"""

    scope = READ

    @extend_schema(responses={200: Explanation})
    def get(self, request: InstanceRequest, name: str, reference: str) -> Response:
        """Explain in words why each endpoint and each audience of sockets did, or did not, receive an event."""
        explanation = explain(request.instance, reference, request.auth.is_for_all)
        for endpoint in explanation["endpoints"]:
            if endpoint["destination"]:
                endpoint["destination"] = shown_url(endpoint["destination"], request.auth)
        return Response(explanation)
