from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction

from instances.models.instance import Instance


class StaffRole(models.Model):
    """The role of a staff user, and the instances that he is limited to.

    A staff user without a row has the permissions that are given to him, and all instances. `instances.access.rights`
    says what each role may do.
    """

    class Role(models.TextChoices):
        VIEWER = "viewer"
        OPERATOR = "operator"
        ADMINISTRATOR = "administrator"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="staff_role")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    is_limited = models.BooleanField(
        "limited", default=False, help_text="To the instances below; without any, the user sees none."
    )
    instances = models.ManyToManyField(Instance, blank=True, related_name="staff_roles")

    class Meta:
        verbose_name = "role"

    def __str__(self) -> str:
        return f"{self.get_role_display()}, limited" if self.is_limited else self.get_role_display()

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():  # a receiver of post_save bumps the access revision
            super().save(*args, **kwargs)

    def clean(self) -> None:
        if self.role == self.Role.ADMINISTRATOR and self.is_limited:
            raise ValidationError({"is_limited": "An administrator has all instances: choose another role to limit."})
