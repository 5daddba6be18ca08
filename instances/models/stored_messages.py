"""The queryset of messages: deletion that keeps the counters right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db import models, transaction

from instances.models.chat import Chat
from instances.models.instance import Instance
from instances.models.message_status import MessageStatus


class MessageQuerySet(models.QuerySet[Any]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete messages with their statuses, and count those that are left in their chats."""
        with transaction.atomic():
            counted = self.order_by().filter(wa_id__isnull=False)
            jids: dict[UUID, set[str]] = defaultdict(set)
            for instance_id, jid in counted.values_list("instance_id", "remote_jid").distinct():
                jids[instance_id].add(jid)
            if jids:
                list(Instance.objects.filter(pk__in=jids).locked().values_list("pk"))
                MessageStatus.objects.filter(message__in=self.order_by().values("pk")).delete()
            deleted: tuple[int, dict[str, int]] = super().delete()
            for instance_id, of_instance in jids.items():
                Chat.recount(instance_id, self.model._default_manager.all(), of_instance)
        return deleted

    delete.queryset_only = True  # type: ignore[attr-defined] # as Django's own: a manager deletes nothing

    def stored(self, instance: Any) -> MessageQuerySet:
        """Return the messages of an instance, without sends that have no result."""
        return self.filter(instance=instance, wa_id__isnull=False)
