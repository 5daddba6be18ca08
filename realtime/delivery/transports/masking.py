"""Masks the secrets that a receiver repeats in its response.

A receiver may repeat a header as JSON, HTML, a URL or bytes of another charset, so response and secrets are compared
with escapes undone and case folded, and as they are. The receiver chooses the response, and a tenant the secrets: both
are bounded, each search is plain and linear, and a response that cannot be searched within the bounds is not shown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass

from instances.crypto import MASK
from instances.outbound.webhook_headers import MAX_HEADERS, MAX_TOTAL
from realtime.delivery.transports.base import MAX_EXCERPT

#: Characters of the shortest value that is masked. A shorter one would be found everywhere.
MIN_MASKED = 6
#: Bytes of a response that are searched: enough for an excerpt in any script, and a long secret before it.
MAX_SEARCHED = 4 * MAX_EXCERPT
#: Characters of a secret that are searched for. Where they are found, its full length is masked.
MAX_NEEDLE = 256
#: Values, their characters together, and their notations that are searched for.
MAX_VALUES, MAX_CHARACTERS, MAX_NEEDLES = MAX_HEADERS + 10, 2 * MAX_TOTAL, 500
#: Levels of nested escapes that are undone, in a secret and in a response, which escapes the secret again.
SECRET_LEVELS, RESPONSE_LEVELS = 2, 4
#: Escapes that are undone in one slice.
SLICE = 200

#: An escape of JSON or Python, of a URL, or of HTML, also where it was escaped again in the same way; NUL occurs in
#: UTF-16. Each alternative begins with another character, and consumes all that it has matched.
_ESCAPE = re.compile(
    r"""
    \\+ (?: u (?P<pair> [dD][89abAB][0-9a-fA-F]{2} \\+ u [dD][c-fC-F][0-9a-fA-F]{2} )
          | u (?P<unicode> [0-9a-fA-F]{4} ) | U00 (?P<astral> 0[0-9a-fA-F]{5} | 10[0-9a-fA-F]{4} )
          | x (?P<byte> [0-9a-fA-F]{2} ) | (?P<tab> t ) )?
    | \x00+
    | % (?:25)* (?P<percent> [0-9a-fA-F]{2} )
    | & (?:amp;)* (?P<entity> \#[0-9]{1,7} | \#[xX][0-9a-fA-F]{1,6} | [a-zA-Z][a-zA-Z0-9]{0,31} ) ;
    """,
    re.VERBOSE,
)
_MASKED = re.compile(b"\1+")


class Unsearchable(Exception):
    """Raised with the reason why a response cannot be searched."""


@dataclass(frozen=True)
class FoldedText:
    """A normalized response, with the offsets of its characters in the response."""

    folded: str
    #: For each character, the start and end of the character or escape in the response that it stands for.
    starts: Sequence[int]
    ends: Sequence[int]


def excerpt(body: bytes, secrets: Collection[str], is_complete: bool) -> Generator[None, None, str]:
    """Decode a response and mask the secrets; returns up to MAX_EXCERPT characters, or the reason why it does not.

    It yields every few milliseconds, for Turns. `is_complete`: False for a truncated response, which may end in the
    middle of a secret.
    """
    text = body[:MAX_SEARCHED].decode(errors="replace")
    if secrets and len(text) >= MIN_MASKED:
        try:
            needles = yield from _needles(secrets)
        except Unsearchable as reason:
            return f"[The answer is not shown: {reason}]"
        text = yield from _mask(text, needles, is_complete and len(body) <= MAX_SEARCHED)
    text = text[:MAX_EXCERPT]
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_visible, text))[:MAX_EXCERPT]


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


# The secrets


def _needles(secrets: Collection[str]) -> Generator[None, None, set[str]]:
    """Return all notations of the secrets to search for. Raises Unsearchable."""
    if len(secrets) > MAX_VALUES or sum(map(len, secrets)) > MAX_CHARACTERS:
        raise Unsearchable("it may repeat the endpoint's headers, and they are too many or too long to be looked for")
    needles: set[str] = set()
    for secret in secrets:
        for part in (secret, _credential(secret)):
            for text in _charsets(part) if len(part) >= MIN_MASKED else ():
                needles |= {_folded(text), _folded(_unescaped(text))}
                yield
        if len(needles) > MAX_NEEDLES:
            raise Unsearchable("it may repeat the endpoint's headers, and there are too many ways to write them")
    if any(len(needle) < MIN_MASKED for needle in needles):
        raise Unsearchable("it may repeat a header whose value is little more than escapes")
    return needles


def _credential(value: str) -> str:
    """Return the credentials behind a scheme ("Bearer …"): receivers repeat them alone."""
    return value.partition(" ")[2].strip()


def _charsets(secret: str) -> Iterator[str]:
    """Yield the secret, its UTF-8 decoded as Latin-1, and its Latin-1 decoded as UTF-8.

    A secret beyond ASCII is also yielded in lower and upper case, which may have more letters.
    """
    if secret.isascii():
        yield secret
        return
    for text in {secret, secret.lower(), secret.upper()}:
        yield text
        yield text.encode(errors="replace").decode("latin-1")
        yield text.encode("latin-1", "replace").decode(errors="replace")


def _unescaped(secret: str) -> str:
    """Undo escapes. Raises Unsearchable for a secret with more than SECRET_LEVELS of nested escapes."""
    for _ in range(SECRET_LEVELS + 1):
        text, secret = secret, _ESCAPE.sub(_unescape, secret)
        if text == secret:
            return text
    raise Unsearchable("it may repeat a header whose value holds escapes within escapes")


def _unescape(escape: re.Match[str]) -> str:
    """Return the character that an escape stands for."""
    match escape.lastgroup:
        case None:  # backslashes: the character that they escape follows, however many there are
            return ""
        case "tab":
            return "\t"
        case "pair":
            return bytes.fromhex(escape["pair"][:4] + escape["pair"][-4:]).decode("utf-16-be")
        case "entity":
            return html.unescape(f"&{escape['entity']};")
        case name:
            return chr(int(escape[name], 16))


def _folded(text: str) -> str:
    """Return the text in one case, with a space for each character that encodes one; its length stays."""
    folded = text.lower() if text.isascii() else "".join(map(_fold, text))
    return folded.replace("\t", " ").replace("+", " ").replace("\xa0", " ")


def _fold(character: str) -> str:
    """Fold the case of a character, unless that makes two of it: offsets must stay."""
    folded = character.casefold()
    return folded if len(folded) == 1 else character


# The response


def _mask(response: str, needles: Collection[str], is_complete: bool) -> Generator[None, None, str]:
    masked = bytearray(len(response))
    offsets = range(len(response) + 1)
    texts = [FoldedText(_folded(response), offsets[:-1], offsets[1:])]
    yield
    plain = yield from _without_escapes(response)
    if plain.folded != texts[0].folded:
        texts.append(plain)
    for text in texts:
        for needle in needles:
            _mark_all(text, needle, masked, is_complete)
            yield
    shown, last = [], 0
    for run in _MASKED.finditer(masked):
        shown += [response[last : run.start()], MASK]
        last = run.end()
    return "".join([*shown, response[last:]])


def _without_escapes(response: str) -> Generator[None, None, FoldedText]:
    """Undo escapes, and keep their offsets."""
    text, starts, ends = response, list(range(len(response))), list(range(1, len(response) + 1))
    for _ in range(RESPONSE_LEVELS):
        pieces: list[str] = []
        new_starts: list[int] = []
        new_ends: list[int] = []
        last = 0
        for number, escape in enumerate(_ESCAPE.finditer(text), 1):
            if number % SLICE == 0:
                yield
            character = _unescape(escape)
            if character == escape[0]:
                continue
            start, end = escape.span()
            pieces += [text[last:start], character]
            new_starts += [*starts[last:start], *[starts[start]] * len(character)]
            new_ends += [*ends[last:start], *[ends[end - 1]] * len(character)]
            last = end
        if not last:
            break
        text = "".join([*pieces, text[last:]])
        starts, ends = new_starts + starts[last:], new_ends + ends[last:]
        yield
    return FoldedText(_folded(text), starts, ends)


def _mark_all(text: FoldedText, needle: str, masked: bytearray, is_complete: bool) -> None:
    """Mark each occurrence in the response; in a truncated one, also the beginning of the needle at its end."""
    prefix = needle[:MAX_NEEDLE]
    size = len(text.folded)
    found = text.folded.find(prefix)
    while found >= 0:
        _mark(text, found, min(found + len(needle), size), masked)
        found = text.folded.find(prefix, found + len(prefix))
    if not is_complete:
        for length in range(min(len(prefix), size), MIN_MASKED - 1, -1):
            if prefix.startswith(text.folded[size - length :]):
                _mark(text, size - length, size, masked)
                break


def _mark(text: FoldedText, first: int, end: int, masked: bytearray) -> None:
    """Mark the characters of the response that the text's characters from `first` until before `end` stand for."""
    start, stop = text.starts[first], text.ends[end - 1]
    masked[start:stop] = b"\1" * (stop - start)
