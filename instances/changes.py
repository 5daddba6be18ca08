"""What a payload means: plain dataclasses, from the providers that parse it to the models that store it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from instances.events import EventType


class Addressee(Protocol):
    """An instance, as far as a change needs to know it to say whether it belongs to it."""

    @property
    def number(self) -> str | None: ...

    @property
    def business_id(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that a payload reports, and where it belongs: to an instance's number, or to a whole business."""

    number: str | None = None
    business_id: str | None = None

    def belongs_to(self, instance: Addressee) -> bool:
        if self.number:
            return self.number == instance.number
        return self.business_id is not None and self.business_id == instance.business_id


@dataclass(frozen=True, kw_only=True)
class InboundMessage(Change):
    """A message of a chat, written by anybody."""

    id: str
    remote_jid: str
    type: str
    content: dict[str, Any]
    #: Seconds since 1970, as WhatsApp says.
    timestamp: int
    from_me: bool = False
    participant: str | None = None
    push_name: str | None = None
    profile_pic_url: str | None = None
    context: dict[str, Any] | None = None
    status: str | None = None
    #: The instance's own phone, where the payload names it.
    own_phone: str | None = None
    #: Members of `data` besides Evolution API's.
    extra: dict[str, Any] = field(default_factory=dict)
    key_extra: dict[str, Any] = field(default_factory=dict)
    #: Whether each message announces its contact and chat anew, as the Evolution channel always did.
    always_upserts: bool = False

    def fields(self) -> dict[str, Any]:
        names = ("remote_jid", "participant", "from_me", "push_name", "type", "content", "context", "extra")
        return {name: getattr(self, name) for name in (*names, "timestamp", "status")}


@dataclass(frozen=True, kw_only=True)
class StatusReport(Change):
    """How far a message of the instance has come."""

    id: str
    remote_jid: str
    status: str
    participant: str | None = None
    #: Members of `data` besides Evolution API's: errors, pricing, the time.
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def dedupe_key(self) -> str:
        return f"status:{self.id}:{self.status}:{self.participant or self.remote_jid}"

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
    """Something that is announced as it came."""

    event_type: EventType
    data: Any
    dedupe_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutgoingText:
    """A text that somebody wants sent."""

    remote_jid: str
    text: str
    link_preview: bool = False
    quoted: dict[str, Any] | None = None
    #: The sender's own id of this request: a repeat of it is answered with the first result.
    request_id: str | None = None

    def content(self) -> dict[str, Any]:
        return {"conversation": self.text} | ({"quoted": self.quoted} if self.quoted else {})
