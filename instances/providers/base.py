"""What a way into WhatsApp has to say for itself, and the changes it can report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from instances import json_body
from instances.events import EventType, announce
from instances.models import Chat, Contact, Instance, Message


class InvalidPayload(ValueError):
    """Raised by `Provider.parse`, naming the field, for a body that cannot be what it claims to be: a 400."""


class NotSent(Exception):
    """Raised when WhatsApp did not take a message. `status` is the HTTP status that tells the caller so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Change(ABC):
    """One thing that a payload reports, and where it belongs: to an instance's number, or to a whole business."""

    number: str | None = None
    business_id: str | None = None

    def belongs_to(self, instance: Instance) -> bool:
        if self.number:
            return self.number == instance.number
        return self.business_id is not None and self.business_id == instance.business_id

    @abstractmethod
    def apply(self, instance: Instance) -> None:
        """Store and announce it; called in a transaction, perhaps again with a repeat of the same payload."""

    @classmethod
    def apply_all(cls, instance: Instance, changes: Sequence[Self]) -> None:
        """Several in order. A kind that comes in numbers may do so with fewer statements."""
        for change in changes:
            change.apply(instance)


@dataclass(frozen=True, kw_only=True)
class InboundMessage(Change):
    id: str
    remote_jid: str
    type: str
    content: dict[str, Any]
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

    def apply(self, instance: Instance) -> None:
        self.apply_all(instance, [self])

    @classmethod
    def apply_all(cls, instance: Instance, changes: Sequence[Self]) -> None:
        for own_phone in (change.own_phone for change in changes if change.own_phone and not instance.owner_jid):
            instance.owner_jid = f"{own_phone}@s.whatsapp.net"
            instance.save(update_fields=["owner_jid", "updated_at"])
        messages = Message.store_new(instance, changes)
        firsts = {change.id: change for change in reversed(changes)}
        new = [firsts[str(message.wa_id)] for message in messages]
        contacts, chats = Contact.seen(instance, new), Chat.touched(instance, new)
        for message, change, contact, chat in zip(messages, new, contacts, chats, strict=True):
            message.announce_received(change)
            for event_type, event_data in (contact, *chat):
                announce(event_type, instance, event_data)


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

    def apply(self, instance: Instance) -> None:
        Message.status_reported(instance, self)


@dataclass(frozen=True, kw_only=True)
class Notice(Change):
    """Something that is told on as it came."""

    event_type: EventType
    data: Any
    dedupe_key: str | None = None

    def apply(self, instance: Instance) -> None:
        announce(self.event_type, instance, self.data, self.dedupe_key)


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


class Provider(ABC):
    """Subclasses state `integration` and override what they can do."""

    integration: ClassVar[str]
    #: The state of an instance that was just created.
    initial_state: ClassVar[str] = "open"
    #: The status of a message that WhatsApp has taken, if it tells.
    sent_status: ClassVar[str | None] = None

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """The changes that a request's body reports, in order; pure. Raises InvalidPayload, naming the field."""
        raise InvalidPayload(f"{self.integration} takes no payloads")

    def address(self, number: str) -> str:
        """What a number given by a sender becomes in `key.remoteJid`. Raises ValueError when it can be none."""
        return number

    @abstractmethod
    async def send_text(self, instance: Instance, text: OutgoingText) -> str:
        """Hand the text to WhatsApp and return the message's WhatsApp id; raises NotSent.

        Runs on the server's event loop, outside of any transaction; `instance` is loaded whole.
        """

    def check_new(self, instance: Instance) -> None:
        """Raises ValueError, with a text for the caller, for a new instance that lacks something."""


def load_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises InvalidPayload."""
    try:
        payload = json_body.load(body)
    except json_body.NotJson as error:
        raise InvalidPayload(str(error)) from None
    if not isinstance(payload, dict):
        raise InvalidPayload("The body must be a JSON object")
    return payload
