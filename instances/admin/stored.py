"""Read-only pages of messages, contacts and chats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.html import format_html

from instances.admin.base import InstanceFilter, ReadOnlyAdmin, admin_url, format_time, pretty_json
from instances.admin.long_list import LongList
from instances.events import without_keys
from instances.models import Chat, Contact, Message


@admin.register(Message)
class MessageAdmin(LongList, ReadOnlyAdmin):
    list_display = ("sent_at", "instance", "direction", "remote_jid", "push_name", "type", "status", "wa_id")
    list_display_links = ("sent_at", "wa_id")
    list_filter = (InstanceFilter, "from_me", "created_at")
    search_fields = ("wa_id", "remote_jid", "push_name")
    is_search_of_newest = True
    content_fields = ("shown_content", "shown_context", "shown_extra")
    fields = (
        *("instance", "wa_id", "request_id", "remote_jid", "remote_jid_alt", "participant", "direction", "push_name"),
        *("type", "status", "source", "sent_at", "created_at", "shown_content", "shown_context", "shown_extra"),
    )

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer("content", "context", "extra")
        return changelist

    @admin.display(description="direction", ordering="from_me")
    def direction(self, message: Message) -> str:
        return "out" if message.from_me else "in"

    @admin.display(description="sent at", ordering="timestamp")
    def sent_at(self, message: Message) -> str:
        try:
            return format_time(datetime.fromtimestamp(message.timestamp, UTC))
        except (OverflowError, ValueError, OSError):  # providers may send any number
            return str(message.timestamp)

    @admin.display(description="content")
    def shown_content(self, message: Message) -> str:
        return _scrubbed_json(message.content)

    @admin.display(description="context")
    def shown_context(self, message: Message) -> str:
        return _scrubbed_json(message.context)

    @admin.display(description="extra")
    def shown_extra(self, message: Message) -> str:
        return _scrubbed_json(message.extra)


def _scrubbed_json(data: Any) -> str:
    """Return JSON without media keys: they decrypt media of the chat."""
    return pretty_json(without_keys(data)) if data else "-"


@admin.register(Contact)
class ContactAdmin(LongList, ReadOnlyAdmin):
    list_display = ("remote_jid", "push_name", "instance", "updated_at")
    list_filter = (InstanceFilter,)
    search_fields = ("remote_jid", "push_name")
    is_search_of_newest = True


@admin.register(Chat)
class ChatAdmin(LongList, ReadOnlyAdmin):
    list_display = ("remote_jid", "name", "instance", "message_count", "unread_count", "updated_at")
    list_filter = (InstanceFilter,)
    search_fields = ("remote_jid", "name")
    is_search_of_newest = True
    ordering = ("-pk",)  # the model's has no index
    readonly_fields = ("messages",)

    @admin.display(description="messages")
    def messages(self, chat: Chat) -> str:
        url = admin_url("changelist", Message, instance_id=chat.instance_id, remote_jid=chat.remote_jid)
        return format_html('<a href="{}">show</a>', url)
