"""Random bytes for ids that are made by the thousand."""

from __future__ import annotations

import os
import threading

_lock = threading.Lock()
_pool = b""
_used = 0

POOL = 4096


def random_bytes(count: int) -> bytes:
    """As good as `os.urandom`, which lets go of the GIL each time and has to wait for it again."""
    global _pool, _used
    with _lock:
        if len(_pool) - _used < count:
            _pool, _used = os.urandom(max(POOL, count)), 0
        _used += count
        return _pool[_used - count : _used]
