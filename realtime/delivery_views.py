"""The REST routes of deliveries: what became of each, and to have it sent again."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from django.db import models, transaction
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.authentication import MANAGE, READ, Access
from instances.errors import NotFound, Refused
from instances.models import Instance, Subscription
from instances.views import InstanceRequest, held
from instances.webhook_settings import guard, webhooks_of
from realtime.deliveries import Attempt, Delivery, FormerEndpoint, State
from realtime.delivery_serializers import (
    DeliveriesQuery,
    DeliveryRow,
    ResendBody,
    ResendOneBody,
    TestBody,
    WholeDelivery,
)
from realtime.resending import MAX_RESENT, live_endpoints, not_resent_yet, one_off, resend, send_test
from realtime.webhook_views import endpoint_of, is_id
from realtime.why import explain

logger = logging.getLogger(__name__)


def visible(request: InstanceRequest) -> models.QuerySet[Delivery]:
    """An instance's deliveries; those to endpoints of all instances, whose URLs are the operator's, for his keys."""
    deliveries = Delivery.objects.filter(instance_id=request.instance.pk)
    if request.auth.is_for_all:
        return deliveries
    of_all = Subscription.objects.endpoints().filter(instance=None).values_list("pk", flat=True)
    return deliveries.filter(endpoint_id__gt=0).exclude(endpoint_id__in=list(of_all))


def delivery_of(request: InstanceRequest, pk: str) -> Delivery:
    delivery = visible(request).filter(pk=int(pk)).first() if is_id(pk) else None
    if delivery is None:
        raise NotFound(f'The "{request.instance.name}" instance has no delivery {pk[:20]}')
    return delivery


class Deliveries(APIView):
    """GET /webhook/deliveries/<instance>: without bodies, the newest first."""

    scope = READ

    def get(self, request: InstanceRequest, name: str) -> Response:
        query = DeliveriesQuery.of(request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        limit = asked.pop("limit")
        found = list(visible(request).filter(**asked).defer("body").order_by("-pk")[: limit + 1])
        page = found[:limit]
        context = {"last_attempts": _last_attempts(page)}
        return Response(
            {"deliveries": DeliveryRow(page, many=True, context=context).data, "hasMore": len(found) > limit}
        )


def _last_attempts(deliveries: list[Delivery]) -> dict[int, Attempt]:
    rows = Attempt.objects.filter(delivery__in=[one.pk for one in deliveries]).defer("excerpt").order_by("pk")
    return {attempt.delivery_id: attempt for attempt in rows}


class OneDelivery(APIView):
    """GET /webhook/deliveries/<instance>/<id>: with its request and every attempt."""

    scope = READ

    def get(self, request: InstanceRequest, name: str, pk: str) -> Response:
        delivery = delivery_of(request, pk)
        endpoint = Subscription.objects.filter(pk=delivery.endpoint_id).first()
        tries = list(delivery.tries.all())
        context = {"endpoint": endpoint, "tries": tries, "last_attempts": {delivery.pk: tries[-1]} if tries else {}}
        return Response(WholeDelivery(delivery, context=context).data)


class ResendOne(APIView):
    """POST /webhook/deliveries/<instance>/<id>/resend"""

    scope = MANAGE

    def post(self, request: InstanceRequest, name: str, pk: str) -> Response:
        body = ResendOneBody(data=request.data)
        body.is_valid(raise_exception=True)
        with transaction.atomic():
            instance = held(request)
            delivery = delivery_of(request, pk)
            to = _elsewhere(request, body.validated_data)
            if to is None and delivery.endpoint_id not in live_endpoints(instance, request.auth.is_for_all):
                raise Refused("Its endpoint is off or gone; a url can be given to send it to")
            resend(Delivery.objects.filter(pk=delivery.pk), 1, to)
            new = Delivery.objects.filter(resent_from=delivery.pk, instance_id=instance.pk).latest("pk")
        return Response(DeliveryRow(new, context={"last_attempts": {}}).data, status=201)


class Resend(APIView):
    """POST /webhook/deliveries/<instance>/resend: those that are named, or a range; without a state, what died."""

    scope = MANAGE

    def post(self, request: InstanceRequest, name: str) -> Response:
        body = ResendBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        with transaction.atomic():
            instance = held(request)
            wanted = visible(request).filter(**_asked(told))
            if "ids" not in told:
                wanted = wanted.filter(not_resent_yet(instance.pk))
            to = _elsewhere(request, told)
            if to is None:
                wanted = wanted.filter(endpoint_id__in=live_endpoints(instance, request.auth.is_for_all))
            count = resend(wanted, MAX_RESENT, to)
        return Response({"count": count, "hasMore": "ids" not in told and count == MAX_RESENT}, status=201)


def _asked(told: dict[str, Any]) -> dict[str, Any]:
    if "ids" in told:
        return {"pk__in": told["ids"]}
    names = {"since": "created_at__gte", "until": "created_at__lt", "endpoint": "endpoint_id"}
    asked = {names[name]: told[name] for name in names if name in told}
    return asked | {"state__in": told.get("state", [State.DEAD.value])}


def _elsewhere(request: InstanceRequest, told: dict[str, Any]) -> FormerEndpoint | None:
    """Where the caller wants it sent instead, if anywhere; it is noted who did."""
    if "url" not in told:
        return None
    if "secret" not in told:
        raise ValidationError({"secret": ["is to be given with a url: it signs what is sent there"]}, code="type")
    guard(told["url"])
    # neither path nor query: they are often the receiver's password
    place = urlsplit(told["url"]).netloc
    logger.warning("%s has deliveries of %s sent to %s", _caller(request.auth), request.instance.name, place)
    return one_off(told["url"], told["secret"])


def _caller(access: Access) -> str:
    if access.is_global:
        return "The global key"
    return f"The key {access.key.pk}" if access.key else "The instance's own token"


class SendTest(APIView):
    """POST /webhook/test/<instance>: a sample of an event to one endpoint, or to all that are on."""

    scope = MANAGE

    def post(self, request: InstanceRequest, name: str) -> Response:
        body = TestBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        with transaction.atomic():
            instance = held(request)
            endpoints = [one for one in self._asked(instance, told.get("endpoint")) if one.is_enabled]
            if not endpoints:
                raise Refused("There is no webhook endpoint that is on")
            deliveries = send_test(instance, told["event"], endpoints)
        sent = [{"id": str(one.pk), "endpoint": str(one.endpoint_id)} for one in deliveries]
        return Response({"event": deliveries[0].event_id, "deliveries": sent}, status=201)

    def _asked(self, instance: Instance, endpoint_id: int | None) -> list[Subscription]:
        if endpoint_id is not None:
            return [endpoint_of(instance, str(endpoint_id))]
        return list(webhooks_of(instance))


class Why(APIView):
    """GET /webhook/why/<instance>/<number or id of an event>"""

    scope = READ

    def get(self, request: InstanceRequest, name: str, reference: str) -> Response:
        return Response(explain(request.instance, reference, request.auth.is_for_all))
