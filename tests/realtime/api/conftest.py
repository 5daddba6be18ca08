from __future__ import annotations

import pytest

from instances.models import Subscription
from tests.realtime.api.rows import an_endpoint


@pytest.fixture
def endpoint(loja) -> Subscription:
    """An enabled webhook endpoint of the instance "loja", subscribed to CALL."""
    return an_endpoint(loja)
