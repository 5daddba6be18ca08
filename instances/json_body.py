"""Parsing of untrusted JSON.

Whatever a body holds, no step takes long in one piece: orjson keeps the GIL, and so all other threads waiting, for some
200 ns for each member or item, so their number is limited before it begins. All else is done piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from threading import Lock
from typing import Any

import orjson

from instances.bounds import JSON_STRUCTURE

#: Levels of nesting that are accepted; other JSON parsers and serializers fail at a few hundred.
MAX_DEPTH = 100
#: Bytes of a body from which one is parsed at a time: a value takes several times the memory of its body, and several
#: threads that keep the GIL may each be next before the event loop is.
LARGE = 256 * 1024
#: Bytes of a text in which lone surrogates are replaced on an event loop; it takes 50 ms for 1 MB.
REPAIRED_ON_LOOP = 128 * 1024
#: Bytes that are counted in one piece.
PIECE = 256 * 1024

_parsing = Lock()


class NotJson(ValueError):
    """Raised, with a message for the client, for a body that is not JSON, nested too deep or has too many members."""


def load(body: bytes) -> Any:
    """Return the value in a JSON body; raises NotJson.

    A lone surrogate, which programs leave when they truncate a text within an emoji, becomes a question mark.
    """
    with _parsing if len(body) > LARGE else nullcontext():
        if len(body) > JSON_STRUCTURE and _has_too_much_structure(body):
            raise NotJson(
                f"The body has over {JSON_STRUCTURE} of the characters {{ [ , and : outside of strings: send less at a"
                " time"
            )
        value = _parse(body)
        _check_depth(body, value)
    return value


def load_on_loop(body: bytes) -> Any:
    """Return the value in a JSON text of little structure, on an event loop: without waiting, in a few milliseconds.

    Raises ValueError; for lone surrogates, too, in texts over REPAIRED_ON_LOOP bytes.
    """
    value = _parse(body) if len(body) <= REPAIRED_ON_LOOP else orjson.loads(body)
    _check_depth(body, value)
    return value


def _check_depth(body: bytes, value: Any) -> None:
    if _may_be_deeper(body, MAX_DEPTH) and _is_deeper(value, MAX_DEPTH):
        raise NotJson(f"The body is nested more than {MAX_DEPTH} levels deep")


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return orjson.loads(_without_lone_surrogates(body))
        except orjson.JSONDecodeError:
            raise NotJson(f"The body is not JSON: {error}") from None


def _may_be_deeper(body: bytes, depth: int) -> bool:
    """Return whether the body has enough brackets for more levels."""
    found = 0
    for start in range(0, len(body), PIECE):
        found += body.count(b"{", start, start + PIECE) + body.count(b"[", start, start + PIECE)
        if found > depth:
            return True
    return False


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(child, depth - 1) for child in children)


# The structure


def _has_too_much_structure(body: bytes) -> bool:
    """Return whether there are more than JSON_STRUCTURE of `{`, `[`, `,` and `:` outside of strings."""
    return _exceeds(_slices(body)) and _exceeds(_outside_of_strings(body))


def _exceeds(pieces: Iterator[bytes]) -> bool:
    """Return whether the pieces have more than JSON_STRUCTURE of these characters together."""
    found = 0
    for piece in pieces:
        found += len(piece) - len(piece.translate(None, b"{[,:"))
        if found > JSON_STRUCTURE:
            return True
    return False


def _slices(body: bytes) -> Iterator[bytes]:
    return (body[start : start + PIECE] for start in range(0, len(body), PIECE))


def _outside_of_strings(body: bytes) -> Iterator[bytes]:
    """Yield the JSON text piece by piece, without its strings."""
    is_inside = False
    for piece in _pieces(body):
        parts = piece.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0


#: A piece of JSON text, up to 256 KiB, that ends neither within an escape sequence nor within a character, nor between
#: the two escapes of a surrogate pair.
_PIECE = re.compile(
    rb"(?:[^\\\xed]{1,64}|\xed(?:[\xa0-\xbf][\x80-\xbf])?"
    rb"|\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|.)?){1,4096}",
    re.DOTALL,
)


def _pieces(body: bytes) -> Iterator[bytes]:
    return (match.group() for match in _PIECE.finditer(body))


# Surrogates

#: Half of a surrogate pair without the other one, as an escape or encoded; each `\` begins an escape.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\xed[\xa0-\xbf][\x80-\xbf]"
)


def _without_lone_surrogates(body: bytes) -> bytes:
    """Return JSON text with a question mark for each lone surrogate, and without a byte order mark."""
    if b"\0" in body:
        return body  # it is not JSON, and NUL is needed to set escaped backslashes aside
    pieces = (_LONE_SURROGATE.sub(b"?", piece.replace(rb"\\", b"\0")) for piece in _pieces(body))
    return b"".join(piece.replace(b"\0", rb"\\") for piece in pieces).removeprefix(b"\xef\xbb\xbf")
