from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import OuterRef, Prefetch, Subquery
from django.http import HttpRequest
from django.utils.html import format_html

from instances.access.rights import Action, may
from instances.admin import InstanceAdmin, admin_url
from instances.models import Instance, Subscription
from realtime.admin.connected import connected_url, shown_listeners
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from realtime.log.stream import Stream

admin.site.unregister(Instance)


@admin.register(Instance)
class LoggedInstanceAdmin(InstanceAdmin):
    def get_list_display(self, request: HttpRequest) -> Any:
        listeners = ("listeners",) if may(request.user, Action.SEE_CONNECTED) else ()
        return (*super().get_list_display(request), *listeners, "endpoints", "last_event")

    def get_fieldsets(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        (title, general), *others = fieldsets
        return [(title, general | {"fields": (*general["fields"], "listeners", "endpoints", "deliveries")}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(("listeners", "endpoints", "deliveries") if obj else ()))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        last_seq = Subquery(Stream.objects.filter(pk=OuterRef("pk")).values("last_seq"))
        prefetch = Prefetch(
            "subscriptions", Subscription.objects.endpoints().defer("secrets"), to_attr="listed_endpoints"
        )
        changelist.result_list = changelist.result_list.annotate(last_seq=last_seq).prefetch_related(prefetch)
        return changelist

    @admin.display(description="last event")
    def last_event(self, instance: Any) -> str:
        url = admin_url("changelist", Event, instance_id=instance.pk)
        return format_html('<a href="{}">{}</a>', url, instance.last_seq or 0)

    @admin.display(description="listeners now")
    def listeners(self, instance: Instance) -> str:
        """Return the number of clients that listen, which links to the page that lists them."""
        count = shown_listeners(instance)
        text = "-" if count is None else count
        return format_html('<a href="{}">{}</a>', connected_url(instance_id=instance.pk), text)

    @admin.display(description="endpoints")
    def endpoints(self, instance: Any) -> str:
        found = getattr(instance, "listed_endpoints", None)
        if found is None:
            found = list(instance.subscriptions.endpoints().defer("secrets"))
        if not found:
            add = admin_url("add", Subscription, instance=instance.pk, transport=Subscription.WEBHOOK)
            return format_html('<a href="{}" title="Add a webhook">none</a>', add)
        off = sum(not endpoint.is_enabled for endpoint in found)
        failing = sum(bool(endpoint.is_enabled and endpoint.failing_since) for endpoint in found)
        counts = [str(len(found)), *([f"{failing} failing"] if failing else []), *([f"{off} off"] if off else [])]
        url = admin_url("changelist", Subscription, instance__id__exact=instance.pk)
        return format_html('<a href="{}">{}</a>', url, ", ".join(counts))

    @admin.display(description="deliveries")
    def deliveries(self, instance: Instance) -> str:
        return format_html('<a href="{}">show</a>', admin_url("changelist", Delivery, instance_id=instance.pk))
