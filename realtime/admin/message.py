from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from instances.admin import MessageAdmin, admin_url
from instances.models import Message
from realtime.log.models import Event

admin.site.unregister(Message)


@admin.register(Message)
class LoggedMessageAdmin(MessageAdmin):
    def get_fields(self, request: HttpRequest, obj: Message | None = None) -> Any:
        fields = list(self.fields or ())
        return [*fields[:2], "events", *fields[2:]] if request.user.has_perm("realtime.view_event") else fields

    @admin.display(description="events")
    def events(self, message: Message) -> str:
        """Return a link to the events about it."""
        if not message.wa_id:
            return "-"
        return format_html('<a href="{}">show</a>', admin_url("changelist", Event, q=message.wa_id))
