"""Examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample


def example_request(body: Any, name: str = "valid") -> OpenApiExample:
    return OpenApiExample(name, body, request_only=True)


def example_response(body: Any, status: int = 200, name: str = "done") -> OpenApiExample:
    return OpenApiExample(name, body, response_only=True, status_codes=[str(status)])
