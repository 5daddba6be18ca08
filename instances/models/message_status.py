from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, Self
from uuid import UUID

from django.db import models

from instances.models.instance import Instance
from instances.models.message_states import REPORTED
from instances.sql import insert

#: The words that are stored: those that report a state, and that of a message that was deleted.
WORDS = frozenset((*REPORTED, "DELETED"))


class StoredMessage(Protocol):
    """The attributes of a message that its statuses need."""

    pk: Any
    instance_id: UUID
    remote_jid: str


class StatusOf(NamedTuple):
    """A status of a stored message, as someone's device has reported it."""

    message: StoredMessage
    status: str
    #: The address of the one who received the message; in a group, of one of the participants.
    participant: str


class MessageStatus(models.Model):
    """A status that was reported of a message: one row for each word and participant, the oldest first.

    The rows go with their message by `MessageQuerySet.delete`, and with their instance. A foreign key with a constraint
    would make Django load all messages of an instance that is deleted.
    """

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="message_statuses", db_index=False)
    message = models.ForeignKey(
        "instances.Message", models.DO_NOTHING, related_name="statuses", db_constraint=False, db_index=False
    )
    remote_jid = models.CharField("remote JID", max_length=255)
    participant = models.CharField(max_length=255)
    status = models.CharField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("message", "status", "participant"), name="status_is_stored_once"),
        )
        indexes = (
            models.Index(fields=("instance", "id"), name="status_of_instance"),
            models.Index(fields=("instance", "remote_jid", "id"), name="status_of_chat"),
        )
        ordering = ("id",)
        verbose_name_plural = "message statuses"

    def __str__(self) -> str:
        return f"{self.status} {self.participant}"

    @classmethod
    def append(cls, statuses: Iterable[StatusOf]) -> None:
        """Store statuses of messages; a repeat changes nothing, and words that report no status are left out."""
        insert([cls._of(*each) for each in statuses if each.status in WORDS], ignore_conflicts=True)

    @classmethod
    def _of(cls, message: StoredMessage, status: str, participant: str) -> Self:
        return cls(
            instance_id=message.instance_id,
            message_id=message.pk,
            remote_jid=message.remote_jid,
            participant=participant,
            status=status,
        )
