from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from instances.admin import ReadOnlyAdmin, format_time, pretty_json
from instances.models import Instance
from realtime.admin.base import LongListAdmin, TypeFilter
from realtime.api.explain import explain
from realtime.log.models import Event
from realtime.log.stream import Stream


@admin.register(Event)
class EventAdmin(LongListAdmin):
    list_display = ("name", "seq", "type", "is_heard", "recorded_at")
    list_display_links = ("name", "seq")
    list_filter = (TypeFilter, "is_heard")
    search_fields = ("name",)
    search_help_text = "Instance name"
    content = "envelope"
    fields = ("name", "instance_id", "seq", "type", "is_heard", "recorded_at", "recipients", "shown_envelope")

    def get_fields(self, request: HttpRequest, obj: Event | None = None) -> Any:
        """Leave out the recipients, with their last errors, for users who may not see deliveries."""
        is_shown = request.user.has_perms(("instances.view_subscription", "realtime.view_delivery"))
        return [name for name in self.fields if name != "recipients" or is_shown]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Search by instance name through the streams, one row per instance: the log has no index on names."""
        if search_term:
            found = Stream.objects.filter(name__icontains=search_term)
            queryset = queryset.filter(instance_id__in=found.values("pk"))
        return queryset, False

    @admin.display(description="recorded at")
    def recorded_at(self, event: Event) -> str:
        return format_time(event.created_at)

    @admin.display(description="recipients")
    def recipients(self, event: Event) -> str:
        """Return a sentence for each endpoint and for the sockets."""
        instance = Instance.objects.filter(pk=event.instance_id).first()
        if instance is None:
            return "The instance is deleted. Its deliveries are still listed under Deliveries."
        summary = explain(instance, str(event.seq), is_for_all=True)["summary"]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((text,) for text in summary)))

    @admin.display(description="envelope")
    def shown_envelope(self, event: Event) -> str:
        return pretty_json(json.loads(bytes(event.envelope)))


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    list_display = ("name", "first_seq", "last_seq", "heard_seq", "epoch", "instance_id")
    search_fields = ("name",)
    ordering = ("name",)
