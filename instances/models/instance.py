from __future__ import annotations

import uuid
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from instances.crypto import Secret, digest, digests, is_same
from instances.events import EventType, announce
from instances.fields import EncryptedField, JsonField, PlainField
from instances.names import MAX_NAME_LENGTH, digits, validate_name


class Integration(models.TextChoices):
    WHATSAPP_WEB = "WHATSAPP-BAILEYS", "WhatsApp Web"
    CLOUD_API = "WHATSAPP-BUSINESS", "WhatsApp Cloud API"
    EVOLUTION = "EVOLUTION", "Evolution channel"


class ConnectionState(models.TextChoices):
    OPEN = "open"
    CONNECTING = "connecting"
    CLOSE = "close"


class InstanceQuerySet(models.QuerySet["Instance"]):
    def with_token(self, token: str) -> InstanceQuerySet:
        """Those that this instance token opens; a token may be that of several."""
        return self.filter(token_digest__in=digests(token))

    def addressed(self, integration: str, numbers: set[str], business_ids: set[str]) -> InstanceQuerySet:
        """Those of one integration that have one of these numbers or belong to one of these businesses."""
        return self.filter(Q(number__in=numbers) | Q(business_id__in=business_ids), integration=integration)

    def counted(self) -> InstanceQuerySet:
        """With how many messages, contacts and chats each has."""

        def count(model: str) -> Any:
            rows = apps.get_model("instances", model).objects.filter(instance=OuterRef("pk")).order_by()
            return Coalesce(Subquery(rows.values("instance").annotate(n=Count("pk")).values("n")), 0)

        return self.annotate(message_count=count("Message"), contact_count=count("Contact"), chat_count=count("Chat"))

    def locked(self) -> InstanceQuerySet:
        """In one fixed order, held until the transaction ends: two that lock several cannot wait for each other."""
        return self.order_by("id").select_for_update(no_key=True)


class Instance(models.Model):
    """One WhatsApp number and what is known of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME_LENGTH, unique=True, validators=[validate_name])
    integration = models.CharField(max_length=32, choices=Integration, default=Integration.EVOLUTION)
    number = models.CharField(
        max_length=255, null=True, blank=True, help_text="Cloud API: the phone number id. Evolution channel: numberId."
    )
    business_id = models.CharField(max_length=255, null=True, blank=True, help_text="WhatsApp business account id.")
    owner_jid = models.CharField("owner JID", max_length=255, null=True, blank=True)
    profile_name = PlainField(max_length=255, null=True, blank=True)
    profile_pic_url = models.TextField("profile picture URL", null=True, blank=True)
    connection_state = models.CharField(max_length=16, choices=ConnectionState, default=ConnectionState.CLOSE)
    settings = JsonField(default=dict, blank=True)
    metadata = JsonField(default=dict, blank=True)
    token_digest = models.CharField(max_length=64, db_index=True, editable=False)
    token = EncryptedField(editable=False)
    provider_token = EncryptedField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (
            # inbound payloads name nothing but the number, so it must lead to one instance
            models.UniqueConstraint(
                fields=("integration", "number"),
                condition=Q(integration__in=(Integration.CLOUD_API, Integration.EVOLUTION), number__isnull=False),
                name="instance_number_is_unique",
                violation_error_message="This number is already in use.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store it, and announce a new connection state, whoever set it."""
        if not self.token_digest:
            self.give_token(str(uuid.uuid4()).upper())
        state = self.__dict__.get("connection_state")
        with transaction.atomic():
            super().save(*args, **kwargs)
            if getattr(self, "_told_state", state) != state:
                announce(EventType.CONNECTION_UPDATE, self, self._connection_update())
        self._told_state = state

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Instance:
        instance = super().from_db(*args, **kwargs)
        instance._told_state = instance.__dict__.get("connection_state")
        return instance

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._told_state = self.__dict__.get("connection_state")

    def _connection_update(self) -> dict[str, Any]:
        return {"instance": self.name, "state": self.connection_state, "statusReason": 200}

    def change_state(self, state: str) -> None:
        self.connection_state = state
        self.save(update_fields=["connection_state", "updated_at"])

    def give_token(self, token: str) -> None:
        """Make this the instance's own key; the caller saves."""
        self.token = Secret(token)
        self.token_digest = digest(token)

    def has_token(self, token: str) -> bool:
        return any(is_same(candidate, self.token_digest) for candidate in digests(token))

    @property
    def phone(self) -> str | None:
        """Its own phone number in digits, where it is known."""
        return digits(self.owner_jid or "") or (
            self.number if self.integration == Integration.EVOLUTION and self.number else None
        )

    @property
    def sender(self) -> str | None:
        """What events name as their sender: Evolution API does so for WhatsApp Web alone."""
        return self.owner_jid if self.integration == Integration.WHATSAPP_WEB else None
