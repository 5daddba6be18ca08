"""JSON for the page of an inbox: what has come, and one request as text. No body is ever served as a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from instances.crypto import UnreadableSecret
from instances.numbers import whole_number
from instances.timestamps import iso
from realtime.inbox.models import Inbox, InboxRequest, by_name
from realtime.pages.inbox.owner import owned

#: Characters of a title: an event's type, or the type of the content.
MAX_TITLE = 80


@require_GET
@owned
def request_list(request: HttpRequest, inbox: Inbox) -> HttpResponse:
    """List the requests after the one that `after` names, without their bodies, oldest first."""
    after = whole_number(request.GET.get("after", "")) or 0
    kept = inbox.requests.defer("body")
    oldest = kept.values_list("pk", flat=True).first()
    return JsonResponse({"oldest": oldest, "requests": [_row(each) for each in kept.filter(pk__gt=after)]})


@require_GET
@owned
def request_detail(request: HttpRequest, inbox: Inbox, request_pk: int) -> HttpResponse:
    """Show one request: its headers, and its body as text."""
    found = inbox.requests.filter(pk=request_pk).first() if request_pk < 2**63 else None
    if found is None:
        raise Http404
    body = bytes(found.body)
    text = body.decode(errors="replace")
    notes = []
    try:
        headers = list(found.header_list)
    except UnreadableSecret as error:
        headers = []
        notes.append(f"The headers cannot be read. {error}.")
    if found.has_more_headers:
        notes.append("More headers came, which were too long to be kept.")
    # "�" that was sent as such is UTF-8
    is_utf8 = "\ufffd" not in text or text.encode() == body
    detail = {"headers": headers, "note": " ".join(notes), "body": text, "isUtf8": is_utf8}
    return JsonResponse(_row(found) | detail)


def _row(request: InboxRequest) -> dict[str, Any]:
    try:
        headers = by_name(request.header_list)
    except UnreadableSecret:
        headers = {}
    return {
        "id": request.pk,
        "at": iso(request.received_at),
        "title": _title(headers),
        "address": request.address or "this server",
        "path": request.path,
        "size": request.size,
        "verdict": request.verdict,
        "reason": request.reason,
        "endpoint": _endpoint(request),
    }


def _title(headers: Mapping[str, str]) -> str:
    """Return a short name: the type of the event, or of the content."""
    content_type = headers.get("content-type", "").partition(";")[0].strip()
    return (headers.get("x-event-type") or content_type or "without a type")[:MAX_TITLE]


def _endpoint(request: InboxRequest) -> dict[str, Any] | None:
    """Return the number and the admin's page of the endpoint whose delivery it is."""
    number = request.endpoint_id
    if number is None or not 0 < number < 2**62:  # those of the environment, and of one delivery, have no page
        return None
    return {"id": number, "url": reverse("admin:instances_subscription_change", args=(number,))}
