"""Lists of millions of rows: bounded counts, no sorting, and filters without an index on the newest rows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import AutoField, Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.views import ChangeList

from instances.bounds import FILTERED_ROWS


class BoundedPaginator(Paginator):
    """Count up to MAX rows: counting millions takes longer than showing a page. Beyond it the total is estimated."""

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
        """Return the count in words: exact up to MAX, beyond it what the database estimates for the entire table."""
        if not self.is_truncated:
            return f"{self.count:,}"
        rows: Any = self.object_list
        estimate = 0 if rows.query.where else estimated_rows(rows.model)
        return f"about {estimate:,}" if estimate > self.MAX else f"more than {self.MAX:,}"


def estimated_rows(model: type[Model]) -> int:
    """Return roughly how many rows a table has, without counting them; 0 if it is not known."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table])
            return max(0, cursor.fetchone()[0])
    if not isinstance(model._meta.pk, AutoField):
        return 0
    keys = model._default_manager.order_by("pk").values_list("pk", flat=True)
    first, last = keys.first(), keys.last()  # two queries: for both together SQLite reads the entire table
    return last - first + 1 if last else 0


class LongChangeList(ChangeList):
    """A list in which filters that no index serves look at the newest FILTERED_ROWS rows of the table."""

    is_of_newest = False
    newest_rows = f"{FILTERED_ROWS:,}"

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str] | None = None) -> QuerySet[Any]:
        queryset = super().get_queryset(request, exclude_parameters)
        page: Any = self.model_admin
        is_indexed = page.is_indexed(self.filter_params) or bool(self.query and not page.is_search_of_newest)
        if is_indexed or not (self.filter_params or self.query):
            return queryset
        last = queryset.model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
        self.is_of_newest = (last or 0) > FILTERED_ROWS
        return queryset.filter(pk__gt=last - FILTERED_ROWS) if self.is_of_newest else queryset


class LongList(admin.ModelAdmin):
    """Base class of pages of such tables, before `ReadOnlyAdmin` among the bases: it has the paginator."""

    sortable_by = ()
    #: Parameters of the query that an index serves, alone or with others.
    indexed_filters: frozenset[str] = frozenset(("instance_id", "instance_id__exact", "instance__id__exact"))
    #: True if the search has no index.
    is_search_of_newest = False

    def is_indexed(self, params: dict[str, list[str]]) -> bool:
        """Return whether an index serves the parameters of a list."""
        return not self.indexed_filters.isdisjoint(params)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LongChangeList

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: Any = super().get_changelist_instance(request)
        if changelist.paginator.is_truncated:  # the page would show the bounded count as the total
            changelist.full_result_count = changelist.result_count
        return changelist
