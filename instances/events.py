"""The event types, and the signal that emits events.

Any Django app in the process may emit an event:

    event_occurred.send(sender=..., instance=instance, event_type="messages.upsert", data={...})

A receiver records it in the caller's transaction; it is delivered to sockets and webhooks after the commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from django.db.models import TextChoices
from django.dispatch import Signal

#: The signal of an event. Sent with `instance` (Instance), `event_type` (EventType or its value), `data` (JSON-ready)
#: and, if a repeat must be ignored, `dedupe_key` (a string that is unique to the event within the instance).
event_occurred = Signal()

#: The signal of a change to any key's access. Sent after the commit, in the process that made the change; other
#: processes read `AccessRevision.current()`.
access_changed = Signal()


class EventType(TextChoices):
    """The types of events: clients subscribe to a member's name and receive its value.

    Both are Evolution API's. Each type is announced in one place: `grep EventType.MESSAGES_UPSERT`.
    """

    APPLICATION_STARTUP = "application.startup"
    INSTANCE_CREATE = "instance.create"
    INSTANCE_DELETE = "instance.delete"
    QRCODE_UPDATED = "qrcode.updated"
    CONNECTION_UPDATE = "connection.update"
    STATUS_INSTANCE = "status.instance"
    MESSAGES_SET = "messages.set"
    MESSAGES_UPSERT = "messages.upsert"
    MESSAGES_EDITED = "messages.edited"
    MESSAGES_UPDATE = "messages.update"
    MESSAGES_DELETE = "messages.delete"
    SEND_MESSAGE = "send.message"
    SEND_MESSAGE_UPDATE = "send.message.update"
    CONTACTS_SET = "contacts.set"
    CONTACTS_UPSERT = "contacts.upsert"
    CONTACTS_UPDATE = "contacts.update"
    PRESENCE_UPDATE = "presence.update"
    CHATS_SET = "chats.set"
    CHATS_UPDATE = "chats.update"
    CHATS_UPSERT = "chats.upsert"
    CHATS_DELETE = "chats.delete"
    GROUPS_UPSERT = "groups.upsert"
    GROUPS_UPDATE = "groups.update"
    GROUP_PARTICIPANTS_UPDATE = "group-participants.update"
    CALL = "call"
    TYPEBOT_START = "typebot.start"
    TYPEBOT_CHANGE_STATUS = "typebot.change-status"
    LABELS_EDIT = "labels.edit"
    LABELS_ASSOCIATION = "labels.association"
    CREDS_UPDATE = "creds.update"
    MESSAGING_HISTORY_SET = "messaging-history.set"
    REMOVE_INSTANCE = "remove.instance"
    LOGOUT_INSTANCE = "logout.instance"
    #: Not in Evolution API: any other change of the business account, as Meta reported it.
    BUSINESS_UPDATE = "business.update"
    #: Not in Evolution API: a webhook or another endpoint was disabled, because it was gone or had failed for days.
    ENDPOINT_DISABLED = "endpoint.disabled"
    #: Not in Evolution API: deliveries were not enqueued, because too many are pending or their transport is off.
    DELIVERIES_DROPPED = "deliveries.dropped"

    @property
    def is_subscribable(self) -> bool:
        return self not in _INTERNAL

    @property
    def is_publishable(self) -> bool:
        """True if a client may publish events of this type; the other types report this server's own state."""
        return self not in _INTERNAL | _LIFE_CYCLE

    @classmethod
    def named(cls, name: Any) -> EventType | None:
        """Return the type with this name or value, or None."""
        return _BY_NAME.get(name) if isinstance(name, str) else None

    def is_wanted_by(self, names: Iterable[str]) -> bool:
        """Return whether a subscription to these names includes this type; Evolution API spells one in two ways."""
        return self.name in names or (self is EventType.GROUPS_UPDATE and GROUP_UPDATE in names)

    def scrub(self, data: Any) -> Any:
        """Return a copy of `data` without keys and tokens, fit for a log with many readers.

        In message contents the keys of media and polls stay: whoever may read a message may open what it has.
        """
        if self in _HOLDS_MESSAGES:
            return _without(data, _KEYS_OF_CONTENTS, _PARTS_OF_MESSAGES)
        if self in _HOLDS_PROTOCOL:
            return _without(data, _KEY_MATERIAL, _PARTS_OF_MESSAGES)
        return _without(data, _KEY_MATERIAL | _CREDENTIALS, {})


_INTERNAL = {EventType.CREDS_UPDATE}
_LIFE_CYCLE = {
    *(EventType.APPLICATION_STARTUP, EventType.INSTANCE_CREATE),
    *(EventType.INSTANCE_DELETE, EventType.REMOVE_INSTANCE),
    *(EventType.ENDPOINT_DISABLED, EventType.DELIVERIES_DROPPED),
}

#: The spelling of GROUPS_UPDATE in Evolution API's settings.
GROUP_UPDATE = "GROUP_UPDATE"

_BY_NAME = {
    **{event_type.value: event_type for event_type in EventType},
    **{event_type.name: event_type for event_type in EventType},
    GROUP_UPDATE: EventType.GROUPS_UPDATE,
}

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


class UnknownEvent(ValueError):
    """A name that is no event type's; the text names the nearest ones."""


def parse_events(names: Sequence[Any]) -> frozenset[EventType]:
    """Return the event types that are listed by name or value. Raises UnknownEvent for the first that is none."""
    found = set()
    for name in names:
        event_type = EventType.named(name)
        if event_type is None:
            raise UnknownEvent(_describe_unknown(name))
        found.add(event_type)
    return frozenset(found)


def _describe_unknown(name: Any) -> str:
    text = name[:64] if isinstance(name, str) else type(name).__name__
    nearest = get_close_matches(re.sub(r"[^A-Z0-9]", "_", text.upper()), SUBSCRIBABLE)
    if not isinstance(name, str):
        return f"Events are listed by their names, which are texts; not by a value of type {text}"
    if nearest:
        return f'There is no event "{text}"; the nearest are {", ".join(nearest)}'
    return f'There is no event "{text}"; the events are {", ".join(SUBSCRIBABLE)}'


def without_keys(content: Any) -> Any:
    """Return a copy of a message's content without any key, for readers who may open nothing."""
    return _without(content, _KEY_MATERIAL, {})


#: Types whose data is written by people: a member named "token" is part of their message, and stays.
_HOLDS_MESSAGES = {
    *(EventType.MESSAGES_SET, EventType.MESSAGES_UPSERT, EventType.MESSAGES_UPDATE),
    *(EventType.MESSAGES_DELETE, EventType.SEND_MESSAGE),
}
#: Types whose data is one of WhatsApp's protocol messages, which may hold an edited message.
_HOLDS_PROTOCOL = {EventType.MESSAGES_EDITED, EventType.SEND_MESSAGE_UPDATE}

#: Members that hold keys of WhatsApp's encryption or of this server, in lower case and without separators.
_KEY_MATERIAL = frozenset(
    {
        *(
            "mediakey",
            "messagesecret",
            "appstatesynckeyshare",
            "appstatesynckeyrequest",
            "senderkeydistributionmessage",
        ),
        *("fastratchetkeysenderkeydistributionmessage", "initialsecuritynotificationsettingsync", "noisekey"),
        *("signedidentitykey", "signedprekey", "pairingephemeralkeypair", "advsecretkey", "privkey", "privatekey"),
        *("apikey", "globalapikey", "accesstoken", "appsecret"),
    }
)
_CREDENTIALS = frozenset(
    {
        "token",
        "password",
        "secret",
        "authorization",
        "clientsecret",
        "refreshtoken",
        "jwtkey",
        "webhooksecret",
    }
)
#: Members of message contents that are removed: without them, nobody could decrypt media or count the votes of a poll.
_KEYS_OF_CONTENTS = _KEY_MATERIAL - {"mediakey", "messagesecret"}
#: The members to remove from parts of messages, by the part's name.
_PARTS_OF_MESSAGES = {
    "protocolmessage": _KEY_MATERIAL,
    "historysyncnotification": _KEY_MATERIAL,
    "messagehistorybundle": _KEY_MATERIAL,
    "editedmessage": _KEYS_OF_CONTENTS,
}
_SEPARATORS = re.compile(r"[^a-z0-9]")


def _without(data: Any, names: frozenset[str], parts: Mapping[str, frozenset[str]]) -> Any:
    """Return a copy without the members of these names, in any spelling; `parts` has other names for some members."""
    if isinstance(data, dict):
        kept = {}
        for key, value in data.items():
            name = _normalized(str(key)) if len(str(key)) < 64 else ""
            if name not in names:
                is_container = isinstance(value, _CONTAINERS)
                kept[key] = _without(value, parts.get(name, names), parts) if is_container else value
        return kept
    if isinstance(data, (list, tuple)):
        return [_without(item, names, parts) for item in data]
    return data


_CONTAINERS = (dict, list, tuple)


@lru_cache(maxsize=4096)
def _normalized(key: str) -> str:
    """Return a name without its separators; cached, because events have the same few members again and again."""
    return _SEPARATORS.sub("", key.lower())


def announce(event_type: EventType, instance: Any, data: Any, dedupe_key: str | None = None) -> None:
    """Send `event_occurred`; to be called in the transaction of the change that the event reports."""
    event_occurred.send(
        sender=type(instance), instance=instance, event_type=event_type, data=data, dedupe_key=dedupe_key
    )
