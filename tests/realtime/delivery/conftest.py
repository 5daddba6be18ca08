"""An instance, a server in this process, and retries that follow each other at once."""

from __future__ import annotations

import pytest

from instances.models import Instance
from tests.in_process import InProcessServer


@pytest.fixture
def loja(transactional_db):
    instance = Instance(name="loja")
    instance.save()
    return instance


@pytest.fixture
def inside(transactional_db):
    with InProcessServer() as running:
        yield running


@pytest.fixture
def short_retries(settings):
    """Five attempts, each 50 ms after the one before."""
    settings.WEBHOOK_RETRY_MAX_ATTEMPTS, settings.WEBHOOK_RETRY_INITIAL_DELAY_SECONDS = 5, 0.05
    settings.WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF = False
