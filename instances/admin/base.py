"""Helpers and base classes of the admin pages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db.models import BinaryField, Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import localtime

from instances.fields import EncryptedField, JsonField

#: Characters of one JSON text to show; longer ones, such as media in base64, make browsers slow.
MAX_SHOWN = 100_000


def pretty_json(data: Any) -> str:
    """Return indented JSON as HTML, truncated to MAX_SHOWN characters."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}\n… and {len(text) - MAX_SHOWN} characters more"
    return format_html('<pre class="json">{}</pre>', text)


def format_time(moment: datetime) -> str:
    """Return a time to the second, in the current time zone."""
    return localtime(moment).strftime("%Y-%m-%d %H:%M:%S")


def admin_url(page: str, model: type[Model], *args: Any, **query: Any) -> str:
    """Return the URL of an admin page, as in admin_url("change", Instance, instance.pk)."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args, query=query)


class ClosedAdmin(admin.ModelAdmin):
    """Base class of pages whose lists cannot be filtered, in the query, by what they do not show.

    Django lets a query string look up any column: ?token__startswith=… would find out a secret letter by letter.
    """

    #: Names of further columns that hold more than is shown.
    hidden_columns: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        name = lookup.partition("__")[0]
        try:
            field = self.opts.get_field(name)
        except FieldDoesNotExist:
            return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]
        is_hidden = isinstance(field, EncryptedField | JsonField | BinaryField) or name in self.hidden_columns
        return not is_hidden and super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


class ReadOnlyAdmin(ClosedAdmin):
    """Base class for rows that providers and the log write: many, and never edited by hand."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
