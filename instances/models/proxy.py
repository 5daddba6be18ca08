from __future__ import annotations

from collections.abc import Mapping

from django.db import models

from instances.fields import EncryptedField
from instances.models.instance import Instance


class Proxy(models.Model):
    """The proxy by which an engine of an instance is to reach WhatsApp; this server connects to nothing through it."""

    instance = models.OneToOneField(Instance, models.CASCADE, related_name="proxy")
    is_enabled = models.BooleanField("enabled", default=False)
    host = models.CharField(max_length=255, default="", blank=True)
    port = models.CharField(max_length=5, default="", blank=True)
    protocol = models.CharField(max_length=6, default="", blank=True)
    username = models.CharField(max_length=255, default="", blank=True)
    password = EncryptedField(default="", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "proxies"

    def __str__(self) -> str:
        return f"{self.instance}: {self.host or 'none'}"

    @classmethod
    def set(cls, instance: Instance, values: Mapping[str, str] | None) -> Proxy:
        """Store the proxy of an instance, by the names of the columns; None switches it off and forgets it.

        Without a password the stored one is kept.
        """
        empty = dict.fromkeys(("host", "port", "protocol", "username", "password"), "")
        proxy, _ = cls.objects.update_or_create(
            instance=instance, defaults={"is_enabled": values is not None} | (empty if values is None else dict(values))
        )
        return proxy
