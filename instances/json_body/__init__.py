"""JSON of any size and shape, parsed and serialized piece by piece.

orjson keeps the GIL, and so all other threads waiting, for as long as it works: up to 100 ms for 16 MB that are chosen
for it. So what is large is parsed (`loading`) and serialized (`dumping`) in pieces, for a few milliseconds each; the
values and the bytes are those that orjson would make of the whole. What is small takes the straight way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from threading import Lock
from typing import Any

import orjson

from instances.bounds import JSON_STRUCTURE
from instances.json_body import text
from instances.json_body.dumping import dump_in_pieces, is_large
from instances.json_body.loading import MAX_DEPTH, NotJson, load_in_pieces

__all__ = ["MAX_DEPTH", "NotJson", "dumps", "load", "load_on_loop", "load_stored"]

#: Bytes of a body from which one is parsed at a time, in pieces: a value takes several times the memory of its body.
LARGE = 256 * 1024
#: Bytes of a text in which lone surrogates are replaced on an event loop; it takes 50 ms for 1 MB.
REPAIRED_ON_LOOP = 128 * 1024

_parsing = Lock()


def load(body: bytes) -> Any:
    """Return the value in a JSON body; raises NotJson.

    A lone surrogate, which programs leave when they truncate a text within an emoji, becomes a question mark.
    """
    with _parsing if len(body) > LARGE else nullcontext():
        if len(body) > JSON_STRUCTURE and text.has_too_much_structure(body):
            raise NotJson(
                f"The body has over {JSON_STRUCTURE} of the characters {{ [ , and : outside of strings: send less at a"
                " time"
            )
        return load_in_pieces(body) if len(body) > LARGE else _load_at_once(body)


def load_on_loop(body: bytes) -> Any:
    """Return the value in a JSON text of little structure, on an event loop: without waiting, in a few milliseconds.

    Raises ValueError; for lone surrogates, too, in texts over REPAIRED_ON_LOOP bytes.
    """
    if len(body) <= REPAIRED_ON_LOOP:
        return _load_at_once(body)
    value = orjson.loads(body)
    _check_depth(body, value)
    return value


def load_stored(stored: str | bytes) -> Any:
    """Return the value in a JSON text that this server has serialized itself; raises ValueError."""
    body = stored.encode() if isinstance(stored, str) and len(stored) > LARGE else stored
    if isinstance(body, bytes) and len(body) > LARGE:
        with suppress(NotJson):  # it may be nested deeper than what clients send
            return load_in_pieces(body)
    return orjson.loads(body)


def dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """Return a value as JSON, as `orjson.dumps` does; raises TypeError for what JSON cannot represent."""
    if is_large(value):
        return dump_in_pieces(value, default, option)
    return orjson.dumps(value, default, option)


def _load_at_once(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            value = orjson.loads(text.without_lone_surrogates(body).removeprefix(text.BYTE_ORDER_MARK))
        except orjson.JSONDecodeError:
            raise NotJson(f"The body is not JSON: {error}") from None
    _check_depth(body, value)
    return value


def _check_depth(body: bytes, value: Any) -> None:
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise NotJson(f"The body is nested more than {MAX_DEPTH} levels deep")


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(child, depth - 1) for child in children)
