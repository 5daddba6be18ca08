from __future__ import annotations

from typing import Any, Protocol


class KeyedMessage(Protocol):
    """The attributes of a message that WhatsApp's key of it is made of."""

    @property
    def remote_jid(self) -> str: ...

    @property
    def remote_jid_alt(self) -> str | None: ...

    @property
    def from_me(self) -> bool: ...

    @property
    def participant(self) -> str | None: ...

    @property
    def wa_id(self) -> str | None: ...


def message_key(message: KeyedMessage) -> dict[str, Any]:
    """Return WhatsApp's key of a message, as events and rows hold it."""
    key: dict[str, Any] = {"remoteJid": message.remote_jid, "fromMe": message.from_me, "id": message.wa_id}
    if message.participant:
        key["participant"] = message.participant
    if message.remote_jid_alt and "@" in message.remote_jid:  # that of a number is formed of it, and no news
        key["remoteJidAlt"] = message.remote_jid_alt
    return key
