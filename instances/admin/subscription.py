from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from instances.forms import SubscriptionForm
from instances.models import Subscription


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):
    list_display = ("instance", "transport", "is_enabled", "shown_events")
    list_filter = ("transport", "is_enabled")
    list_select_related = ("instance",)
    search_fields = ("instance__name",)
    form = SubscriptionForm
    fields = ("instance", "transport", "is_enabled", "events")
    autocomplete_fields = ("instance",)

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return ("instance", "transport") if obj else ("transport",)

    @admin.display(description="events", empty_value="none")
    def shown_events(self, subscription: Subscription) -> str:
        return Truncator(", ".join(subscription.events)).chars(120)

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        """Through the one place that knows Evolution's rules."""
        if obj.instance is None or obj.transport != Subscription.WEBSOCKET:
            super().save_model(request, obj, form, change)
            return
        stored = Subscription.set_websocket(obj.instance, obj.is_enabled, obj.events)
        obj.__dict__.update(stored.__dict__)
