"""The log in the admin, and where each instance stands in it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html

from instances.admin import InstanceAdmin, ReadOnlyAdmin, address, pretty, to_the_second
from instances.events import EventType
from instances.models import Instance
from realtime.models import Event, Stream

admin.site.unregister(Instance)


@admin.register(Instance)
class LoggedInstanceAdmin(InstanceAdmin):
    def get_list_display(self, request: HttpRequest) -> Any:
        return (*super().get_list_display(request), "last_event")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        last_seq = Subquery(Stream.objects.filter(pk=OuterRef("pk")).values("last_seq"))
        changelist.result_list = changelist.result_list.annotate(last_seq=last_seq)
        return changelist

    @admin.display(description="last event")
    def last_event(self, instance: Any) -> str:
        url = address("changelist", Event, instance_id=instance.pk)
        return format_html('<a href="{}">{}</a>', url, instance.last_seq or 0)


class TypeFilter(admin.SimpleListFilter):
    """From the catalogue: to ask the log which types it has would read all of it."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event_type, event_type) for event_type in EventType.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("name", "seq", "type", "is_heard", "recorded_at")
    list_display_links = ("name", "seq")
    list_filter = (TypeFilter, "is_heard")
    search_fields = ("name",)
    search_help_text = "Instance name"
    sortable_by = ()
    fields = ("name", "instance_id", "seq", "type", "is_heard", "recorded_at", "shown_envelope")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer("envelope")
        return changelist

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Through the streams, one row an instance: the log itself is too long to look for names in."""
        if search_term:
            found = Stream.objects.filter(name__icontains=search_term)
            queryset = queryset.filter(instance_id__in=found.values("pk"))
        return queryset, False

    @admin.display(description="recorded at")
    def recorded_at(self, event: Event) -> str:
        return to_the_second(event.created_at)

    @admin.display(description="envelope")
    def shown_envelope(self, event: Event) -> str:
        return pretty(json.loads(bytes(event.envelope)))


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    list_display = ("name", "first_seq", "last_seq", "heard_seq", "epoch", "instance_id")
    search_fields = ("name",)
    ordering = ("name",)
