"""JSON text, looked at piece by piece before it is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from instances.bounds import JSON_STRUCTURE

#: Bytes that are worked on in one piece.
PIECE = 256 * 1024

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Bytes that an escape of a surrogate pair has, and those of half of one.
_PAIR, _HALF = 12, 6
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")


def pieces(body: bytes, start: int = 0, end: int | None = None, size: int = PIECE) -> Iterator[bytes]:
    """Yield a part of a JSON text in pieces of up to `size` bytes, over 50, that end neither within an escape sequence
    nor within a character, nor between the two escapes of a surrogate pair. `start` is within none of them, either.
    """
    end = len(body) if end is None else end
    while end - start > size:
        cut = _cut(body, start, start + size)
        yield body[start:cut]
        start = cut
    if start < end:
        yield body[start:end]


def _cut(body: bytes, start: int, end: int) -> int:
    """Return the end of a piece, `end` or somewhat before."""
    last = body.rfind(b"\\", end - _PAIR, end)
    if last < 0:
        for cut in range(end, end - 4, -1):
            if body[cut] & 0xC0 != 0x80:  # no byte within a character
                return cut
        return end  # it is not UTF-8
    cut = last - _backslashes_before(body, start, last) % 2
    # the first half of a pair stays with the second one; of halves without one, so many stay together that a parser
    # finds fault with the same one as in the whole text
    halves = 0
    while halves < 3 and _is_high_surrogate(body, start, cut - _HALF * (halves + 1)):
        halves += 1
    return cut - _HALF * (halves if halves < 3 else 1)


def _backslashes_before(body: bytes, start: int, end: int) -> int:
    """Return the number of backslashes in a row up to `end`: every other one begins an escape."""
    return end - start - len(body[start:end].rstrip(b"\\"))


def _is_high_surrogate(body: bytes, start: int, at: int) -> bool:
    is_one = at > start and _HIGH_SURROGATE.match(body, at) is not None
    return is_one and _backslashes_before(body, start, at) % 2 == 0


def without_escapes(piece: bytes) -> bytes:
    """Return a piece of JSON text with other characters in place of escaped quotes and backslashes."""
    return piece.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in piece else piece


# The structure


def has_too_much_structure(body: bytes) -> bool:
    """Return whether there are more than JSON_STRUCTURE of `{`, `[`, `,` and `:` outside of strings."""
    slices = (body[start : start + PIECE] for start in range(0, len(body), PIECE))
    return _exceeds(slices) and _exceeds(_outside_of_strings(body))


def _exceeds(pieces: Iterator[bytes]) -> bool:
    """Return whether the pieces have more than JSON_STRUCTURE of these characters together."""
    found = 0
    for piece in pieces:
        found += len(piece) - len(piece.translate(None, b"{[,:"))
        if found > JSON_STRUCTURE:
            return True
    return False


def _outside_of_strings(body: bytes) -> Iterator[bytes]:
    """Yield the JSON text piece by piece, without its strings."""
    is_inside = False
    for piece in pieces(body):
        parts = without_escapes(piece).split(b'"')
        yield b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0


# Surrogates

#: Half of a surrogate pair without the other one, as an escape or encoded; each `\` begins an escape.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\xed[\xa0-\xbf][\x80-\xbf]"
)


def without_lone_surrogates(body: bytes) -> bytes:
    """Return JSON text with a question mark for each lone surrogate."""
    if b"\0" in body:
        return body  # it is not JSON, and NUL is needed to set escaped backslashes aside
    replaced = (_LONE_SURROGATE.sub(b"?", piece.replace(rb"\\", b"\0")) for piece in pieces(body))
    return b"".join(piece.replace(b"\0", rb"\\") for piece in replaced)


# Positions


def is_utf8(body: bytes) -> bool:
    try:
        for piece in pieces(body):
            piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def describe_position(body: bytes, offset: int) -> str:
    """Return the place of a byte, as the standard library's errors name it; the text before it is UTF-8."""
    before = body.rfind(b"\n", 0, offset) + 1
    line = body.count(b"\n", 0, offset) + 1
    column = _characters(body, before, offset) + 1
    return f"line {line} column {column} (char {_characters(body, 0, offset)})"


def _characters(body: bytes, start: int, end: int) -> int:
    return sum(len(piece.decode(errors="replace")) for piece in pieces(body, start, end))
