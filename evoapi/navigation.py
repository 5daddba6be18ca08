"""The links of the admin's sidebar, by what an operator is after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from instances.access.rights import Action, may
from realtime.pages.sections import opens_console, opens_inbox

#: Lists of models under their titles: the model, its icon of Material Symbols.
_LISTS = {
    "Numbers": [
        ("instances.Instance", "Instances", "smartphone"),
        ("instances.ApiKey", "API keys", "key"),
        ("instances.Subscription", "Subscriptions", "webhook"),
    ],
    "Log": [
        ("realtime.Event", "Events", "bolt"),
        ("realtime.Delivery", "Deliveries", "outbox"),
        ("instances.Message", "Messages", "chat"),
        ("instances.Contact", "Contacts", "contacts"),
        ("instances.Chat", "Chats", "forum"),
    ],
    "Server": [
        ("realtime.Process", "Processes", "memory"),
        ("realtime.Stream", "Streams", "water"),
        ("auth.User", "Users", "person"),
        ("auth.Group", "Groups", "group"),
    ],
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links to the pages that the user may open."""
    overview = _item("Overview", reverse("admin:index"), "dashboard")
    groups: list[dict[str, Any]] = [{"title": title, "items": _lists(request, title)} for title in _LISTS]
    groups.insert(2, {"title": "Tools", "items": list(_tools(request))})
    groups = [{"title": None, "items": [overview]}, *(group for group in groups if group["items"])]
    items = [item for group in groups for item in group["items"]]
    current = _current(request.path, [item["link"] for item in items])
    for item in items:
        item["active"] = item["link"] == current
    return groups


def _current(path: str, links: list[str]) -> str | None:
    """Return the link to the page at a path, or to the list that it is of; that of the overview leads to one page."""
    above = [link for link in links if link == path or (link != reverse("admin:index") and path.startswith(link))]
    return max(above, key=len, default=None)


def _tools(request: HttpRequest) -> Iterator[dict[str, Any]]:
    user = request.user
    if opens_console(user):
        yield _item("Live console", reverse("console:index"), "monitoring")
    if may(user, Action.SEE_CONNECTED):
        yield _item("Who is connected", reverse("admin:realtime_process_connected"), "cable")
    if opens_inbox(user):
        yield _item("Inbox", reverse("inbox"), "inbox")
    if admin.site.get_model_admin(apps.get_model("realtime.Delivery")).has_view_permission(request):
        yield _item("Failures by cause", reverse("admin:realtime_delivery_failures"), "report")
    yield _item("Documents", reverse("documents:index"), "menu_book")


def _lists(request: HttpRequest, title: str) -> list[dict[str, Any]]:
    items = []
    for label, name, icon in _LISTS[title]:
        model = apps.get_model(label)
        if admin.site.is_registered(model) and admin.site.get_model_admin(model).has_view_or_change_permission(request):
            url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            items.append(_item(name, url, icon))
    return items


def _item(title: str, link: str, icon: str) -> dict[str, Any]:
    return {"title": title, "link": link, "icon": icon}
