"""Access to inboxes: each is its owner's alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from realtime.inbox.models import Inbox
from realtime.pages.sections import opens_inbox
from realtime.pages.staff import staff_page

View = Callable[..., HttpResponse]


def content_page(view: View) -> View:
    """Have a view answer staff users alone who may read bodies: an inbox shows those of events."""

    @staff_page
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not opens_inbox(request.user):
            return render(request, "pages/inbox/refused.html", {"section": "inbox"}, status=403)
        return view(request, *args, **kwargs)

    return checked


def owned(view: View) -> View:
    """Have a view of one inbox get it in place of its number, and answer 404 to all but its owner."""

    @content_page
    @wraps(view)
    def checked(request: HttpRequest, pk: int, *args: Any, **kwargs: Any) -> HttpResponse:
        inbox = Inbox.objects.live().filter(owner_id=request.user.pk, pk=pk).first() if pk < 2**63 else None
        if inbox is None:
            return render(request, "pages/inbox/gone.html", {"section": "inbox"}, status=404)
        return view(request, inbox, *args, **kwargs)

    return checked
