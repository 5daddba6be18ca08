"""Fixtures of the tests of the API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.instances.api.webhooks import URL


@pytest.fixture
def set_webhook(call) -> Any:
    def set_webhook(**members: Any) -> Any:
        status, row = call("POST", "/webhook/set/loja", {"webhook": {"enabled": True, "url": URL} | members})
        assert status == 201, row
        return row

    return set_webhook
