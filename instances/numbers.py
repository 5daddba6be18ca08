"""Numbers that clients write as text, in queries, paths and offsets."""

from __future__ import annotations


def whole_number(text: str, digits: int = 18) -> int | None:
    """Return the number that a text of 1 to `digits` decimal digits stands for; None for any other text.

    A number of 18 digits fits into a column of the database.
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None
