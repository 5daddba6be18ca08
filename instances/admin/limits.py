"""Limits of the admin's pages: rows of the instances that a user may see, and no content for viewers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from instances.access.staff import sees_all_instances, sees_content, visible_instances, within_limit
from instances.models import Instance


class WithinLimit(admin.ModelAdmin):
    """Base class of pages of rows that belong to instances: lists, searches, actions and choices are limited."""

    #: The column by which rows belong to an instance. "" for server-wide rows, which limited users do not see.
    instance_lookup = "instance_id"
    #: Fields that show content, which viewers do not see.
    content_fields: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.within_limit(request.user, super().get_queryset(request))

    def within_limit(self, user: Any, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows that a user may see."""
        return within_limit(user, rows, self.instance_lookup) if self.instance_lookup else rows

    def _is_open(self, request: HttpRequest) -> bool:
        """Return whether the page is none of server-wide rows, or the user may see those."""
        return bool(self.instance_lookup) or sees_all_instances(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._is_open(request) and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_open(request) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._is_open(request) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_open(request) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_open(request) and super().has_delete_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out the fields that show content where the user may not read any."""
        fieldsets = super().get_fieldsets(request, obj)
        if sees_content(request.user):
            return fieldsets
        return [
            (title, options | {"fields": [name for name in options["fields"] if name not in self.content_fields]})
            for title, options in fieldsets
        ]

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Take the instances that the user sees; the search of the select box offers no others either."""
        return super().formfield_for_foreignkey(db_field, request, **self._instances_of(db_field, request), **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **self._instances_of(db_field, request), **kwargs)

    def _instances_of(self, db_field: Any, request: HttpRequest) -> dict[str, Any]:
        return {"queryset": visible_instances(request.user)} if db_field.related_model is Instance else {}
