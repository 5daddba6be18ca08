"""The REST routes of deliveries: what became of each, and to have it sent again."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from django.db import models, transaction
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.access import MANAGE, READ
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import Error
from instances.api.serializers import validate
from instances.api.webhook import check_public_url, webhooks_of
from instances.errors import ApiError, NotFound
from instances.models import Instance, Subscription
from realtime.api.delivery_serializers import DeliveriesQuery, ResendBody, ResendOneBody, TestBody
from realtime.api.endpoints import endpoint_of, is_id
from realtime.api.explain import explain
from realtime.api.responses import (
    DeliveriesPage,
    DeliveryRow,
    Explanation,
    Resent,
    SentTests,
    WholeDelivery,
    delivery_row,
    whole_delivery,
)
from realtime.delivery.models import Attempt, Delivery
from realtime.delivery.resend import MAX_RESENT, TargetOverride, in_range, live_endpoints, resend, send_test

logger = logging.getLogger(__name__)


def visible(request: InstanceRequest) -> models.QuerySet[Delivery]:
    """An instance's deliveries; those whose destination is the operator's for keys of all instances alone."""
    deliveries = Delivery.objects.filter(instance_id=request.instance.pk)
    return deliveries if request.auth.is_for_all else deliveries.filter(is_operators=False)


def delivery_of(request: InstanceRequest, pk: str) -> Delivery:
    delivery = visible(request).filter(pk=int(pk)).first() if is_id(pk) else None
    if delivery is None:
        raise NotFound(f'The "{request.instance.name}" instance has no delivery {pk[:20]}')
    return delivery


class Deliveries(APIView):
    """GET /webhook/deliveries/<instance>"""

    scope = READ

    @extend_schema(parameters=[DeliveriesQuery], responses={200: DeliveriesPage})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Without bodies, the newest first."""
        asked = validate(DeliveriesQuery.of(request.query_params))
        limit = asked.pop("limit")
        found = list(visible(request).filter(**asked).defer("body").order_by("-pk")[: limit + 1])
        page = found[:limit]
        lasts = Attempt.last_of(page)
        rows = [delivery_row(one, lasts.get(one.pk)) for one in page]
        return Response({"deliveries": rows, "hasMore": len(found) > limit})


class OneDelivery(APIView):
    """GET /webhook/deliveries/<instance>/<id>"""

    scope = READ

    @extend_schema(responses={200: WholeDelivery})
    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """With its request and every attempt."""
        delivery = delivery_of(request, pk)
        endpoint = Subscription.objects.filter(pk=delivery.endpoint_id).first()
        return Response(whole_delivery(delivery, delivery.tries.all(), endpoint))


class ResendOne(APIView):
    """POST /webhook/deliveries/<instance>/<id>/resend"""

    scope = MANAGE

    @extend_schema(request=ResendOneBody, responses={201: DeliveryRow, 409: Error})
    def post(self, request: InstanceRequest, name: str, pk: str) -> Response:
        """Under the same id and with the same bytes, to its endpoint or, with a url and a secret, elsewhere."""
        told = validate(ResendOneBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            delivery = delivery_of(request, pk)
            override = _override(request, told)
            if override is None and delivery.endpoint_id not in live_endpoints(instance, request.auth.is_for_all):
                raise ApiError("Its endpoint is off or gone; a url can be given to send it to", 409)
            resend(Delivery.objects.filter(pk=delivery.pk), 1, request.auth.actor, override)
            new = Delivery.objects.filter(resent_from=delivery.pk, instance_id=instance.pk).latest("pk")
        return Response(delivery_row(new, None), status=201)


class Resend(APIView):
    """POST /webhook/deliveries/<instance>/resend"""

    scope = MANAGE

    @extend_schema(request=ResendBody, responses={201: Resent})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Those that are named, or a range of time; without a state, what died. What was resent before is left out."""
        told = validate(ResendBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            wanted = visible(request)
            if "ids" in told:
                wanted = wanted.filter(pk__in=told["ids"])
            else:
                limits = {name: told[name] for name in ("since", "until", "state", "endpoint") if name in told}
                wanted = in_range(wanted, instance.pk, **limits)
            override = _override(request, told)
            if override is None:
                wanted = wanted.filter(endpoint_id__in=live_endpoints(instance, request.auth.is_for_all))
            count = resend(wanted, MAX_RESENT, request.auth.actor, override)
        return Response({"count": count, "hasMore": "ids" not in told and count == MAX_RESENT}, status=201)


def _override(request: InstanceRequest, told: dict[str, Any]) -> TargetOverride | None:
    """Where the caller wants it sent instead, if anywhere; it is noted who did."""
    if "url" not in told:
        return None
    if "secret" not in told:
        raise ValidationError({"secret": ["is to be given with a url: it signs what is sent there"]}, code="type")
    check_public_url(told["url"])
    # neither path nor query: they are often the receiver's password
    place = urlsplit(told["url"]).hostname
    logger.warning("Deliveries of %s are sent to %s, asked for by %s", request.instance.name, place, request.auth.actor)
    return TargetOverride(told["url"], told["secret"], request.auth.is_for_all)


class SendTest(APIView):
    """POST /webhook/test/<instance>"""

    scope = MANAGE

    @extend_schema(request=TestBody, responses={201: SentTests, 409: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """A sample of an event to one endpoint, or to all that are on."""
        told = validate(TestBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            endpoints = [one for one in self._asked(instance, told.get("endpoint")) if one.is_enabled]
            if not endpoints:
                raise ApiError("There is no webhook endpoint that is on", 409)
            deliveries = send_test(instance, told["event"], endpoints, request.auth.actor)
        sent = [{"id": str(one.pk), "endpoint": str(one.endpoint_id)} for one in deliveries]
        return Response({"event": deliveries[0].event_id, "deliveries": sent}, status=201)

    def _asked(self, instance: Instance, endpoint_id: int | None) -> list[Subscription]:
        if endpoint_id is not None:
            return [endpoint_of(instance, str(endpoint_id))]
        return list(webhooks_of(instance))


class Why(APIView):
    """GET /webhook/why/<instance>/<number or id of an event>"""

    scope = READ

    @extend_schema(responses={200: Explanation})
    def get(self, request: InstanceRequest, name: str, reference: str) -> Response:
        """What became of an event at each endpoint and each audience of sockets, in words."""
        return Response(explain(request.instance, reference, request.auth.is_for_all))
