from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Prefetch
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from instances.access.rights import Action, may
from instances.admin import admin_url, format_time
from instances.models import Instance, Subscription
from realtime.admin.connected import connected_url, shown_listeners
from realtime.admin.instance_page.page import InstancePage
from realtime.admin.overview.hour_filters import DAY_HOURS, RecordedFilter
from realtime.admin.overview.svg import strip
from realtime.admin.overview.words import age, plural
from realtime.counters.figures import events_by_instance, last_events
from realtime.counters.hours import last_hours
from realtime.log.models import Event

admin.site.unregister(Instance)


@admin.register(Instance)
class LoggedInstanceAdmin(InstancePage):
    """The list of instances; the page of each is that of `InstancePage`."""

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns, those that show trouble first: a narrow screen shows the others by scrolling."""
        listeners = ("listeners",) if may(request.user, Action.SEE_CONNECTED) else ()
        first = ("name", "state", "last_event", "last_day", *listeners, "endpoints")
        return (*first, *(name for name in super().get_list_display(request) if name not in first))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        listed = Prefetch("subscriptions", Subscription.objects.defer("secrets"), to_attr="listed_subscriptions")
        found = changelist.result_list.prefetch_related(None).prefetch_related(listed)
        rows = changelist.result_list = list(found)
        ids = [instance.pk for instance in rows]
        last, counts = last_events(ids), events_by_instance(last_hours(DAY_HOURS), ids)
        may_add = self.admin_site.get_model_admin(Subscription).has_add_permission(request)
        may_add_webhook = may(request.user, Action.ADD_WEBHOOK)
        for instance in rows:
            instance.may_add_subscription, instance.may_add_webhook = may_add, may_add_webhook
            of_instance = instance.listed_subscriptions
            instance.listed_endpoints = [row for row in of_instance if row.is_endpoint]
            instance.for_sockets = [row for row in of_instance if not row.is_endpoint]
            instance.last_event_at, instance.events_by_hour = last.get(instance.pk), counts[instance.pk]
        return changelist

    @admin.display(description="state", ordering="connection_state")
    def state(self, instance: Instance) -> str:
        return format_html('<span class="state {0}">{0}</span>', instance.connection_state)

    @admin.display(description="last event")
    def last_event(self, instance: Any) -> str:
        """Return how long ago the last event was recorded, which links to the instance's events."""
        if instance.last_event_at is None:
            return "-"
        url, at = admin_url("changelist", Event, instance_id=instance.pk), instance.last_event_at
        return format_html(
            '<a href="{}" title="{}"><span class="nowrap">{} ago</span></a>', url, format_time(at), age(at)
        )

    @admin.display(description="24 hours")
    def last_day(self, instance: Any) -> str:
        """Return the events of the last 24 hours as a strip of a bar for each, and their sum, which links to them."""
        total = sum(instance.events_by_hour)
        if not total:
            return "no events"
        url = admin_url("changelist", Event, instance_id=instance.pk, recorded=RecordedFilter.DAY)
        text = f"{plural(total, 'event')} in 24 hours, {instance.events_by_hour[-1]:,} in this one"
        link = '<span class="nowrap">{} <a href="{}">{}</a></span>'
        return format_html(link, strip(instance.events_by_hour, text), url, f"{total:,}")

    @admin.display(description="listeners now")
    def listeners(self, instance: Instance) -> str:
        """Return the number of clients that listen, which links to the page that lists them."""
        count = shown_listeners(instance)
        text = "-" if count is None else count
        return format_html('<a href="{}">{}</a>', connected_url(instance_id=instance.pk), text)

    @admin.display(description="endpoints")
    def endpoints(self, instance: Any) -> str:
        found = instance.listed_endpoints
        if not found:
            if not instance.may_add_webhook:
                return "none"
            add = admin_url("add", Subscription, instance=instance.pk, transport=Subscription.WEBHOOK)
            return format_html('<a href="{}" title="Add a webhook">none</a>', add)
        off = sum(not endpoint.is_enabled for endpoint in found)
        failing = sum(bool(endpoint.is_enabled and endpoint.failing_since) for endpoint in found)
        all_of_it = {"instance__id__exact": instance.pk}
        parts: list[tuple[str, dict[str, Any]]] = [(str(len(found)), all_of_it)]
        if failing:
            text = format_html('<span class="bad">{} failing</span>', failing)
            parts.append((text, all_of_it | {"state": "failing"}))
        if off:
            parts.append((f"{off} off", all_of_it | {"is_enabled__exact": 0}))
        links = ((admin_url("changelist", Subscription, **query), text) for text, query in parts)
        return format_html('<span class="nowrap">{}</span>', format_html_join(", ", '<a href="{}">{}</a>', links))
