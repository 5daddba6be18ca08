"""The links of the admin's sidebar, by what an operator is after."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from instances.access.rights import Action, may

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
_TOOLS = [
    ("/console/", "Live console", "monitoring"),
    ("/console/inbox/", "Inbox", "inbox"),
    ("/docs/", "Documents", "menu_book"),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links to the pages that the user may open."""
    overview = _item("Overview", reverse("admin:index"), "dashboard")
    groups = [{"title": title, "items": _lists(request, title)} for title in _LISTS]
    tools = [_item(title, url, icon) for url, title, icon in _TOOLS]
    if may(request.user, Action.SEE_CONNECTED):
        tools.insert(1, _item("Who is connected", reverse("admin:realtime_process_connected"), "cable"))
    deliveries = admin.site.get_model_admin(apps.get_model("realtime.Delivery"))
    if deliveries.has_view_permission(request):
        tools.insert(-1, _item("Failures by cause", reverse("admin:realtime_delivery_failures"), "report"))
    groups.insert(2, {"title": "Tools", "items": tools})
    return [{"title": None, "items": [overview]}, *(group for group in groups if group["items"])]


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
