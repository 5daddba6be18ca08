"""Offsets: the positions in the log that clients are given, and give back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from instances.numbers import whole_number
from realtime.log.cursor import Cursor

#: Maximum length of a pid or an offset, in characters.
MAX_LENGTH = 300

#: The epochs that streams have.
EPOCH = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Offset:
    """A position in a stream, in one epoch of it: a seq, or a cursor in the stream of all instances."""

    epoch: str
    position: int | Cursor

    def __str__(self) -> str:
        numbers = self.position if isinstance(self.position, Cursor) else (self.position,)
        return f"{self.epoch}.{'-'.join(map(str, numbers))}"

    @classmethod
    def parse(cls, text: Any) -> Offset | None:
        """Return the offset that a text stands for; None for anything that is not `str()` of an offset."""
        if not isinstance(text, str) or len(text) > MAX_LENGTH:
            return None
        epoch, _, position = text.partition(".")
        match [whole_number(number, digits=19) for number in position.split("-")]:
            case [int(seq)]:
                return cls(epoch, seq)
            case [int(low), int(high), int(row)]:
                return cls(epoch, Cursor(low, high, row))
        return None
