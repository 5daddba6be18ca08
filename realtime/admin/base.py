"""Base classes of the admin pages of the log and of deliveries."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from instances.admin import ReadOnlyAdmin
from instances.events import EventType


class BoundedPaginator(Paginator):
    """Count up to MAX rows: counting millions takes longer than showing a page."""

    MAX = 10_000
    template_name = "admin/bounded_pagination.html"

    @cached_property
    def count(self) -> int:
        return min(self._found, self.MAX)

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        return rows.order_by()[: self.MAX + 1].count()

    @property
    def is_truncated(self) -> bool:
        return self._found > self.MAX

    @property
    def total(self) -> str:
        """Return the count in words."""
        return f"more than {self.MAX:,}" if self.is_truncated else f"{self.count:,}"


class LongListAdmin(ReadOnlyAdmin):
    """Base class for tables of millions of rows: no full count, no sorting, no columns that the list does not show."""

    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    #: Name of the column that only the detail page shows.
    content: str

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer(self.content)
        if changelist.paginator.is_truncated:  # the search form would show the bounded count as the total
            changelist.full_result_count = changelist.result_count
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
