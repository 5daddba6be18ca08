"""Fixtures of the tests of the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from instances.models import Instance


@pytest.fixture
def admin_user(db):
    """Like pytest-django's fixture, without hashing a password for each test."""
    return User.objects.create(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja centro", number="551199", connection_state="open")
