"""Fixtures of the console's tests: staff users of each kind, logged in to this process."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from instances.models import Instance, StaffRole, Subscription


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro")


@pytest.fixture
def log_in(db):
    """Log in as a superuser, or as a user with a role, limited to `limit` unless that is None."""

    def log_in(role=None, limit=None):
        user = User.objects.create(username=f"{role}-{User.objects.count()}", is_staff=True, is_superuser=role is None)
        if role:
            row = StaffRole.objects.create(user=user, role=role, is_limited=limit is not None)
            row.instances.set(limit or [])
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        return client

    return log_in


@pytest.fixture
def websocket_settings(db):
    """Set the websocket settings of an instance."""

    def set_settings(instance, enabled, events=()):
        Subscription.objects.update_or_create(
            instance=instance,
            transport=Subscription.WEBSOCKET,
            defaults={"is_enabled": enabled, "events": list(events)},
        )

    return set_settings
