"""Names that are spelt like a name which nobody knows, for error messages and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

#: Characters of a name that are compared and shown.
MAX_SHOWN = 64
#: Similar names that an error lists, at most.
MAX_NEAREST = 3

_SEPARATORS = re.compile(r"[^a-z0-9]")


def nearest(name: str, known: Iterable[str], similarity: float = 0.6) -> list[str]:
    """Return up to MAX_NEAREST of the known names that are spelt like `name`, the most similar first.

    `similarity` is the least one, from 0 to 1.

    Case and separators do not count: `by_events` is as near to `byEvents` as can be.
    """
    by_letters: dict[str, str] = {}
    for each in known:
        by_letters.setdefault(_letters(each), each)
    return [by_letters[each] for each in get_close_matches(_letters(name), by_letters, MAX_NEAREST, similarity)]


def _letters(name: str) -> str:
    return _SEPARATORS.sub("", name[:MAX_SHOWN].lower())


def describe_unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """Return a sentence about a name that is none of the known ones, with the nearest of them, or with all.

    `noun` is what they name, such as "parameter".
    """
    known = list(known)
    text = name[:MAX_SHOWN]
    if found := nearest(text, known):
        return f'There is no {noun} "{text}"; the nearest {"is" if len(found) == 1 else "are"} {", ".join(found)}'
    if not known:
        return f'There is no {noun} "{text}": none is known here'
    return f'There is no {noun} "{text}"; the {noun}s are {", ".join(known)}'
