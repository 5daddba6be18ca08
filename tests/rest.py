"""Fixtures for tests that call the API in this process: `pytest_plugins = ("tests.rest",)`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from instances.models import Instance
from tests.end_to_end.test_bad_input import is_evolutions_shape


@pytest.fixture
def loja(db) -> Instance:
    return Instance.objects.create(name="loja")


@pytest.fixture
def other(db) -> Instance:
    return Instance.objects.create(name="other")


@pytest.fixture
def call(client, loja) -> Any:
    """Send a request with loja's own token or `key`: call("POST", "/webhook/set/loja", {...}) → status and JSON."""

    def call(method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        response = client.generic(
            method,
            path,
            b"" if body is None else orjson.dumps(body),
            content_type="application/json",
            headers={"apikey": key or loja.token.reveal()},
        )
        content = orjson.loads(response.content)
        assert response.status_code < 400 or is_evolutions_shape(response.status_code, content), content
        return response.status_code, content

    return call
