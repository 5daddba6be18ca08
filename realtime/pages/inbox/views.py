"""The pages of inboxes, and their forms."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_POST

from instances import bounds
from instances.access.rights import Action, may
from instances.access.staff import visible_instances
from instances.crypto import UnreadableSecret
from instances.errors import ApiError
from instances.models import Subscription
from instances.outbound.inbox_urls import PATH, url_of
from instances.outbound.webhook_secrets import check_secret
from realtime.inbox.models import Inbox
from realtime.pages.inbox.endpoint import send_events
from realtime.pages.inbox.owner import content_page, owned

#: Names of instances that the field for one suggests.
SUGGESTED = 100


@require_GET
@content_page
def index(request: HttpRequest) -> HttpResponse:
    """List the user's inboxes."""
    inboxes = Inbox.objects.live().filter(owner_id=request.user.pk).annotate(count=Count("requests")).order_by("-pk")
    rows = [(inbox, _shown_url(request, inbox)) for inbox in inboxes]
    context = {
        "section": "inbox",
        "inboxes": rows,
        "is_full": len(rows) >= bounds.INBOXES,
        "bounds": bounds,
        "body_kib": bounds.INBOX_BYTES // 1024,
    }
    return render(request, "pages/inbox/index.html", context)


@require_POST
@content_page
def create(request: HttpRequest) -> HttpResponse:
    """Make an inbox, and show it."""
    try:
        inbox = Inbox.create_for(request.user)
    except ApiError as error:
        messages.error(request, f"{error.detail}.")
        return HttpResponseRedirect(reverse("inbox"))
    return _page_of(inbox)


@require_GET
@owned
def detail(request: HttpRequest, inbox: Inbox) -> HttpResponse:
    """Show an inbox; its requests are read by the page's script."""
    may_add = may(request.user, Action.ADD_WEBHOOK)
    names = visible_instances(request.user).order_by("name").values_list("name", flat=True)
    context = {
        "section": "inbox",
        "inbox": inbox,
        "url": _shown_url(request, inbox),
        "bounds": bounds,
        "has_requests": inbox.requests.exists(),
        "may_add_webhook": may_add,
        "may_send_test": may(request.user, Action.SEND_TEST),
        "instances": list(names[:SUGGESTED]) if may_add else [],
    }
    return render(request, "pages/inbox/detail.html", context)


@require_POST
@owned
def delete(request: HttpRequest, inbox: Inbox) -> HttpResponse:
    """Delete an inbox with its requests."""
    inbox.delete_with_requests()
    messages.success(request, "The inbox is deleted. What is posted to its URL is answered 404.")
    return HttpResponseRedirect(reverse("inbox"))


@require_POST
@owned
def secret(request: HttpRequest, inbox: Inbox) -> HttpResponse:
    """Set the secret that checks what others have signed, or remove it."""
    text = request.POST.get("secret", "").strip()
    try:
        if text:
            check_secret(text)
        inbox.use_secret(text)
    except ValueError as error:  # UnreadableSecret, too
        messages.error(request, f"{error}.")
    else:
        messages.success(request, "Signatures are checked by this secret." if text else "The secret is removed.")
    return _page_of(inbox)


@require_POST
@owned
def send_here(request: HttpRequest, inbox: Inbox) -> HttpResponse:
    """Send the events of an instance to an inbox."""
    name = request.POST.get("instance", "").strip()
    instance = visible_instances(request.user).filter(name=name).first() if "\x00" not in name else None
    if instance is None:
        messages.error(request, f"There is no instance {name[:100]!r} that you may see.")
        return _page_of(inbox)
    try:
        endpoint = send_events(instance, url_of(inbox.url_id.reveal()), request.user)
    except (ApiError, UnreadableSecret) as error:
        messages.error(request, f"{getattr(error, 'detail', error)}.")
        return _page_of(inbox)
    link = reverse("admin:instances_subscription_change", args=(endpoint.pk,))
    level, text = _outcome(endpoint)
    messages.add_message(request, level, format_html(text, instance.name, link, endpoint.pk))
    return _page_of(inbox)


def _outcome(endpoint: Subscription) -> tuple[int, str]:
    """Return the level of a message that says what an endpoint sends here, and its text: it may have been there before.

    The text has places for the name of the instance, and for the URL and the id of the endpoint.
    """
    link = '<a href="{}">endpoint {}</a>'
    if not endpoint.is_enabled:
        return messages.WARNING, f"Nothing of {{}} is sent here: {link} is off. Switch it on first."
    if endpoint.events:
        return messages.SUCCESS, f"Of the events of {{}} those that {link} is set to are sent here, and no others."
    return messages.SUCCESS, f"The events of {{}} are sent here by {link}. Delete that when you no longer need it."


def _page_of(inbox: Inbox) -> HttpResponse:
    return HttpResponseRedirect(reverse("inbox-detail", args=(inbox.pk,)))


def _shown_url(request: HttpRequest, inbox: Inbox) -> str:
    """Return the URL to post to, as the user reaches this server; a sentence if its id cannot be read."""
    try:
        path = f"{PATH}{inbox.url_id.reveal()}"
    except UnreadableSecret as error:
        return f"The URL cannot be read. {error}"
    return f"{settings.SERVER_URL}{path}" if settings.SERVER_URL else request.build_absolute_uri(path)
