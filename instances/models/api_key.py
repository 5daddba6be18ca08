from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from instances.crypto import digest
from instances.fields import JsonField
from instances.models.instance import Instance


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> ApiKeyQuerySet:
        """Keys that are neither revoked nor expired."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True)

    def issue(self, name: str, scopes: list[str], **fields: Any) -> tuple[ApiKey, str]:
        """Create a key. Return it with its secret, which is not stored and cannot be shown again."""
        secret = f"evo_{secrets.token_urlsafe(32)}"
        key = self.create(name=name, scopes=scopes, digest=digest(secret), prefix=secret[:12], **fields)
        return key, secret


class ApiKey(models.Model):
    """An API key, limited to scopes and instances and, optionally, until a time."""

    class Scope(models.TextChoices):
        LISTEN = "listen"
        READ = "read"
        SEND = "send"
        PUBLISH = "publish"
        MANAGE = "manage"

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = JsonField(default=list)
    all_instances = models.BooleanField(default=False, help_text="Including instances created later.")
    instances = models.ManyToManyField(Instance, blank=True, related_name="api_keys")
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():  # a receiver of post_save bumps the access revision
            super().save(*args, **kwargs)

    def clean(self) -> None:
        if unknown := set(self.scopes) - set(self.Scope.values):
            raise ValidationError({"scopes": f"There is no scope {', '.join(sorted(unknown))}"})

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    def opens(self, instance: Instance) -> bool:
        """Return whether the key gives access to the instance, whatever its scopes."""
        return self.all_instances or self.instances.filter(pk=instance.pk).exists()

    def revoke(self) -> None:
        """Revoke the key for good; a key that is revoked keeps its time."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

    @property
    def is_use_recorded(self) -> bool:
        """True if `last_used_at` was set within the last minute: a busy key is not written with every request."""
        return self.last_used_at is not None and timezone.now() - self.last_used_at <= timedelta(minutes=1)

    def record_use(self) -> None:
        """Set `last_used_at` to now, unless it was set within the last minute."""
        if not self.is_use_recorded:
            self.last_used_at = timezone.now()
            # a key that is being changed is not waited for: joins of other tenants would wait behind it
            with transaction.atomic():
                unlocked = type(self).objects.filter(pk=self.pk).select_for_update(skip_locked=True, no_key=True)
                type(self).objects.filter(pk__in=unlocked.values("pk")).update(last_used_at=self.last_used_at)
