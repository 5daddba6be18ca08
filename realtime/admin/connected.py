"""The page of the clients that are connected to this process, and the buttons that cut them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from instances.access.rights import Action, may
from instances.access.staff import sees_all_instances, visible_ids, visible_instances, visible_keys
from instances.admin import ReadOnlyAdmin
from instances.models import Instance
from realtime.fanout.connected import Connected, ConnectedClient, NotServing, Selection, listeners_by_instance
from realtime.log.stream import Stream

#: Clients on a page.
PAGE = 100
#: Characters of the text that is searched for.
MAX_TEXT = 200


def connected_url(**query: Any) -> str:
    """Return the URL of the page."""
    return reverse("admin:realtime_process_connected", query=query)


def shown_listeners(instance: Instance) -> int | None:
    """Return the number of clients of this process that listen to an instance; None where it serves no sockets."""
    return listeners_by_instance([instance.pk])[instance.pk] if Connected.running else None


class ConnectedPages(ReadOnlyAdmin):
    """Base class of the admin of processes, with the pages of those who are connected to this one."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("connected/", view(self.connected_view), name="realtime_process_connected"),
            path("connected/cut/", view(require_POST(self.cut_view)), name="realtime_process_cut"),
            *super().get_urls(),
        ]

    def connected_view(self, request: HttpRequest) -> HttpResponse:
        """List the clients that are connected to this process: of all instances that the user may see, or of one."""
        if not may(request.user, Action.SEE_CONNECTED):
            raise PermissionDenied
        instance = instance_of(request, request.GET)
        selection = _selection(request, request.GET, instance)
        number = _page_number(request.GET.get("p", ""))
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"Connected to {instance.name}" if instance else "Who is connected",
            # with it the head of the page links to the list of processes, which limited users may not open
            "opts": self.opts if self.has_view_permission(request) else None,
            "instance": instance,
            "selection": selection,
            "may_cut": may(request.user, Action.CUT),
            "is_limited": not sees_all_instances(request.user),
        }
        try:
            server = Connected.here()
            page = server.page(selection, (number - 1) * PAGE, PAGE)
            context |= {
                "process": server.name,
                "clients": page.clients,
                "total": page.total,
                "first": (number - 1) * PAGE + 1,
                "last": (number - 1) * PAGE + len(page.clients),
                "earlier": _page_url(request, number - 1) if number > 1 else None,
                "later": _page_url(request, number + 1) if number * PAGE < page.total else None,
            }
        except NotServing as error:
            context["error"] = str(error)
        return TemplateResponse(request, "admin/realtime/connected.html", context)

    def cut_view(self, request: HttpRequest) -> HttpResponse:
        """Disconnect the client with the sid that is posted."""
        if not (may(request.user, Action.SEE_CONNECTED) and may(request.user, Action.CUT)):
            raise PermissionDenied
        try:
            client = Connected.here().cut(request.POST.get("sid", ""), _instance_ids(request))
        except NotServing as error:
            self.message_user(request, str(error), messages.ERROR)
            return _back(request)
        if client is None:
            self.message_user(request, "This client is no longer connected to this process.", messages.WARNING)
        else:
            _log(request, client.instance_id, f"Cut {_words(client)}.")
            self.message_user(request, f"Cut {_words(client)}.", messages.SUCCESS)
        return _back(request)


def instance_of(request: HttpRequest, query: Any) -> Instance | None:
    """Return the instance that is named, None without one. Raises Http404 for one that the user may not see."""
    if not (text := query.get("instance_id")):
        return None
    try:
        pk = UUID(text)
    except ValueError:
        raise Http404 from None
    instance = visible_instances(request.user).filter(pk=pk).first()
    if instance is None:
        raise Http404
    return instance


def _instance_ids(request: HttpRequest) -> frozenset[UUID] | None:
    """Return the instances that the user may see; None for all, with the namespace of all events."""
    return None if sees_all_instances(request.user) else frozenset(visible_ids(request.user))


def selection_for(user: Any, instance_ids: frozenset[UUID] | None, **conditions: Any) -> Selection:
    """Return a selection of the clients of these instances; it names the keys that the user may see alone."""
    sees_all = sees_all_instances(user)
    keys = None if sees_all else frozenset(visible_keys(user).values_list("pk", flat=True))
    return Selection(instance_ids, named_keys=keys, **conditions)


def _selection(request: HttpRequest, query: Any, instance: Instance | None) -> Selection:
    ids = frozenset({instance.pk}) if instance else _instance_ids(request)
    text = query.get("q", "").strip()[:MAX_TEXT]
    return selection_for(request.user, ids, text=text, only_behind=query.get("behind") == "1")


def _page_number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else 1


def _page_url(request: HttpRequest, number: int) -> str:
    return connected_url(**request.GET.dict() | {"p": number})


def _back(request: HttpRequest) -> HttpResponse:
    query = {name: request.POST[name] for name in ("instance_id", "q", "behind") if request.POST.get(name)}
    return HttpResponseRedirect(connected_url(**query))


def _words(client: ConnectedClient) -> str:
    agent = f" ({client.user_agent})" if client.user_agent else ""
    return f"the {client.transport} from {client.address}{agent} in {client.namespace}"


def _log(request: HttpRequest, instance_id: UUID | None, text: str) -> None:
    """Record who has cut what in the history of the instance, or of its stream where it has none."""
    if instance_id is None:
        subject: Any = Stream.objects.global_stream()
    else:
        subject = Instance.objects.filter(pk=instance_id).first() or Stream.objects.filter(pk=instance_id).first()
    if subject:
        LogEntry.objects.log_actions(request.user.pk, [subject], CHANGE, text)  # type: ignore[arg-type]
