"""The changes that a payload reports: plain dataclasses, which providers parse and models store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from instances.events import EventType


class InvalidPayload(ValueError):
    """Raised by a provider for an invalid body, naming the field; answered with 400."""


class Addressee(Protocol):
    """The attributes of an instance by which a change finds it."""

    @property
    def number(self) -> str | None: ...

    @property
    def business_id(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that a payload reports, for one instance's number or for all numbers of a business."""

    number: str | None = None
    business_id: str | None = None

    def belongs_to(self, instance: Addressee) -> bool:
        """Return whether this is a change of the instance."""
        if self.number:
            return self.number == instance.number
        return self.business_id is not None and self.business_id == instance.business_id


#: The beginning of the callback data that this server gives WhatsApp with a message, and finds again in its reports.
CALLBACK_PREFIX = "evoapi:"


@dataclass(frozen=True, kw_only=True)
class InboundMessage(Change):
    """A message of a chat, of either side."""

    id: str
    remote_jid: str
    type: str
    content: dict[str, Any]
    #: Seconds since 1970, by WhatsApp's clock.
    timestamp: int
    from_me: bool = False
    #: The other address of the chat, where both are known: an @lid beside a phone number's address, or the reverse.
    remote_jid_alt: str | None = None
    participant: str | None = None
    push_name: str | None = None
    profile_pic_url: str | None = None
    context: dict[str, Any] | None = None
    status: str | None = None
    #: The instance's own phone number, if the payload names it.
    own_phone: str | None = None
    #: Members of `data`, and of its `key`, besides Evolution API's.
    extra: dict[str, Any] = field(default_factory=dict)
    key_extra: dict[str, Any] = field(default_factory=dict)
    #: True if each message emits upserts of its contact and chat, as Evolution API's channel does.
    always_upserts: bool = False
    #: The callback data that the message was sent with, if this server sent it.
    callback_data: str | None = None

    @property
    def named_jid(self) -> str | None:
        """The address of the person whom `push_name` names, who is the sender; None for the instance itself."""
        if self.from_me:
            return None
        return self.participant or (None if self.remote_jid.endswith("@g.us") else self.remote_jid)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the model `Message`."""
        names = ("remote_jid", "remote_jid_alt", "participant", "from_me", "push_name", "type", "content", "context")
        return {name: getattr(self, name) for name in (*names, "extra", "timestamp", "status")}


def status_key(message_id: str, status: str, jid: str) -> str:
    """Return the dedupe key of the event that a message has a status, as `jid` or its device reports it."""
    return f"status:{message_id}:{status}:{jid}"


@dataclass(frozen=True, kw_only=True)
class StatusReport(Change):
    """A new status of a message that the instance sent, such as DELIVERED."""

    id: str
    remote_jid: str
    status: str
    participant: str | None = None
    #: Members of `data` besides Evolution API's: errors, pricing, timestamp.
    extra: dict[str, Any] = field(default_factory=dict)
    #: The callback data that the message was sent with, if this server sent it.
    callback_data: str | None = None

    @property
    def dedupe_key(self) -> str:
        return status_key(self.id, self.status, self.participant or self.remote_jid)

    def as_event(self) -> dict[str, Any]:
        return self.extra | {
            "keyId": self.id,
            "remoteJid": self.remote_jid,
            "fromMe": True,
            "participant": self.participant or self.remote_jid,
            "status": self.status,
        }


@dataclass(frozen=True, kw_only=True)
class Notice(Change):
    """An event that is emitted with its data as received."""

    event_type: EventType
    data: Any
    dedupe_key: str | None = None
