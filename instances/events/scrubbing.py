"""Removal of keys and credentials from the data of events, by the kind of data that a type has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

#: Returns a copy of an event's data without secrets.
Scrubber = Callable[[Any], Any]


def scrub_state(data: Any) -> Any:
    """Return a copy of the data of a state, such as an instance's, without keys and credentials of any kind."""
    return _without(data, _KEY_MATERIAL | _CREDENTIALS, {})


def scrub_messages(data: Any) -> Any:
    """Return a copy of messages without keys, but with those of media and polls in their contents.

    Whoever may read a message may open what it has. People write the contents: a member named "token" is part of what
    they wrote, and stays.
    """
    return _without(data, _KEYS_OF_CONTENTS, _PARTS_OF_MESSAGES)


def scrub_protocol(data: Any) -> Any:
    """Return a copy of one of WhatsApp's protocol messages, which may hold an edited message, without keys."""
    return _without(data, _KEY_MATERIAL, _PARTS_OF_MESSAGES)


def without_keys(content: Any) -> Any:
    """Return a copy of a message's content without any key, for readers who may open nothing."""
    return _without(content, _KEY_MATERIAL, {})


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
