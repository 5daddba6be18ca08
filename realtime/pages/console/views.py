"""The pages of the live console: that of an instance, that of all instances, and the choice of one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from instances.access.staff import visible_instances
from instances.bounds import CONSOLE_EVENTS, CONSOLE_NAMESPACES
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.pages.console.access import ConsoleRights, console_view, visible_instance

#: Instances that the page of choice lists for one search.
LISTED = 100


@require_GET
@console_view
def index(request: HttpRequest, rights: ConsoleRights) -> HttpResponse:
    """Show the events of all instances that the user may see; if these are too many to join each, have one chosen."""
    query = request.GET.get("q", "").strip().replace("\x00", "")
    if "q" in request.GET or request.GET.get("choose"):
        return _choose(request, query)
    if rights.sees_all and (settings.WEBSOCKET_GLOBAL_EVENTS or not rights.may_listen):
        return _console(request, rights, None, [])
    found = list(visible_instances(request.user).order_by("name")[: CONSOLE_NAMESPACES + 1])
    if not found or len(found) > CONSOLE_NAMESPACES:
        return _choose(request, query)
    return _console(request, rights, None, found)


@require_GET
@console_view
def instance(request: HttpRequest, rights: ConsoleRights, name: str) -> HttpResponse:
    """Show the events of one instance."""
    found = visible_instance(request.user, name)
    return _console(request, rights, found, [found])


def _choose(request: HttpRequest, query: str) -> HttpResponse:
    visible = visible_instances(request.user).order_by("name")
    exact = visible.filter(name=query).first() if query else None
    if exact:
        return HttpResponseRedirect(reverse("console:instance", args=[exact.name]))
    found = list(visible.filter(name__icontains=query)[: LISTED + 1])
    context = {
        "section": "console",
        "query": query,
        "instances": found[:LISTED],
        "has_more": len(found) > LISTED,
        "listed": LISTED,
        "is_silent": not settings.WEBSOCKET_GLOBAL_EVENTS,
    }
    return render(request, "pages/console/choose.html", context)


def _console(
    request: HttpRequest, rights: ConsoleRights, instance: Instance | None, joined: list[Instance]
) -> HttpResponse:
    """Render the console. `joined`: the instances whose namespaces it joins; none for that of all."""
    has_socket = rights.may_listen and settings.WEBSOCKET_ENABLED
    namespaces = [_namespace(each.name) for each in joined] or [
        {"namespace": "/", "instance": None, "data": f"{reverse('console:index')}all/instances/"}
    ]
    config: dict[str, Any] = {
        "base": reverse("console:index"),
        "logIn": reverse("admin:login"),
        "namespaces": namespaces,
        "hasSocket": has_socket,
        "hasContent": rights.may_listen,
        "hasStates": rights.sees_deliveries,
        "hasAudience": rights.sees_endpoints,
        "maySend": rights.may_send and has_socket,
        "instance": instance.name if instance else None,
        "integration": instance.integration if instance else None,
        "page": CONSOLE_EVENTS,
        "server": settings.SERVER_URL,
    }
    context = {
        "section": "console",
        "instance": instance,
        "joined": joined,
        "rights": rights,
        "config": json.dumps(config),
        "has_socket": has_socket,
        "is_off": not settings.WEBSOCKET_ENABLED,
        "types": [(each.value, each.label) for each in EventType if each.is_subscribable],
        "notices": _notices(instance) if instance else [],
    }
    return render(request, "pages/console/console.html", context)


def _namespace(name: str) -> dict[str, Any]:
    data = f"{reverse('console:index')}{quote(name, safe='')}/"
    return {"namespace": f"/{name}", "instance": name, "data": data}


def _notices(instance: Instance) -> list[str]:
    """Return sentences on events of an instance that its sockets do not receive."""
    found = Subscription.objects.filter(instance=instance, transport=Subscription.WEBSOCKET).first()
    if found is None:
        return []
    if not found.is_enabled:
        return [
            "The websocket settings of this instance are off: new events are recorded, and no socket receives them."
        ]
    left_out = [each.value for each in EventType if each.is_subscribable and not found.wants(each)]
    if not left_out:
        return []
    shown = ", ".join(left_out[:6]) + (f" and {len(left_out) - 6} other types" if len(left_out) > 6 else "")
    return [f"The websocket settings of this instance leave out {shown}: sockets receive none of these."]
