"""Settings of the C library's allocator."""

from __future__ import annotations

import ctypes
from contextlib import suppress

#: Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes from which a block is mapped by itself, so that it goes back to the system when it is freed.
LARGE_BLOCK = 1024 * 1024
#: Free bytes at the end of each heap that are kept.
KEPT = 1024 * 1024


def return_large_blocks() -> None:
    """Have glibc return freed large blocks to the system: events of megabytes would leave holes in its heaps.

    By default it raises its threshold up to 32 MiB, as soon as large blocks are freed. Other C libraries have no such
    call, and return them by themselves.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def trim() -> None:
    """Have glibc return the free pages within its heaps to the system; it takes milliseconds, without the GIL."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
