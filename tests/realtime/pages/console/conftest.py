"""Fixtures of the console's tests: staff users of each kind, logged in to this process."""

from __future__ import annotations

import pytest

from instances.models import Instance, Subscription
from tests.staff_users import client_of, staff_user


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro")


@pytest.fixture
def log_in(db):
    """Log in as a superuser, or as a user with a role, limited to `limit` unless that is None."""

    def log_in(role=None, limit=None):
        return client_of(staff_user(role or "", limit, is_superuser=role is None))

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
