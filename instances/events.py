"""The event types, and the signal that emits events.

Any Django app in the process may emit an event:

    event_occurred.send(sender=..., instance=instance, event_type="messages.upsert", data={...})

A receiver records it in the caller's transaction; it is delivered to sockets and webhooks after the commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
        """Return a copy of `data` without keys and tokens, fit for a log with many readers."""
        return _without(data, _KEY_MATERIAL if self.value in _HOLDS_MESSAGES else _KEY_MATERIAL | _CREDENTIALS)


_INTERNAL = {EventType.CREDS_UPDATE, EventType.MESSAGING_HISTORY_SET}
_LIFE_CYCLE = {
    *(EventType.APPLICATION_STARTUP, EventType.INSTANCE_CREATE),
    *(EventType.INSTANCE_DELETE, EventType.REMOVE_INSTANCE, EventType.ENDPOINT_DISABLED),
}

#: The spelling of GROUPS_UPDATE in Evolution API's settings.
GROUP_UPDATE = "GROUP_UPDATE"

_BY_NAME = {
    **{event_type.value: event_type for event_type in EventType},
    **{event_type.name: event_type for event_type in EventType},
    GROUP_UPDATE: EventType.GROUPS_UPDATE,
}

#: The names that `events: []` stands for, in Evolution API's order.
DEFAULT_EVENTS = [
    *("APPLICATION_STARTUP", "QRCODE_UPDATED", "MESSAGES_SET", "MESSAGES_UPSERT", "MESSAGES_EDITED"),
    *("MESSAGES_UPDATE", "MESSAGES_DELETE", "SEND_MESSAGE", "SEND_MESSAGE_UPDATE", "CONTACTS_SET"),
    *("CONTACTS_UPSERT", "CONTACTS_UPDATE", "PRESENCE_UPDATE", "CHATS_SET", "CHATS_UPSERT", "CHATS_UPDATE"),
    *("CHATS_DELETE", "GROUPS_UPSERT", GROUP_UPDATE, "GROUP_PARTICIPANTS_UPDATE", "CONNECTION_UPDATE"),
    *("LABELS_EDIT", "LABELS_ASSOCIATION", "CALL", "TYPEBOT_START", "TYPEBOT_CHANGE_STATUS", "REMOVE_INSTANCE"),
    *("LOGOUT_INSTANCE", "INSTANCE_CREATE", "INSTANCE_DELETE", "STATUS_INSTANCE"),
]

#: Every name a subscription may hold.
SUBSCRIBABLE = [*DEFAULT_EVENTS, *(t.name for t in EventType if t.is_subscribable and t.name not in DEFAULT_EVENTS)]

#: Types whose data is written by people: a member named "token" is part of their message, and stays.
_HOLDS_MESSAGES = {
    *(EventType.MESSAGES_SET, EventType.MESSAGES_UPSERT, EventType.MESSAGES_EDITED, EventType.MESSAGES_UPDATE),
    *(EventType.MESSAGES_DELETE, EventType.SEND_MESSAGE, EventType.SEND_MESSAGE_UPDATE),
}

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
_SEPARATORS = re.compile(r"[^a-z0-9]")


def _without(data: Any, names: frozenset[str]) -> Any:
    if isinstance(data, dict):
        return {
            key: _without(value, names) if isinstance(value, _CONTAINERS) else value
            for key, value in data.items()
            if not _has_name(str(key), names)
        }
    if isinstance(data, (list, tuple)):
        return [_without(item, names) for item in data]
    return data


_CONTAINERS = (dict, list, tuple)


def _has_name(key: str, names: frozenset[str]) -> bool:
    """Return whether a member has one of the names, in any spelling of less than 64 characters."""
    return len(key) < 64 and _normalized(key) in names


@lru_cache(maxsize=4096)
def _normalized(key: str) -> str:
    """Return a name without its separators; cached, because events have the same few members again and again."""
    return _SEPARATORS.sub("", key.lower())


def announce(event_type: EventType, instance: Any, data: Any, dedupe_key: str | None = None) -> None:
    """Send `event_occurred`; to be called in the transaction of the change that the event reports."""
    event_occurred.send(
        sender=type(instance), instance=instance, event_type=event_type, data=data, dedupe_key=dedupe_key
    )
