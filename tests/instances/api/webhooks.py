"""URLs and error texts of the tests of webhooks."""

from __future__ import annotations

from typing import Any

URL = "https://hook.example.com/in"
OTHER = "https://other.example.com/in"


def message(response: Any) -> Any:
    return response["response"]["message"]
