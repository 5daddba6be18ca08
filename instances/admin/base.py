"""Helpers and base classes of the admin pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import BinaryField, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin

from instances.access.staff import visible_instances
from instances.admin.limits import WithinLimit
from instances.admin.long_list import BoundedPaginator
from instances.fields import EncryptedField, JsonField
from instances.models import Subscription

#: Characters of one JSON text to show; longer ones, such as media in base64, make browsers slow.
MAX_SHOWN = 100_000


def pretty_json(data: Any) -> str:
    """Return indented JSON as HTML, truncated to MAX_SHOWN characters."""
    pieces, size = [], 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(_with_shown_texts(data)):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_SHOWN:
            break
    text = "".join(pieces)
    if size > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}\n… and more"
    return format_html('<pre class="json">{}</pre>', text)


def _with_shown_texts(data: Any) -> Any:
    """Return data with texts no longer than what is shown: one of megabytes is serialized in one piece."""
    if isinstance(data, dict):
        return {str(name)[: MAX_SHOWN + 1]: _with_shown_texts(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_with_shown_texts(item) for item in data]
    return data[: MAX_SHOWN + 1] if isinstance(data, str) else data


def format_time(moment: datetime) -> str:
    """Return a time to the second, in the current time zone."""
    return localtime(moment).strftime("%Y-%m-%d %H:%M:%S")


def admin_url(page: str, model: type[Model], *args: Any, **query: Any) -> str:
    """Return the URL of an admin page, as in admin_url("change", Instance, instance.pk)."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args, query=query)


class ClosedAdmin(WithinLimit, ModelAdmin):
    """Base class of pages whose lists cannot be filtered, in the query, by what they do not show.

    Django lets a query string look up any column: ?token__startswith=… would find out a secret letter by letter.
    """

    #: Names of further columns that hold more than is shown.
    hidden_columns: tuple[str, ...] = ()
    list_filter_sheet = False  # beside the list, where there is room
    paginator = BoundedPaginator
    list_per_page = 50  # a row takes over a millisecond to render
    show_full_result_count = False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        name = lookup.partition("__")[0]
        try:
            field = self.opts.get_field(name)
        except FieldDoesNotExist:
            return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]
        is_hidden = isinstance(field, EncryptedField | JsonField | BinaryField) or name in self.hidden_columns
        return not is_hidden and super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


class InstanceSelect(AutocompleteSelect):
    """The admin's select box of instances, outside of a ModelAdmin. It searches; there may be any number of them."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(Subscription._meta.get_field("instance"), admin.site, attrs)

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> list[Any]:
        """Render no option for a value that is not a UUID, for which Django's lookup raises."""
        try:
            return super().optgroups(name, value, attr)
        except ValidationError:
            return super().optgroups(name, [], attr)


class InstanceFilter(admin.SimpleListFilter):
    """Filter by instance, with a select box that searches: a list of all would grow with their number."""

    title = "instance"
    parameter_name = "instance_id"
    template = "admin/instances/instance_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        super().__init__(request, params, *args)
        self._user = request.user

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return self._user.has_perm("instances.view_instance")  # its search demands it

    def get_facet_counts(self, pk_attname: str, filtered_qs: QuerySet) -> dict[str, Any]:
        return {}

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield one choice: the form, with the other parameters of the list as hidden fields."""
        select = InstanceSelect({"id": "filter-instance", "data-placeholder": "All"})
        select.is_required = False
        select.choices = forms.ModelChoiceField(visible_instances(self._user)).choices
        yield {
            "select": select.render(self.parameter_name, self.value()),
            "others": [
                (name, value)
                for name, values in changelist.filter_params.items()
                if name != self.parameter_name
                for value in values
            ],
            "query": changelist.query,
            "is_filtered": self.value() is not None,
            "all": changelist.get_query_string(remove=[self.parameter_name]),
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.value():
            return queryset
        try:
            return queryset.filter(instance_id=UUID(self.value()))
        except ValueError:
            return queryset.none()


class ReadOnlyAdmin(ClosedAdmin):
    """Base class for rows that providers and the log write, and that are never edited by hand."""

    show_facets = admin.ShowFacets.NEVER  # each counts all rows for each choice

    @property
    def media(self) -> forms.Media:
        return super().media + InstanceSelect().media

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
