from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from instances import json_body
from instances.access.staff import sees_all_instances
from instances.admin import ReadOnlyAdmin, admin_url, format_time, pretty_json
from instances.admin.base import InstanceFilter
from instances.models import Instance, Message
from realtime.admin.base import LongListAdmin, TypeFilter
from realtime.admin.links import SEARCH_HELP, event_id_of, link, message_of, search
from realtime.admin.overview.hour_filters import RecordedFilter
from realtime.api.explain import explain
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from realtime.log.stream import Stream


@admin.register(Event)
class EventAdmin(LongListAdmin):
    list_display = ("name", "seq", "type", "is_heard", "recorded_at")
    list_display_links = ("name", "seq")
    list_filter = (InstanceFilter, TypeFilter, "is_heard", RecordedFilter)
    search_fields = ("name",)
    search_help_text = SEARCH_HELP
    content = "envelope"
    indexed_filters = LongListAdmin.indexed_filters | {RecordedFilter.parameter_name}
    content_fields = ("shown_envelope",)
    fields = (
        *("name", "instance_id", "seq", "event_id", "type", "is_heard", "recorded_at", "message", "deliveries"),
        *("recipients", "shown_envelope"),
    )

    def get_fields(self, request: HttpRequest, obj: Event | None = None) -> Any:
        """Leave out what users may not see: recipients, with their last errors, deliveries, and messages."""
        may_see = request.user.has_perm
        hidden = set()
        if not may_see("realtime.view_delivery"):
            hidden |= {"deliveries", "recipients"}
        if not may_see("instances.view_subscription"):
            hidden.add("recipients")
        if not may_see("instances.view_message"):
            hidden.add("message")
        return [name for name in self.fields if name not in hidden]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        return search(queryset, search_term, request.user), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Event | None:
        event: Any = super().get_object(request, object_id, from_field)
        if event is not None:
            event.seen_by = request.user  # for the fields that show other rows
        return event

    @admin.display(description="id")
    def event_id(self, event: Event) -> str:
        return event_id_of(event) or "-"

    @admin.display(description="message")
    def message(self, event: Event) -> str:
        found = message_of(event)
        return link(Message, found.pk, found.wa_id) if found else "-"

    @admin.display(description="deliveries")
    def deliveries(self, event: Any) -> str:
        count = Delivery.objects.visible_to(event.seen_by).filter(instance_id=event.instance_id, seq=event.seq).count()
        url = admin_url("changelist", Delivery, instance_id=event.instance_id, seq=event.seq)
        return format_html('<a href="{}">{}</a>', url, count)

    @admin.display(description="recorded at")
    def recorded_at(self, event: Event) -> str:
        return format_time(event.created_at)

    @admin.display(description="recipients")
    def recipients(self, event: Any) -> str:
        """Return a sentence for each endpoint and for the sockets."""
        instance = Instance.objects.filter(pk=event.instance_id).first()
        if instance is None:
            return "The instance is deleted. Its deliveries are still listed under Deliveries."
        summary = explain(instance, str(event.seq), is_for_all=sees_all_instances(event.seen_by))["summary"]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((text,) for text in summary)))

    @admin.display(description="envelope")
    def shown_envelope(self, event: Event) -> str:
        return pretty_json(json_body.load_stored(bytes(event.envelope)))


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    instance_lookup = "pk"
    list_display = ("name", "first_seq", "last_seq", "heard_seq", "epoch", "instance_id")
    search_fields = ("name",)
    ordering = ("name",)
