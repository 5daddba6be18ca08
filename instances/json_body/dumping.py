"""Serializing of large values in pieces, to the bytes that orjson would make of the whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson

from instances.json_body.text import PIECE

#: Bytes of an item or member besides those of its text, of which a value's size is estimated.
ITEM = 8


def is_large(value: Any, size: int = PIECE) -> bool:
    """Return whether a value has more than about `size` characters, so that it is to be serialized in pieces.

    It is asked for each event, and takes two microseconds for a usual one.
    """
    waiting = [value]
    for each in waiting:
        kind = each.__class__
        if kind is str:
            size -= len(each)
        elif kind is dict or kind is list or kind is tuple:
            size -= ITEM * len(each)
            if size < 0:
                return True
            if kind is dict:
                size -= _length_of_names(each)
                waiting += each.values()
            else:
                waiting += each
    return size < 0


def _length_of_names(value: dict[Any, Any]) -> int:
    try:
        return sum(map(len, value))
    except TypeError:  # some are numbers
        return sum(len(name) for name in value if isinstance(name, str))


def dump_in_pieces(
    value: Any, default: Callable[[Any], Any] | None = None, option: int = 0, size: int = PIECE
) -> bytes:
    """Return a value as JSON that is made of pieces of about `size` characters; arguments and errors are orjson's.

    The options may be those that concern single members: OPT_NON_STR_KEYS, not OPT_SORT_KEYS.
    """
    dumping = _Dumping(default, option, size)
    found = dumping.measure(value)
    return b"".join(found) if isinstance(found, list) else dumping.dump(value)


class _Dumping:
    """The serializing of one value."""

    def __init__(self, default: Callable[[Any], Any] | None, option: int, size: int) -> None:
        self._default = default
        self._option = option
        self._size = size

    def dump(self, value: Any) -> bytes:
        return orjson.dumps(value, self._default, self._option)

    def measure(self, value: Any) -> int | list[bytes]:
        """Return the size of a value that is to be serialized together with others, or the pieces of its JSON."""
        kind = value.__class__
        if kind is str:
            return len(value) if len(value) <= self._size else [b'"', *self._text(value), b'"']
        if kind is dict:
            return self._measure_object(value)
        if kind is list or kind is tuple:
            return self._measure_array(value)
        return ITEM

    def _text(self, text: str) -> list[bytes]:
        return [self.dump(text[at : at + self._size])[1:-1] for at in range(0, len(text), self._size)]

    def _measure_array(self, array: list[Any] | tuple[Any, ...]) -> int | list[bytes]:
        pieces: list[bytes] = []
        begin = size = 0

        def dump_before(end: int) -> None:
            if begin < end:
                pieces.extend((b",", self.dump(array[begin:end])[1:-1]))

        for index, item in enumerate(array):
            found = self.measure(item)
            if isinstance(found, list):
                dump_before(index)
                pieces += [b",", *found]
                begin, size = index + 1, 0
            else:
                size += found + ITEM
                if size > self._size:
                    dump_before(index + 1)
                    begin, size = index + 1, 0
        if not pieces:
            return size
        dump_before(len(array))
        return [b"[", *pieces[1:], b"]"]

    def _measure_object(self, value: dict[Any, Any]) -> int | list[bytes]:
        pieces: list[bytes] = []
        waiting = iter(value.items())  # of these, `count` are measured and not serialized
        count = size = 0

        def dump_waiting() -> None:
            if count:
                pieces.extend((b",", self.dump(dict(islice(waiting, count)))[1:-1]))

        for name, member in value.items():
            length = len(name) if name.__class__ is str else ITEM
            found = self.measure(member)
            if isinstance(found, list) or length > self._size:
                dump_waiting()
                next(waiting)
                pieces += [b",", *self._name(name), *(found if isinstance(found, list) else [self.dump(member)])]
                count = size = 0
            else:
                count += 1
                size += length + found + ITEM
                if size > self._size:
                    dump_waiting()
                    count = size = 0
        if not pieces:
            return size
        dump_waiting()
        return [b"{", *pieces[1:], b"}"]

    def _name(self, name: Any) -> list[bytes]:
        """Return the pieces of a member's name, with the colon."""
        if name.__class__ is str and len(name) > self._size:
            return [b'"', *self._text(name), b'":']
        return [self.dump({name: 0})[1:-2]]
