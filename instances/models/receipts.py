"""Receipts: messages that the instance has marked as read."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Max

from instances.models.chat import Chat
from instances.models.instance import Instance
from instances.models.message import Message


def record_read(instance: Instance, wa_ids: Collection[str]) -> None:
    """Count no message as unread in the chats whose newest received message is one of these."""
    received = Message.objects.filter(instance=instance, wa_id__in=wa_ids, from_me=False).order_by()
    for remote_jid, newest in received.values_list("remote_jid").annotate(Max("timestamp")):
        chats = Chat.objects.filter(instance=instance, remote_jid=remote_jid, unread_count__gt=0)
        chats.filter(last_inbound_at__lte=newest).update(unread_count=0)
