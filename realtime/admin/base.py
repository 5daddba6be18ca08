"""Base classes of the admin pages of the log and of deliveries."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from instances.admin import ReadOnlyAdmin
from instances.admin.long_list import LongList
from instances.events import EventType


class LongListAdmin(LongList, ReadOnlyAdmin):
    """Base class of the pages of events and deliveries, whose lists do not load the column of the content."""

    #: Name of the column that only the detail page shows.
    content: str

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer(self.content)
        return changelist


class TypeFilter(admin.SimpleListFilter):
    """Filter by event type; the choices are the catalogue, as a DISTINCT would read the entire log."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event_type, event_type) for event_type in EventType.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(type=self.value()) if self.value() else queryset


def actor(request: HttpRequest) -> str:
    """Return the name that deliveries record as `asked_by`."""
    return f"{request.user.get_username()} in the admin"
