from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from typing import Any

import orjson
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Exists, ExpressionWrapper, OuterRef, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from instances.crypto import Secret, digest, digests
from instances.events import EventType, announce
from instances.fields import EncryptedField, JsonField, PlainField
from instances.integrations import MAX_INTEGRATION_LENGTH, MEMBERS, Integration, integration_of, shared_credentials
from instances.models.access_revision import AccessRevision
from instances.names import MAX_NAME_LENGTH, digits, validate_name
from instances.timestamps import iso


class ConnectionState(models.TextChoices):
    OPEN = "open"
    CONNECTING = "connecting"
    CLOSE = "close"


#: The code of a connection that was closed because the instance was logged out, as WhatsApp Web has it.
LOGGED_OUT = 401

#: Characters of a token that is not weak.
MIN_TOKEN_LENGTH = 16

#: Characters of the longest Fernet token of a weak one: 15 bytes are padded to one block of AES, 16 to two.
_WEAK_CIPHER_LENGTH = 100

#: Columns that decide which keys open an instance.
KEY_COLUMNS = frozenset(("name", "token", "token_digest", "token_changed_at"))

#: Columns that integrations make `unique_key` of.
UNIQUE_COLUMNS = frozenset(("integration", *MEMBERS.values()))


def new_token() -> str:
    """Return a random token in the form of Evolution API's: an upper-case UUID."""
    return str(uuid.uuid4()).upper()


class InstanceQuerySet(models.QuerySet["Instance"]):
    def counted(self) -> InstanceQuerySet:
        """Annotate each instance with `message_count`, `contact_count` and `chat_count`."""

        # raw SQL: compiling the expressions costs Django more than all the rest of fetchInstances
        def count(model: str, number: str = "COUNT(*)") -> Any:
            query = f"SELECT {number} FROM instances_{model} AS c WHERE c.instance_id = instances_instance.id"  # noqa: S608
            return RawSQL(f"({query})", (), models.IntegerField())  # noqa: S611 (there is no input in it)

        messages = count("messagecount", "COALESCE(MAX(c.count), 0)")
        return self.annotate(message_count=messages, contact_count=count("contact"), chat_count=count("chat"))

    def with_token_strength(self) -> InstanceQuerySet:
        """Annotate each instance with `has_short_token` and `has_shared_token`; no token is decrypted for it.

        A shared one is also another instance's, or a key. Where it is the provider's credential, too, instances may
        share it among themselves: it is often a business's token of the Graph API.
        """
        keys = apps.get_model("instances", "ApiKey").objects.values("digest")
        is_key = Q(token_digest__in=digests(settings.AUTHENTICATION_API_KEY)) | Q(token_digest__in=keys)
        others = Instance.objects.filter(token_digest=OuterRef("token_digest")).exclude(pk=OuterRef("pk"))
        may_share = Q(integration__in=shared_credentials())
        is_shared = is_key | Q(Exists(others.exclude(may_share))) | (~may_share & Exists(others))
        return self.annotate(
            has_short_token=LessThanOrEqual(Length("token"), _WEAK_CIPHER_LENGTH),
            has_shared_token=ExpressionWrapper(is_shared, models.BooleanField()),
        )

    def locked(self) -> InstanceQuerySet:
        """Lock the rows until the transaction ends, ordered by id: transactions that lock several cannot deadlock."""
        return self.order_by("id").select_for_update(no_key=True)


class Instance(models.Model):
    """A WhatsApp number: its name, keys, profile and connection state."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME_LENGTH, unique=True, validators=[validate_name])
    #: The name of a provider in settings.PROVIDERS; not a choice of the model, so that a new one needs no migration.
    integration = models.CharField(max_length=MAX_INTEGRATION_LENGTH, default="EVOLUTION")
    number = models.CharField(
        max_length=255, null=True, blank=True, help_text="The number by which the provider knows the instance."
    )
    business_id = models.CharField(max_length=255, null=True, blank=True, help_text="WhatsApp business account id.")
    unique_key = models.CharField(
        max_length=255,
        null=True,
        editable=False,
        help_text="What no other instance of this integration may have. Filled by the provider; empty: it may repeat.",
    )
    owner_jid = models.CharField("owner JID", max_length=255, null=True, blank=True)
    profile_name = PlainField(max_length=255, null=True, blank=True)
    profile_pic_url = models.TextField("profile picture URL", null=True, blank=True)
    connection_state = models.CharField(max_length=16, choices=ConnectionState, default=ConnectionState.CLOSE)
    logged_out_at = models.DateTimeField(
        null=True, editable=False, help_text="When it was logged out; until it is connected again, it sends nothing."
    )
    settings = JsonField(default=dict, blank=True)
    metadata = JsonField(default=dict, blank=True)
    token_digest = models.CharField(max_length=64, db_index=True, editable=False)
    token = EncryptedField(editable=False)
    token_changed_at = models.DateTimeField(
        null=True, editable=False, help_text="When it was given its token; empty if that was before this was recorded."
    )
    provider_token = EncryptedField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = InstanceQuerySet.as_manager()

    #: Subscriptions of this instance and global ones, where the ingress queue has read them for a batch of instances.
    known_subscriptions: list[Any] | None = None

    #: Values of KEY_COLUMNS as read or committed, to detect which of them were set on this object since.
    _loaded: dict[str, Any] = {}

    class Meta:
        ordering = ("name",)
        # inbound payloads are matched to instances by these columns
        indexes = (
            models.Index(fields=("number",), name="instance_number"),
            models.Index(fields=("business_id",), name="instance_business_id"),
        )
        constraints = (
            # an inbound payload names only the number, so a number must identify one instance; null may repeat
            models.UniqueConstraint(
                fields=("integration", "unique_key"),
                name="instance_unique_key",
                violation_error_message="This number is already in use.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the instance, announce a new connection state, and bump the access revision if its keys changed."""
        if not self.token_digest:
            self.give_token(new_token())
        state = self.__dict__.get("connection_state")
        if state == ConnectionState.OPEN and self.__dict__.get("logged_out_at"):
            self.logged_out_at = None  # whoever opens it ends the log-out, be it in the admin
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], "logged_out_at"}
        update_fields = kwargs.get("update_fields")
        keys = KEY_COLUMNS if update_fields is None else KEY_COLUMNS.intersection(update_fields)
        if update_fields is None or UNIQUE_COLUMNS.intersection(update_fields):
            self.fill_unique_key()
            kwargs["update_fields"] = None if update_fields is None else {*update_fields, "unique_key"}
        with transaction.atomic():
            is_access_change = bool(keys) and not self._state.adding and self._changes_access(keys)
            super().save(*args, **kwargs)
            if is_access_change:
                AccessRevision.bump()
            if keys:
                self._remember_on_commit(keys)
            if getattr(self, "_announced_state", state) != state:
                announce(EventType.CONNECTION_UPDATE, self, self._connection_update())
        self._announced_state = state

    def fill_unique_key(self) -> None:
        """Set the column of the unique constraint, as the integration declares it."""
        self.unique_key = self.provider.unique_key(self)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Validate the constraints, also that of `unique_key`, which Django skips in forms: they do not have it."""
        self.fill_unique_key()
        others = Instance.objects.filter(integration=self.integration, unique_key=self.unique_key).exclude(pk=self.pk)
        if self.unique_key and others.exists():
            member = self.provider.unique
            raise ValidationError({MEMBERS[member]: f"This {member} is already in use."})
        super().validate_constraints(exclude=exclude)

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Instance:
        instance = super().from_db(*args, **kwargs)
        instance._announced_state = instance.__dict__.get("connection_state")
        instance._loaded = instance._loaded_values(KEY_COLUMNS)
        return instance

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, from_queryset: Any = None
    ) -> None:
        fields = None if fields is None else list(fields)
        super().refresh_from_db(using, fields, from_queryset)
        self._announced_state = self.__dict__.get("connection_state")
        keys = KEY_COLUMNS if fields is None else KEY_COLUMNS.intersection(fields)
        self._loaded = self._loaded | self._loaded_values(keys)

    def _loaded_values(self, names: frozenset[str]) -> dict[str, Any]:
        """Return the values of these fields without those that are deferred."""
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    def _remember_on_commit(self, names: frozenset[str]) -> None:
        """Take these values for the stored ones once they are committed, not if they are rolled back."""
        saved = self._loaded_values(names)
        transaction.on_commit(lambda: self.__dict__.update(_loaded=self._loaded | saved))

    def _changes_access(self, names: frozenset[str]) -> bool:
        """Return whether saving these columns changes which keys open the instance.

        Columns that were not set on this object are first overwritten with their stored values: the object may have
        been loaded before the token was rotated, and saving it must not make the former token valid again.
        """
        stored = Instance.objects.locked().filter(pk=self.pk).values(*KEY_COLUMNS).first()
        if stored is None:
            return False
        for name in KEY_COLUMNS:
            if self.__dict__.get(name) == self._loaded.get(name):
                self.__dict__[name] = stored[name]
        return any(self.__dict__[name] != stored[name] for name in names & {"name", "token_digest"})

    def _connection_update(self) -> dict[str, Any]:
        reason = LOGGED_OUT if self.__dict__.get("logged_out_at") else 200
        return {"instance": self.name, "state": self.connection_state, "statusReason": reason}

    def log_out(self) -> bool:
        """Close the connection until somebody opens it again, and announce it; return False if it is closed already.

        Call it in a transaction that has locked the instance.
        """
        if self.connection_state == ConnectionState.CLOSE:
            return False
        self.connection_state, self.logged_out_at = ConnectionState.CLOSE, timezone.now()
        announce(EventType.STATUS_INSTANCE, self, {"instance": self.name, "status": "closed"} | self.disconnection)
        announce(EventType.LOGOUT_INSTANCE, self, None)
        self.save(update_fields=["connection_state", "logged_out_at", "updated_at"])
        return True

    def reopen(self) -> None:
        """Open the connection of an instance that the caller has locked, and announce it."""
        self.connection_state = ConnectionState.OPEN
        self.save(update_fields=["connection_state", "logged_out_at", "updated_at"])

    @property
    def disconnection(self) -> dict[str, Any]:
        """The time and cause of a log-out by the names of Evolution API's rows; null where there was none."""
        if self.logged_out_at is None:
            return dict.fromkeys(("disconnectionAt", "disconnectionReasonCode", "disconnectionObject"))
        at = iso(self.logged_out_at)
        payload = {"statusCode": LOGGED_OUT, "error": "Unauthorized", "message": "Intentional Logout"}
        cause = {"error": {"output": {"statusCode": LOGGED_OUT, "payload": payload}}, "date": at}
        return {
            "disconnectionAt": at,
            "disconnectionReasonCode": LOGGED_OUT,
            "disconnectionObject": orjson.dumps(cause).decode(),
        }

    def give_token(self, token: str) -> None:
        """Set the instance's own token without saving it."""
        self.token = Secret(token)
        self.token_digest = digest(token)
        self.token_changed_at = timezone.now()

    def rotate_token(self, token: str = "") -> None:
        """Replace the instance's own token, by a random one unless given; the provider's token stays the same."""
        self.give_token(token or new_token())
        self.save(update_fields=["token", "token_digest", "token_changed_at", "updated_at"])

    @property
    def provider(self) -> Integration:
        """The integration of the instance, as its provider declares it."""
        return integration_of(self.integration)

    @property
    def phone(self) -> str | None:
        """The instance's own phone number in digits, where it is known."""
        return digits(self.owner_jid or "") or (self.number if self.provider.number_is_phone and self.number else None)

    @property
    def sender(self) -> str | None:
        """The JID that events name as `sender`; like Evolution API's, only WhatsApp Web's events have one."""
        return self.owner_jid if self.provider.names_sender else None
