"""Fixtures of the tests of the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from instances.models import Instance
from realtime.delivery import wakeup


@pytest.fixture
def admin_user(db):
    return User.objects.create(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def loja(db):
    return Instance.objects.create(name="loja centro")


@pytest.fixture
def woken():
    calls = []

    def listener():
        calls.append(1)

    wakeup.listeners.add(listener)
    yield calls
    wakeup.listeners.discard(listener)
