"""Examples in the OpenAPI document for the routes whose views have none: requests, and what a server has answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson

#: By operation id, and there by "request" or the status of an answer.
FILE = Path(__file__).with_suffix(".json")


@cache
def _examples() -> dict[str, dict[str, Any]]:
    examples: dict[str, dict[str, Any]] = orjson.loads(FILE.read_bytes())
    return examples


def add_examples(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add examples to a document. A hook of drf-spectacular's, called with its generator, too."""
    for path in result["paths"].values():
        for operation in path.values():
            for kind, example in _examples().get(operation["operationId"], {}).items():
                part = operation.get("requestBody") if kind == "request" else operation["responses"].get(kind)
                for content in (part or {}).get("content", {}).values():
                    if "examples" not in content:
                        content.setdefault("example", example)
    return result
