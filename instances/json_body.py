"""Parsing of untrusted JSON."""

from __future__ import annotations

import json
from typing import Any

import orjson

#: Levels of nesting that are accepted; other JSON parsers and serializers fail at a few hundred.
MAX_DEPTH = 100


class NotJson(ValueError):
    """Raised, with a message for the client, for a body that is not JSON or is nested too deep."""


def load(body: bytes) -> Any:
    """Return the value in a JSON body; raises NotJson.

    A lone surrogate, which programs leave when they truncate a text within an emoji, becomes a question mark.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _load_replacing_surrogates(body, error)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise NotJson(f"The body is nested more than {MAX_DEPTH} levels deep")
    return value


def _load_replacing_surrogates(body: bytes, error: Exception) -> Any:
    try:
        return orjson.loads(json.dumps(json.loads(body), ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        raise NotJson(f"The body is not JSON: {error}") from None


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(child, depth - 1) for child in children)
