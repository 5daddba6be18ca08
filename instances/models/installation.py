from __future__ import annotations

import uuid

from django.db import models


class Installation(models.Model):
    """The one row that identifies this installation, the same for all processes on the database."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    identifier = models.UUIDField(default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.identifier)

    @classmethod
    def current(cls) -> Installation:
        """Return the row; the first that asks makes it, at random."""
        installation, _ = cls.objects.get_or_create(pk=1)
        return installation
