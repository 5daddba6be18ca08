"""The page of an event: its envelope, its audience, and what became of each delivery."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from instances.access.staff import within_limit
from instances.bounds import CONSOLE_DELIVERIES, RESENT
from instances.errors import ApiError, NotFound
from instances.events import EventType
from instances.models import Instance, Subscription
from instances.outbound.webhook_urls import masked_url
from realtime.api.explain import explain
from realtime.api.responses import EndpointExplanation, SubjectRow, masked_body, masked_headers, readable_payload
from realtime.delivery.models import Attempt, Delivery, State, load_bodies
from realtime.delivery.payload import Payload
from realtime.delivery.resend import send_again, sendable
from realtime.envelope import event_id
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.pages.console.access import ConsoleRights, console_view, visible_instance
from realtime.pages.console.curl import MAX_INLINE, curl_command

#: Bytes of a body that the page shows; all of it can be downloaded.
MAX_SHOWN = 16 * 1024
#: Attempts of one delivery that are shown, the last ones.
MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class ShownDelivery:
    """A delivery on the page."""

    delivery: Delivery
    #: The URL that it goes to, masked.
    destination: str
    attempts: list[Attempt]
    headers: dict[str, str]
    #: Bytes of the body, None for one that cannot be read.
    size: int | None
    #: The beginning of the body; empty for users who may not read it.
    text: str
    #: The command that repeats the request; empty where there is none.
    curl: str

    @property
    def tone(self) -> str:
        """The class of its state's colour."""
        return {State.DELIVERED.value: "good", State.DEAD.value: "bad", State.DROPPED.value: "warn"}.get(
            self.delivery.state, "soft"
        )


@require_GET
@console_view
def event_page(request: HttpRequest, rights: ConsoleRights, name: str, reference: str) -> HttpResponse:
    """Show an event by its id, `<epoch>.<seq>`; a test event by its own."""
    instance = visible_instance(request.user, name)
    try:
        explanation = explain(instance, reference, is_for_all=rights.sees_all)
    except NotFound as error:
        context = {"section": "console", "instance": instance, "problem": str(error.detail)}
        return render(request, "pages/console/problem.html", context, status=404)
    subject = explanation["event"]
    event = Event.objects.filter(instance_id=instance.pk, seq=subject["seq"]).defer("envelope").first()
    shown, has_more = _deliveries(request, instance, subject, rights) if rights.sees_deliveries else ([], False)
    may_see = request.user.has_perm
    context = {
        "section": "console",
        "instance": instance,
        "rights": rights,
        "event": event,
        "subject": subject,
        "description": EventType(subject["event"]).label,
        "endpoints": _with_links(explanation["endpoints"], request) if rights.sees_endpoints else [],
        "sockets": explanation["sockets"],
        "shown_bytes": MAX_SHOWN,
        "deliveries": shown,
        "has_more": has_more,
        "is_pending": any(each.delivery.state == State.PENDING for each in shown),
        **_neighbours(instance, subject["seq"]),
        "admin_event": reverse("admin:realtime_event_change", args=[event.pk])
        if event and may_see("realtime.view_event")
        else None,
    }
    return render(request, "pages/console/event.html", context)


@require_GET
@console_view
def audience(request: HttpRequest, rights: ConsoleRights, name: str, reference: str) -> HttpResponse:
    """Return a sentence for each endpoint and for the sockets: who received an event, and why others did not."""
    if not rights.sees_endpoints:
        raise PermissionDenied
    try:
        found = explain(visible_instance(request.user, name), reference, is_for_all=rights.sees_all)
    except NotFound as error:
        return JsonResponse({"audience": [{"state": "", "text": str(error.detail)}]})
    sentences = [{"state": each["state"], "text": each["text"]} for each in found["endpoints"]]
    heard = "delivered" if found["sockets"]["isHeard"] else "not owed"
    return JsonResponse({"audience": [*sentences, {"state": heard, "text": found["sockets"]["text"]}]})


def _with_links(explained: list[EndpointExplanation], request: HttpRequest) -> list[tuple[EndpointExplanation, str]]:
    """Return explanations with the URLs of the endpoints in the admin; empty for those that the user may not see."""
    rows = Subscription.objects.filter(pk__in=[int(each["endpoint"]) for each in explained])
    shown = {str(pk) for pk in within_limit(request.user, rows, "instance_id").values_list("pk", flat=True)}
    page = "admin:instances_subscription_change"
    return [(each, reverse(page, args=[each["endpoint"]]) if each["endpoint"] in shown else "") for each in explained]


def _neighbours(instance: Instance, seq: int) -> dict[str, str]:
    """Return the ids of the events before and after one, where they are kept, as `previous` and `next`."""
    stream = Stream.objects.state(instance.pk)
    found = {"previous": seq - 1, "next": seq + 1}
    kept = range(stream.first_seq, stream.last_seq + 1)
    return {name: event_id(stream.epoch, each) for name, each in found.items() if seq and each in kept}


def _deliveries(
    request: HttpRequest, instance: Instance, subject: SubjectRow, rights: ConsoleRights
) -> tuple[list[ShownDelivery], bool]:
    """Return the newest deliveries of an event, CONSOLE_DELIVERIES at most, and whether there are others."""
    visible = Delivery.objects.visible_to(request.user)
    rows = visible.filter(instance_id=instance.pk, seq=subject["seq"], event_id=subject["id"]).order_by("-pk")
    if not rights.sees_content:
        rows = rows.defer("body", "own_part")
    found = list(rows[: CONSOLE_DELIVERIES + 1])
    has_more = len(found) > CONSOLE_DELIVERIES
    found = found[:CONSOLE_DELIVERIES]
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    tries = Attempt.objects.filter(delivery__in=[delivery.pk for delivery in found]).order_by("-pk")
    for attempt in tries[: CONSOLE_DELIVERIES * MAX_ATTEMPTS]:
        if len(attempts[attempt.delivery_id]) < MAX_ATTEMPTS:
            attempts[attempt.delivery_id].append(attempt)
    endpoints = Subscription.objects.in_bulk([delivery.endpoint_id for delivery in found])
    if rights.sees_content:
        load_bodies(found)
    shown = [
        _shown(delivery, attempts[delivery.pk][::-1], endpoints.get(delivery.endpoint_id), rights) for delivery in found
    ]
    return shown, has_more


def _shown(
    delivery: Delivery, attempts: list[Attempt], endpoint: Subscription | None, rights: ConsoleRights
) -> ShownDelivery:
    payload = readable_payload(delivery) if rights.sees_content else None
    is_webhook = delivery.transport == Subscription.WEBHOOK
    curl, text = "", ""
    if payload is not None:
        # of a large body the beginning alone, in which a URL that begins in what is shown is complete
        text = masked_body(payload.begin(MAX_INLINE))[:MAX_SHOWN].decode(errors="replace")
        if is_webhook:
            curl = curl_command(delivery, endpoint, payload, _is_signed(delivery, endpoint))
    return ShownDelivery(
        delivery=delivery,
        destination=masked_url(delivery.destination),
        attempts=attempts,
        headers=masked_headers(delivery, endpoint, payload) if is_webhook else {},
        size=_size(delivery, payload, rights),
        text=text,
        curl=curl,
    )


def _size(delivery: Delivery, payload: Payload | None, rights: ConsoleRights) -> int | None:
    if not rights.sees_content:  # nothing was read; earlier versions stored no size
        return delivery.size or None
    return len(payload) if payload is not None else None


def _is_signed(delivery: Delivery, endpoint: Subscription | None) -> bool:
    if delivery.endpoint_id == 0:
        return bool(settings.WEBHOOK_GLOBAL_SECRET)
    return bool(endpoint and endpoint.shown_secret("signing", []))


@require_GET
@console_view
def envelope(request: HttpRequest, rights: ConsoleRights, name: str, reference: str) -> HttpResponse:
    """Return the envelope of an event, byte for byte as its subscribers received it."""
    if not rights.may_listen:
        raise PermissionDenied
    instance = visible_instance(request.user, name)
    epoch, _, seq = reference.partition(".")
    if epoch != Stream.objects.state(instance.pk).epoch:  # a test event, or one of a former instance of that name
        raise Http404
    event = Event.objects.filter(instance_id=instance.pk, seq=int(seq)).first()
    if event is None:
        raise Http404
    return HttpResponse(bytes(event.envelope), content_type="application/json")


@require_GET
@console_view
def body(request: HttpRequest, rights: ConsoleRights, name: str, reference: str, pk: int) -> HttpResponse:
    """Return the body of a delivery as a file, byte for byte but for the URL in it."""
    delivery = _delivery(request, rights, name, reference, pk)
    if not rights.sees_content:
        raise PermissionDenied
    load_bodies([delivery])
    payload = readable_payload(delivery)
    if payload is None:
        raise Http404
    disposition = {"Content-Disposition": 'attachment; filename="body.json"'}
    return HttpResponse(masked_body(bytes(payload)), content_type="application/json", headers=disposition)


@require_POST
@console_view
def again(request: HttpRequest, rights: ConsoleRights, name: str, reference: str, pk: int) -> HttpResponse:
    """Send a delivery again to its endpoint, with the same id and bytes; a pending one at once."""
    if not rights.may_resend:
        raise PermissionDenied
    delivery = _delivery(request, rights, name, reference, pk)
    if not sendable([delivery]):
        messages.error(request, "Not sent, because the endpoint is off or deleted.")
    else:
        try:
            with transaction.atomic():
                rows = Delivery.objects.filter(pk=delivery.pk)
                resent = send_again(rows, RESENT, f"{request.user.get_username()} in the console")
                LogEntry.objects.log_actions(request.user.pk, [delivery], CHANGE, "Sent again.")  # type: ignore[arg-type]
            messages.success(request, f"{resent}.")
        except ApiError as error:  # too many are pending
            messages.error(request, f"Nothing was sent again. {error.detail}.")
    return HttpResponseRedirect(reverse("console:event", args=[name, reference]))


def _delivery(request: HttpRequest, rights: ConsoleRights, name: str, reference: str, pk: int) -> Delivery:
    """Return a delivery of an event that the user may see. Raises Http404."""
    instance = visible_instance(request.user, name)
    visible = Delivery.objects.visible_to(request.user)
    found: Any = visible.filter(pk=pk, instance_id=instance.pk, event_id=reference).first()
    if found is None or not rights.sees_deliveries:
        raise Http404
    return found
