"""The event types, and the signal that emits events.

Any Django app in the process may emit an event:

    event_occurred.send(sender=..., instance=instance, event_type="messages.upsert", data={...})

A receiver records it in the caller's transaction; it is delivered to sockets and webhooks after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.dispatch import Signal

from instances.events.example import Example
from instances.events.extra import EXTRA_MEMBERS, check_extra
from instances.events.groups import EventGroup
from instances.events.scrubbing import without_keys
from instances.events.types import GROUP_UPDATE, EventType
from instances.spelling import describe_unknown

__all__ = [
    "DEFAULT_EVENTS",
    "EXTRA_MEMBERS",
    "GROUP_UPDATE",
    "SUBSCRIBABLE",
    "EventGroup",
    "EventType",
    "Example",
    "UnknownEvent",
    "access_changed",
    "announce",
    "check_extra",
    "describe_unknown_event",
    "event_occurred",
    "grouped_names",
    "grouped_types",
    "is_whole",
    "parse_events",
    "without_keys",
]

#: The signal of an event. Sent with `instance` (Instance), `event_type` (EventType or its value), `data` (JSON-ready)
#: and, if a repeat must be ignored, `dedupe_key` (a string that is unique to the event within the instance). With
#: `messages.set`, `extra` may have `isLatest` and `progress`, which stand first in the envelope.
event_occurred = Signal()

#: The signal of a change to any key's access. Sent after the commit, in the process that made the change; other
#: processes read `AccessRevision.current()`.
access_changed = Signal()


#: The names that clients are shown for `events: []`, which stands for all events: Evolution API 2.4's, in its order.
DEFAULT_EVENTS = [
    *("APPLICATION_STARTUP", "QRCODE_UPDATED", "MESSAGES_SET", "MESSAGES_UPSERT", "MESSAGES_EDITED"),
    *("MESSAGES_UPDATE", "MESSAGES_DELETE", "SEND_MESSAGE", "SEND_MESSAGE_UPDATE", "CONTACTS_SET"),
    *("CONTACTS_UPSERT", "CONTACTS_UPDATE", "PRESENCE_UPDATE", "CHATS_SET", "CHATS_UPSERT", "CHATS_UPDATE"),
    *("CHATS_DELETE", "GROUPS_UPSERT", GROUP_UPDATE, "GROUP_PARTICIPANTS_UPDATE", "CONNECTION_UPDATE"),
    *("LABELS_EDIT", "LABELS_ASSOCIATION", "CALL", "TYPEBOT_START", "TYPEBOT_CHANGE_STATUS"),
    *("MESSAGING_HISTORY_SET", "REMOVE_INSTANCE", "LOGOUT_INSTANCE", "INSTANCE_CREATE", "INSTANCE_DELETE"),
    "STATUS_INSTANCE",
]

#: Every name a subscription may hold.
SUBSCRIBABLE = [*DEFAULT_EVENTS, *(t.name for t in EventType if t.is_subscribable and t.name not in DEFAULT_EVENTS)]

_SINCE_2_4 = {"MESSAGING_HISTORY_SET"}
_NOT_MARKED = {"MESSAGES_EDITED", "SEND_MESSAGE_UPDATE", "INSTANCE_CREATE", "INSTANCE_DELETE", "STATUS_INSTANCE"}
#: The lists by which clients ask for all events: those of Evolution API 2.4 and 2.3, and "Mark all" of its manager.
_WHOLE_LISTS = (
    frozenset(DEFAULT_EVENTS),
    frozenset(DEFAULT_EVENTS) - _SINCE_2_4,
    frozenset(DEFAULT_EVENTS) - _SINCE_2_4 - _NOT_MARKED,
)


def is_whole(names: Iterable[str]) -> bool:
    """Return whether a list of names asks for all events, so that an empty list is to be stored for it."""
    return frozenset(GROUP_UPDATE if name == "GROUPS_UPDATE" else name for name in names) in _WHOLE_LISTS


def grouped_types() -> dict[EventGroup, list[EventType]]:
    """Return the event types that clients may subscribe to, by group, in the order of the groups."""
    found: dict[EventGroup, list[EventType]] = {group: [] for group in EventGroup}
    for event_type in EventType:
        if event_type.is_subscribable:
            found[event_type.group].append(event_type)
    return found


def grouped_names() -> dict[EventGroup, list[str]]:
    """Return every name that a subscription may hold, by group."""
    spellings = {EventType.GROUPS_UPDATE: [EventType.GROUPS_UPDATE.name, GROUP_UPDATE]}
    return {
        group: [name for each in types for name in spellings.get(each, [each.name])]
        for group, types in grouped_types().items()
    }


class UnknownEvent(ValueError):
    """A name that is no event type's; the text names the nearest ones."""


def parse_events(names: Sequence[Any]) -> frozenset[EventType]:
    """Return the event types that are listed by name or value. Raises UnknownEvent for the first that is none."""
    found = set()
    for name in names:
        event_type = EventType.named(name.strip() if isinstance(name, str) else name)
        if event_type is None:
            raise UnknownEvent(describe_unknown_event(name))
        found.add(event_type)
    return frozenset(found)


def describe_unknown_event(name: Any, known: Iterable[str] = SUBSCRIBABLE) -> str:
    """Return a sentence about a value that is no event's name, with the nearest of the known names, or with all."""
    if not isinstance(name, str):
        return f"Events are listed by their names, which are texts; not by a value of type {type(name).__name__}"
    return describe_unknown("event", name, known)


def announce(event_type: EventType, instance: Any, data: Any, dedupe_key: str | None = None) -> None:
    """Send `event_occurred`; to be called in the transaction of the change that the event reports."""
    event_occurred.send(
        sender=type(instance), instance=instance, event_type=event_type, data=data, dedupe_key=dedupe_key
    )
