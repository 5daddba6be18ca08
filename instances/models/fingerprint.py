from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from instances.crypto import digest


class Fingerprint(models.Model):
    """Digest of a secret that this database was written with.

    A process with other secrets could decrypt nothing and would reject every key.
    """

    name = models.CharField(max_length=32, primary_key=True)
    digest = models.CharField(max_length=64)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def check_all(cls) -> None:
        """Raise ImproperlyConfigured unless SECRET_KEY and ENCRYPTION_KEYS are those of the database."""
        cls._check("SECRET_KEY", [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])
        cls._check("ENCRYPTION_KEYS", settings.ENCRYPTION_KEYS)

    @classmethod
    def _check(cls, name: str, keys: list[str]) -> None:
        digests = [digest("evoapi", key) for key in keys]
        fingerprint, _ = cls.objects.get_or_create(name=name, defaults={"digest": digests[0]})
        if fingerprint.digest not in digests:
            hint = "add it to SECRET_KEY_FALLBACKS" if name == "SECRET_KEY" else "add it after the new one"
            raise ImproperlyConfigured(
                f"{name} is not the one that this database was written with. Restore the former one, or {hint}."
            )
        if fingerprint.digest != digests[0]:
            cls.objects.filter(pk=name).update(digest=digests[0])
