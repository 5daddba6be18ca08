"""Staff users in this process's database."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from django.contrib.auth.models import Permission, User
from django.test import Client

from instances.models import Instance, StaffRole

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def staff_user(
    role: str = "", limit: Collection[Instance] | None = None, permissions: Collection[str] = (), **fields: object
) -> User:
    """Create a staff user with a role, limited to `limit` unless that is None, and with permissions (codenames)."""
    user = User.objects.create(**{"username": f"staff-{secrets.token_hex(4)}", "is_staff": True} | fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    if role:
        StaffRole.objects.create(user=user, role=role, is_limited=limit is not None).instances.set(limit or [])
    return User.objects.get(pk=user.pk)


def client_of(user: User) -> Client:
    """Return a client with a session of the user."""
    client = Client()
    client.force_login(user, MODEL_BACKEND)
    return client
