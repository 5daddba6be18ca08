from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db import models, transaction
from django.db.models import Q
from django.db.models.expressions import RawSQL

from instances.crypto import Secret, digest
from instances.events import EventType, announce
from instances.fields import EncryptedField, JsonField, PlainField
from instances.models.access_revision import AccessRevision
from instances.names import MAX_NAME_LENGTH, digits, validate_name


class Integration(models.TextChoices):
    WHATSAPP_WEB = "WHATSAPP-BAILEYS", "WhatsApp Web"
    CLOUD_API = "WHATSAPP-BUSINESS", "WhatsApp Cloud API"
    EVOLUTION = "EVOLUTION", "Evolution channel"


class ConnectionState(models.TextChoices):
    OPEN = "open"
    CONNECTING = "connecting"
    CLOSE = "close"


#: Who gets in goes by these columns.
KEYS = frozenset(("name", "token", "token_digest"))


def new_token() -> str:
    return str(uuid.uuid4()).upper()


class InstanceQuerySet(models.QuerySet["Instance"]):
    def addressed(self, integration: str, numbers: set[str], business_ids: set[str]) -> InstanceQuerySet:
        """Those of one integration that have one of these numbers or belong to one of these businesses."""
        return self.filter(Q(number__in=numbers) | Q(business_id__in=business_ids), integration=integration)

    def counted(self) -> InstanceQuerySet:
        """With how many messages, contacts and chats each has."""

        # in SQL: to have Django make it of expressions costs more than all the rest of fetchInstances
        def count(model: str) -> Any:
            counted = f"SELECT COUNT(*) FROM instances_{model} AS c WHERE c.instance_id = instances_instance.id"  # noqa: S608
            return RawSQL(f"({counted})", (), models.IntegerField())  # noqa: S611 (there is no input in it)

        return self.annotate(message_count=count("message"), contact_count=count("contact"), chat_count=count("chat"))

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

    #: Its subscriptions and those for all instances, where the intake has read them together with those of others.
    known_subscriptions: list[Any] | None = None

    #: The KEYS as they were read or committed, so that it shows which of them this object was given since.
    _loaded: dict[str, Any] = {}

    class Meta:
        ordering = ("name",)
        # whatever comes in is found by them
        indexes = (
            models.Index(fields=("number",), name="instance_number"),
            models.Index(fields=("business_id",), name="instance_business_id"),
        )
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
        """Store it, announce a new connection state, and make known who gets in now, whoever changed that."""
        if not self.token_digest:
            self.give_token(new_token())
        state = self.__dict__.get("connection_state")
        update_fields = kwargs.get("update_fields")
        keys = KEYS if update_fields is None else KEYS.intersection(update_fields)
        with transaction.atomic():
            is_access_change = bool(keys) and not self._state.adding and self._changes_access(keys)
            super().save(*args, **kwargs)
            if is_access_change:
                AccessRevision.bump()
            if keys:
                self._remember_on_commit(keys)
            if getattr(self, "_told_state", state) != state:
                announce(EventType.CONNECTION_UPDATE, self, self._connection_update())
        self._told_state = state

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Instance:
        instance = super().from_db(*args, **kwargs)
        instance._told_state = instance.__dict__.get("connection_state")
        instance._loaded = instance._present(KEYS)
        return instance

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, from_queryset: Any = None
    ) -> None:
        fields = None if fields is None else list(fields)
        super().refresh_from_db(using, fields, from_queryset)
        self._told_state = self.__dict__.get("connection_state")
        self._loaded = self._loaded | self._present(KEYS if fields is None else KEYS.intersection(fields))

    def _present(self, names: frozenset[str]) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    def _remember_on_commit(self, names: frozenset[str]) -> None:
        """What is rolled back has not become what is stored."""
        saved = self._present(names)
        transaction.on_commit(lambda: self.__dict__.update(_loaded=self._loaded | saved))

    def _changes_access(self, names: frozenset[str]) -> bool:
        """Whether to save these is to change who gets in.

        What this object was not given itself stays as it is stored: it may have been loaded before the token was
        rotated, and to save it must not make the former one valid again.
        """
        stored = Instance.objects.locked().filter(pk=self.pk).values(*KEYS).first()
        if stored is None:
            return False
        for name in KEYS:
            if self.__dict__.get(name) == self._loaded.get(name):
                self.__dict__[name] = stored[name]
        return any(self.__dict__[name] != stored[name] for name in names & {"name", "token_digest"})

    def _connection_update(self) -> dict[str, Any]:
        return {"instance": self.name, "state": self.connection_state, "statusReason": 200}

    def give_token(self, token: str) -> None:
        """Make this the instance's own key; the caller saves."""
        self.token = Secret(token)
        self.token_digest = digest(token)

    def rotate_token(self, token: str = "") -> None:
        """Another key of its own, this one or one that is made; what opens the provider's doors stays as it is."""
        self.give_token(token or new_token())
        self.save(update_fields=["token", "token_digest", "updated_at"])

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
