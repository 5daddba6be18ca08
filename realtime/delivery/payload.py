"""Payloads: the bytes of a delivery, in parts that other deliveries share."""

from __future__ import annotations

from collections.abc import Iterator


class Payload:
    """Bytes in parts, which are joined only where somebody needs them in one piece: large ones are not copied."""

    def __init__(self, *parts: bytes | memoryview) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __bytes__(self) -> bytes:
        return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)

    def begin(self, size: int) -> bytes:
        """Return the first `size` bytes, or all if they are fewer."""
        found = b""
        for part in self._parts:
            if len(found) < size:
                found += memoryview(part)[: size - len(found)]
        return found

    def end(self, size: int) -> bytes:
        """Return the last `size` bytes, or all if they are fewer."""
        found = b""
        for part in reversed(self._parts):
            if len(found) < size:
                found = bytes(memoryview(part)[-(size - len(found)) :]) + found
        return found

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the bytes in pieces of up to `size`, none of them copied."""
        for part in self._parts:
            view = memoryview(part)
            for begin in range(0, len(view), size):
                yield view[begin : begin + size]
