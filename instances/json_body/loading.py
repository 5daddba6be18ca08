"""Parsing of large JSON texts in pieces, with the same value, or the same error, as orjson would give for the whole.

A text is cut outside of strings: before a comma, or behind the bracket that opens an array or an object. What is
between two cuts is a chunk. With the brackets in front that are open there, and those that close them behind, it is a
text that orjson parses; what it has for an array or object that was open before is added to that one. Strings of over a
piece are parsed piece by piece, and the chunk has a short one in their place.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from instances.json_body import text

#: Levels of nesting that are accepted; other JSON parsers and serializers fail at a few hundred.
MAX_DEPTH = 100

#: Bytes that are parsed in one piece; of brackets they are 32,000 arrays, which take 3 ms.
PIECE = 64 * 1024

_BRACKETS = b"[]{}"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_OBJECT = ord("{")
_CLOSING = {ord("["): ord("]"), _OBJECT: ord("}")}
_NOT_UTF8 = "str is not valid UTF-8: surrogates not allowed: line 1 column 1 (char 0)"
_NO_BYTE_ORDER_MARK = "UTF-8 byte order mark (BOM) is not supported"


class NotJson(ValueError):
    """Raised, with a message for the client, for a body that is not JSON, nested too deep or has too many members."""


def load_in_pieces(body: bytes, size: int = PIECE) -> Any:
    """Return the value in a JSON text, which is parsed in pieces of about `size` bytes, over 50. Raises NotJson.

    A lone surrogate becomes a question mark, and a byte order mark is ignored. A text that is nested too deep is
    refused for that, whatever else is wrong with it.
    """
    return _Loading(body, size).value()


# The chunks


class LongText(NamedTuple):
    """The place of a long string in the body, without its quotes."""

    start: int
    end: int
    #: False if the body ends within it.
    is_closed: bool


class Chunk(NamedTuple):
    """The text between two cuts."""

    #: Its parts, as places in the body; between two of them there is a long text.
    parts: Sequence[tuple[int, int]]
    long_texts: Sequence[LongText]
    #: The brackets that are open at its beginning and at its end.
    opened: bytes
    still_open: bytes
    #: The number of those at its beginning that are not closed within it.
    kept: int
    #: True for the last one, behind which nothing is to be closed.
    is_last: bool


class TooDeep(Exception):
    """Raised for more than MAX_DEPTH brackets that are open at the same time."""


class _Brackets:
    """The brackets that are open at a place of the text."""

    def __init__(self) -> None:
        self.open = bytearray()
        self.lowest = 0
        #: True once one was closed that was not open: then the text is not JSON.
        self.is_broken = False

    def read(self, brackets: bytes) -> None:
        """Go on behind these brackets. Raises TooDeep."""
        opened = self.open
        for bracket in brackets:
            if bracket in _CLOSING:
                opened.append(bracket)
                if len(opened) > MAX_DEPTH:
                    raise TooDeep
            elif opened and _CLOSING[opened[-1]] == bracket:
                opened.pop()
                if len(opened) < self.lowest:
                    self.lowest = len(opened)
            else:
                self.is_broken = True
                return


def _chunks(body: bytes, start: int, size: int) -> Iterator[Chunk]:
    """Cut a body into chunks; one whose brackets do not fit is the last. Raises TooDeep."""
    brackets, opened = _Brackets(), b""
    parts: list[tuple[int, int]] = []
    long_texts: list[LongText] = []
    is_inside = False
    text_start, last_quote, at = -1, -1, start
    for piece in text.pieces(body, start, size=size):
        unescaped = text.without_escapes(piece)
        begin, at = at, at + len(piece)
        if is_inside and b'"' not in unescaped:
            if text_start < 0:
                text_start = last_quote + 1
                parts.append((start, text_start))
            continue
        if text_start >= 0:
            start = begin + unescaped.index(b'"')
            long_texts.append(LongText(text_start, start, is_closed=True))
            text_start = -1
        if b'"' in unescaped:
            last_quote = begin + unescaped.rindex(b'"')
        strings = unescaped.split(b'"')
        cut, before, behind = _cut(strings, is_inside)
        is_inside ^= len(strings) % 2 == 0
        brackets.read(before)
        if cut >= 0 and brackets.open and not brackets.is_broken:
            still_open = bytes(brackets.open)
            parts.append((start, begin + cut))
            yield Chunk(parts, long_texts, opened, still_open, brackets.lowest, is_last=False)
            parts, long_texts, start, opened = [], [], begin + cut, still_open
            brackets.lowest = len(still_open)
        brackets.read(behind)
        if brackets.is_broken:
            yield Chunk([*parts, (start, at)], long_texts, opened, b"", 0, is_last=True)
            return
    if text_start >= 0:
        long_texts.append(LongText(text_start, len(body), is_closed=False))
        start = len(body)
    yield Chunk([*parts, (start, len(body))], long_texts, opened, b"", 0, is_last=True)


def _cut(strings: list[bytes], is_inside: bool) -> tuple[int, bytes, bytes]:
    """Return the last place in a piece where it may be cut, or -1, and the brackets before it and behind it.

    `strings` is the piece without its quotes; every other one of them is within a string.
    """
    outside = b'"'.join(strings[is_inside::2])
    cut = max(outside.rfind(b","), outside.rfind(b"[") + 1 or -1, outside.rfind(b"{") + 1 or -1)
    before = outside[: max(cut, 0)].translate(None, _ALL_BUT_BRACKETS)
    behind = outside[max(cut, 0) :].translate(None, _ALL_BUT_BRACKETS)
    if cut < 0:
        return cut, before, behind
    quotes = 2 * outside.count(b'"', 0, cut) + is_inside
    within = cut - outside.rfind(b'"', 0, cut) - 1
    return sum(map(len, strings[:quotes])) + quotes + within, before, behind


# Their values


class _Failure(NamedTuple):
    """An error of orjson's, and its place in the body."""

    offset: int
    message: str


class _Loading:
    """The parsing of one body."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body = body
        self._size = size
        # names that no client knows: of what goes on within a chunk, of what goes on behind it, and of long texts
        name = secrets.token_hex(16)
        self._first, self._last, self._long = f"{name}<", f"{name}>", f"{name}="
        self._document: list[Any] = []
        #: The document, which has one item, and the arrays and objects that are open in it, the innermost last.
        self._open: list[Any] = [self._document]
        #: The mistakes that were found; those that are lone surrogates were mended.
        self._failures: list[_Failure] = []

    def value(self) -> Any:
        """Return the value of the body. Raises NotJson."""
        start = 0
        if self._body.startswith(text.BYTE_ORDER_MARK):
            start = len(text.BYTE_ORDER_MARK)
            self._failures.append(_Failure(0, _NO_BYTE_ORDER_MARK))
        try:
            for chunk in _chunks(self._body, start, self._size):
                self._add(chunk, self._parse(chunk))
        except TooDeep:
            raise NotJson(f"The body is nested more than {MAX_DEPTH} levels deep") from None
        return self._document[0]

    def _add(self, chunk: Chunk, value: Any) -> None:
        """Add what a chunk holds to what was open before it, and note what is open behind it."""
        parts = [[value]]
        for _ in chunk.opened:
            parts.append(_take(parts[-1], 0, self._first))
        if self._begins_with_comma(chunk):
            _take(parts[-1], 0, self._first)
        for container, part in zip(self._open, parts, strict=True):
            container.extend(part) if isinstance(container, list) else container.update(part)
        if not chunk.is_last:
            deeper = len(chunk.still_open) - chunk.kept
            path = self._path_to_last(parts[chunk.kept], deeper) if deeper else []
            self._open[chunk.kept + 1 :] = path or []
            _take(self._open[-1], -1, self._last)

    def _path_to_last(self, container: Any, depth: int) -> list[Any] | None:
        """Return the arrays and objects, each within the one before, from a container to the one that is open."""
        if depth == 0:
            is_open = container[-1:] == [self._last] if isinstance(container, list) else self._last in container
            return [] if is_open else None
        # the last member of an object need not be the one that was written last, if names are repeated
        for child in container[-1:] if isinstance(container, list) else reversed(container.values()):
            if isinstance(child, (list, dict)):
                path = self._path_to_last(child, depth - 1)
                if path is not None:
                    return [child, *path]
        return None

    # Parsing

    def _begins_with_comma(self, chunk: Chunk) -> bool:
        return bool(chunk.opened) and self._body.startswith(b",", chunk.parts[0][0])

    def _parse(self, chunk: Chunk) -> Any:
        """Return the value of a chunk within the brackets that are open. Raises NotJson."""
        before, behind = self._opening(chunk), self._closing(chunk)
        texts = [self._body[start:end] for start, end in chunk.parts]
        names = [f"{self._long}{number}" for number in range(len(chunk.long_texts))]
        for number, name in enumerate(names):
            texts.insert(2 * number + 1, name.encode())
        json = b"".join([before, *texts, behind])
        try:
            value = orjson.loads(json)
        except orjson.JSONDecodeError as error:
            offset = self._offset_in_body(chunk, _offset(error) - len(before), list(map(len, names)))
            self._note_failure(error, offset)
            try:
                value = orjson.loads(text.without_lone_surrogates(json))
            except orjson.JSONDecodeError:
                for long_text in chunk.long_texts:
                    if long_text.start < offset:
                        self._parse_text(long_text)  # it may have the first mistake
                raise self._error() from None
        if not names:
            return value
        return _filled(value, dict(zip(names, map(self._parse_text, chunk.long_texts), strict=True)))

    def _opening(self, chunk: Chunk) -> bytes:
        """Return JSON that opens what is open at the beginning of a chunk."""
        if not chunk.opened:
            return b""
        name = b'"%b":' % self._first.encode()
        outer = b"".join(b"{" + name if bracket == _OBJECT else b"[" for bracket in chunk.opened[:-1])
        inner = chunk.opened[-1:]
        if self._begins_with_comma(chunk):
            inner += name + b"0" if inner == b"{" else b"0"
        return outer + inner

    def _closing(self, chunk: Chunk) -> bytes:
        """Return JSON that marks the innermost of what is open at the end of a chunk, and closes it all."""
        if chunk.is_last:
            return b""
        name = self._last.encode()
        comma = b"," if self._body.startswith(b",", chunk.parts[-1][1]) else b""
        mark = b'"%b"' % name if chunk.still_open.endswith(b"[") else b'"%b":0' % name
        return comma + mark + bytes(_CLOSING[bracket] for bracket in reversed(chunk.still_open))

    def _parse_text(self, long_text: LongText) -> str:
        """Return a long string, parsed in pieces. Raises NotJson."""
        parts = []
        at = long_text.start
        for piece in text.pieces(self._body, long_text.start, long_text.end, self._size):
            is_open = not long_text.is_closed and at + len(piece) == long_text.end
            json = b'"%b"' % piece if not is_open else b'"' + piece
            try:
                parts.append(orjson.loads(json))
            except orjson.JSONDecodeError as error:
                self._note_failure(error, at + _offset(error) - 1)
                try:
                    parts.append(orjson.loads(text.without_lone_surrogates(json)))
                except orjson.JSONDecodeError:
                    raise self._error() from None
            at += len(piece)
        return "".join(parts)

    # Errors

    def _note_failure(self, error: orjson.JSONDecodeError, offset: int) -> None:
        self._failures.append(_Failure(offset, error.msg))

    def _error(self) -> NotJson:
        """Return the error that orjson would give for the whole text: its first mistake, unless it is not UTF-8."""
        if text.is_utf8(self._body):
            first = min(self._failures)
            return NotJson(f"The body is not JSON: {first.message}: {text.describe_position(self._body, first.offset)}")
        return NotJson(f"The body is not JSON: {_NOT_UTF8}")

    def _offset_in_body(self, chunk: Chunk, offset: int, lengths: list[int]) -> int:
        """Return the place in the body of one in a chunk's text, whose long texts are of these lengths there."""
        for (start, end), length in zip(chunk.parts, [*lengths, 0], strict=True):
            if offset <= end - start:
                return start + offset
            offset -= end - start + length
        return len(self._body)


def _take(container: Any, index: int, name: str) -> Any:
    """Remove an item of an array by its index, or of an object by its name, and return it."""
    return container.pop(index if isinstance(container, list) else name)


def _filled(value: Any, texts: dict[str, str]) -> Any:
    """Return a value with texts in place of their names, in arrays, objects and names of members."""
    if isinstance(value, list):
        value[:] = [_filled(item, texts) for item in value]
    elif isinstance(value, dict):
        members = [(texts.get(name, name), _filled(member, texts)) for name, member in value.items()]
        value.clear()
        value.update(members)
    elif isinstance(value, str):
        return texts.get(value, value)
    return value


def _offset(error: orjson.JSONDecodeError) -> int:
    """Return the offset of an error in bytes."""
    return len(error.doc[: error.pos].encode())
