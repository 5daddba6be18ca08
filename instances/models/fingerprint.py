from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction

from instances.crypto import digest

#: The row of the key that encrypts. Those of former keys, under which secrets may still be stored, begin with it.
ENCRYPTION = "ENCRYPTION_KEYS"


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
        cls._check_secret_key()
        cls._check_encryption_keys()

    @classmethod
    def _check_secret_key(cls) -> None:
        digests = [digest("evoapi", key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
        fingerprint, _ = cls.objects.get_or_create(name="SECRET_KEY", defaults={"digest": digests[0]})
        if fingerprint.digest not in digests:
            raise ImproperlyConfigured(
                "SECRET_KEY is not the one that this database was written with. Restore the former one, or add it to "
                "SECRET_KEY_FALLBACKS."
            )
        cls.objects.filter(pk=fingerprint.pk).exclude(digest=digests[0]).update(digest=digests[0])

    @classmethod
    def _check_encryption_keys(cls) -> None:
        digests = _digests()
        current, _ = cls.objects.get_or_create(name=ENCRYPTION, defaults={"digest": digests[0]})
        if cls._missing().exists():
            raise ImproperlyConfigured(
                "ENCRYPTION_KEYS is not what this database was written with: a key is missing under which secrets are "
                "stored. Add it behind the others; `manage.py rotate_secrets` encrypts them anew, then it may go. If "
                "it is lost, `manage.py rotate_secrets --forget-missing-keys` says which secrets are."
            )
        if current.digest != digests[0]:
            with transaction.atomic():
                former = f"{ENCRYPTION} {current.digest[:16]}"
                cls.objects.get_or_create(name=former, defaults={"digest": current.digest})
                cls.objects.filter(name=ENCRYPTION).update(digest=digests[0])

    @classmethod
    def forget_former_keys(cls) -> None:
        """Forget the keys of which no secret is stored any more."""
        cls.objects.filter(name__startswith=f"{ENCRYPTION} ", digest__in=_digests()).delete()

    @classmethod
    def forget_missing_keys(cls) -> None:
        """Forget the keys that are not in ENCRYPTION_KEYS: what is stored under them stays unreadable."""
        cls._missing().delete()

    @classmethod
    def _missing(cls) -> models.QuerySet[Fingerprint]:
        return cls.objects.filter(name__startswith=ENCRYPTION).exclude(digest__in=_digests())


def _digests() -> list[str]:
    return [digest("evoapi", key) for key in settings.ENCRYPTION_KEYS]
