"""Large values in statements: a connection keeps buffers of their size, so it is closed at the end of its request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Bytes, or characters, from which a value is large.
LARGE = 256 * 1024
#: The `close_at` of a connection that is closed when its request ends, as Django does with those that are too old.
AT_ONCE = 0

_SIZED = frozenset({str, bytes, memoryview})


def has_large(params: Iterable[Any]) -> bool:
    """Return whether any value of a statement is large."""
    for value in params:  # noqa: SIM110 (a generator takes longer, and this is done for every statement)
        if value.__class__ in _SIZED and len(value) >= LARGE:
            return True
    return False
