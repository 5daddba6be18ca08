"""Shows the beginning of a receiver's answer without the secrets that it repeats.

A receiver writes what it was sent as JSON, HTML, a URL or bytes of another charset, so both the answer and the secrets
are searched with escapes undone and case folded, and as they are. The receiver chooses the one and a tenant the other:
both are bounded, each search is plain and linear, and what cannot be searched within the bounds is not shown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass

from instances.outbound.webhook_headers import MASK, MAX_HEADERS, MAX_TOTAL
from realtime.delivery.transports.base import MAX_EXCERPT

#: Characters from which on a value is looked for. A shorter one would be found everywhere.
MIN_MASKED = 6
#: Bytes of an answer that are looked through: enough for an excerpt in any script, and a long secret before it.
MAX_SEARCHED = 4 * MAX_EXCERPT
#: Characters of a secret that are looked for. Where they are found, as many as all of it has are masked.
MAX_NEEDLE = 256
#: Values, characters of them together, and ways to write them that are looked for.
MAX_VALUES, MAX_CHARACTERS, MAX_NEEDLES = MAX_HEADERS + 10, 2 * MAX_TOTAL, 500
#: Escapes that were escaped otherwise are undone so often, in a secret and in the answer, which escapes it again.
ROUNDS, MORE_ROUNDS = 2, 4
#: Escapes that are undone before others have a turn.
PIECE = 200

#: An escape of JSON or Python, of a URL, or of HTML, also where it was escaped again in the same way. NUL is there in
#: UTF-16. Each alternative begins with another character, and consumes what it has looked at.
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
_HIDDEN = re.compile(b"\1+")


class Unsearchable(Exception):
    """Says why an answer cannot be looked through."""


@dataclass(frozen=True)
class Text:
    """Maps an answer in the form that is searched to the answer as it came."""

    folded: str
    #: Of each character: where in the answer the character, or the escape, begins and ends that it came of.
    starts: Sequence[int]
    ends: Sequence[int]


def excerpt(answer: bytes, secrets: Collection[str], is_whole: bool) -> Generator[None, None, str]:
    """Decodes an answer and masks the secrets; returns up to MAX_EXCERPT characters, or a sentence why it does not.

    It works in pieces of a few milliseconds, for Turns. `is_whole`: the answer did not break off, as it may have done
    in the middle of a secret.
    """
    text = answer[:MAX_SEARCHED].decode(errors="replace")
    if secrets and len(text) >= MIN_MASKED:
        try:
            needles = yield from _needles(secrets)
        except Unsearchable as reason:
            return f"[The answer is not shown: {reason}]"
        text = yield from _masked(text, needles, is_whole and len(answer) <= MAX_SEARCHED)
    text = text[:MAX_EXCERPT]
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_visible, text))[:MAX_EXCERPT]


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


# What is looked for


def _needles(secrets: Collection[str]) -> Generator[None, None, set[str]]:
    """Returns all that is looked for. Raises Unsearchable."""
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
    """Returns the part behind a scheme ("Bearer …"), which receivers repeat alone."""
    return value.partition(" ")[2].strip()


def _charsets(secret: str) -> Iterator[str]:
    """Yields the secret as it is, with its bytes taken for Latin-1, and the other way round.

    Beyond ASCII also in lower and upper case: those may have more letters.
    """
    if secret.isascii():
        yield secret
        return
    for text in {secret, secret.lower(), secret.upper()}:
        yield text
        yield text.encode(errors="replace").decode("latin-1")
        yield text.encode("latin-1", "replace").decode(errors="replace")


def _unescaped(secret: str) -> str:
    """Undo escapes. Raises Unsearchable for a secret that is itself escaped in more ways than are undone."""
    for _ in range(ROUNDS + 1):
        text, secret = secret, _ESCAPE.sub(_meant, secret)
        if text == secret:
            return text
    raise Unsearchable("it may repeat a header whose value holds escapes within escapes")


def _meant(escape: re.Match[str]) -> str:
    match escape.lastgroup:
        case None:  # backslashes: what they escape stands behind them, however many there are
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
    """Returns the text in one case, with a space for each character that stands for one; of the same length."""
    folded = text.lower() if text.isascii() else "".join(map(_fold, text))
    return folded.replace("\t", " ").replace("+", " ").replace("\xa0", " ")


def _fold(character: str) -> str:
    """Leaves alone what would become two characters: positions have to stay."""
    folded = character.casefold()
    return folded if len(folded) == 1 else character


# Where it is looked for


def _masked(answer: str, needles: Collection[str], is_whole: bool) -> Generator[None, None, str]:
    hidden = bytearray(len(answer))
    positions = range(len(answer) + 1)
    texts = [Text(_folded(answer), positions[:-1], positions[1:])]
    yield
    plain = yield from _plain(answer)
    if plain.folded != texts[0].folded:
        texts.append(plain)
    for text in texts:
        for needle in needles:
            _hide(text, needle, hidden, is_whole)
            yield
    shown, last = [], 0
    for run in _HIDDEN.finditer(hidden):
        shown += [answer[last : run.start()], MASK]
        last = run.end()
    return "".join([*shown, answer[last:]])


def _plain(answer: str) -> Generator[None, None, Text]:
    """Undoes escapes, and remembers where they stood."""
    text, starts, ends = answer, list(range(len(answer))), list(range(1, len(answer) + 1))
    for _ in range(MORE_ROUNDS):
        pieces: list[str] = []
        new_starts: list[int] = []
        new_ends: list[int] = []
        last = 0
        for number, escape in enumerate(_ESCAPE.finditer(text), 1):
            if number % PIECE == 0:
                yield
            meant = _meant(escape)
            if meant == escape[0]:
                continue
            at, behind = escape.span()
            pieces += [text[last:at], meant]
            new_starts += [*starts[last:at], *[starts[at]] * len(meant)]
            new_ends += [*ends[last:at], *[ends[behind - 1]] * len(meant)]
            last = behind
        if not last:
            break
        text = "".join([*pieces, text[last:]])
        starts, ends = new_starts + starts[last:], new_ends + ends[last:]
        yield
    return Text(_folded(text), starts, ends)


def _hide(text: Text, needle: str, hidden: bytearray, is_whole: bool) -> None:
    """Marks where it stands in the answer, and where it begins at the end of one that is cut off."""
    begins = needle[:MAX_NEEDLE]
    size = len(text.folded)
    at = text.folded.find(begins)
    while at >= 0:
        _mark(text, at, min(at + len(needle), size), hidden)
        at = text.folded.find(begins, at + len(begins))
    if not is_whole:
        for length in range(min(len(begins), size), MIN_MASKED - 1, -1):
            if begins.startswith(text.folded[size - length :]):
                _mark(text, size - length, size, hidden)
                break


def _mark(text: Text, at: int, until: int, hidden: bytearray) -> None:
    start, end = text.starts[at], text.ends[until - 1]
    hidden[start:end] = b"\1" * (end - start)
