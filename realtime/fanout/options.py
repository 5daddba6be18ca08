"""The options of clients that read events, which mean the same over Socket.IO (`auth`), server-sent events and REST.

A value that can be read is read however it is spelled: a browser's localStorage and a query hold nothing but texts. Any
other is refused, in a sentence that names its kind and the form expected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from instances.bounds import LIST_ITEMS
from instances.events import UnknownEvent, parse_events
from realtime.fanout.offset import EPOCH, MAX_LENGTH, Offset

#: The forms of each option, for error messages.
EVENTS_FORM = 'names of events, as a list (["MESSAGES_UPSERT", "CALL"]) or separated by commas ("MESSAGES_UPSERT,CALL")'
FLAG_FORM = "true or false"
NUMBER_FORM = 'a whole number from 0, such as 42 or "42"'
SINCE_FORM = 'the seq of an event (42 or "42") or its offset, which is also its id ("9c2347a1eeccb389.42")'
GLOBAL_SINCE_FORM = 'an offset of "/", which comes as the last argument of each event to clients with recover: true'

#: A whole number as programs write it. More digits than a position in a database has are no number.
_NUMBER = re.compile(r"\+?([0-9]{1,20})(?:\.0*)?", re.ASCII)

_FLAGS = {"true": True, "false": False, "1": True, "0": False}


class InvalidOption(ValueError):
    """Raised, with a sentence for the client that names the option, for a value that cannot be read."""


def _unreadable(member: str, value: Any, form: str) -> InvalidOption:
    return InvalidOption(f"{member} cannot be read: it is {kind_of(value)}, not {form}")


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words; no part of the value itself."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a negative number" if value < 0 else "a number"
        case str():
            return f"a text of {len(value)} characters" if value else "an empty text"
        case list():
            return f"a list of {len(value)} items"
        case dict():
            return "an object"
    return f"a value of type {type(value).__name__}"


def parse_number(value: Any) -> int | None:
    """Return the whole number from 0 that a value spells: 42, 42.0, "42" or " 42 ". None for any other value."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip()) if len(value) <= MAX_LENGTH else None
        return int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return int(value) if value == value // 1 else None


def parse_since(member: str, value: Any) -> int | Offset | None:
    """Return the position after which a client wants all events: a seq or an offset; None for null and "".

    `member` is the option's name, where the client has put it. Raises InvalidOption.
    """
    text = value.strip() if isinstance(value, str) and len(value) <= MAX_LENGTH else value
    if text is None or text == "":
        return None
    offset = Offset.parse(text)
    if offset is not None and EPOCH.fullmatch(offset.epoch):  # first: an epoch may consist of digits
        return offset
    number = parse_number(text)
    if number is None:
        raise _unreadable(member, value, SINCE_FORM)
    return number


def parse_event_filter(member: str, value: Any) -> frozenset[str] | None:
    """Return the values of the event types that are listed by name or value; None, for all, where none are listed.

    Raises InvalidOption, with the nearest names for one that no event has.
    """
    names = value
    if isinstance(value, str):
        names = [name for name in dict.fromkeys(value.split(",")) if name.strip()] or value.strip()
    if names is None or names in ([], ""):
        return None
    if not isinstance(names, list):
        raise _unreadable(member, value, EVENTS_FORM)
    if len(names) > LIST_ITEMS:
        raise InvalidOption(f"{member}: Events are a list of names, {LIST_ITEMS} at most")
    try:
        return frozenset(event_type.value for event_type in parse_events(names))
    except UnknownEvent as error:
        raise InvalidOption(f"{member}: {error}") from None


def parse_flag(member: str, value: Any) -> bool:
    """Return the boolean that a value spells: true, "true" or 1; False for null and "". Raises InvalidOption."""
    if value is None or value == "":
        return False
    text = str(value).strip().lower() if isinstance(value, (str, int)) and len(str(value)) < 10 else ""
    if text not in _FLAGS:
        raise _unreadable(member, value, FLAG_FORM)
    return _FLAGS[text]


def single(member: str, values: Sequence[str]) -> str | None:
    """Return the value of a field of a query, None if it is absent. Raises InvalidOption for several values."""
    if len(set(values)) > 1:
        raise InvalidOption(f"{member} is given {len(values)} times, with different values: give it once")
    return values[0] if values else None
