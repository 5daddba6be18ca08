"""The parts that samples of events are made of; the people and numbers in them are made up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

ANA = "5511911112222@s.whatsapp.net"
GROUP = "120363012345678901@g.us"


@dataclass(frozen=True)
class Example:
    """An instance at a time, with a customer, messages and a group of hers."""

    name: str
    #: The instance's id.
    id: str
    at: datetime

    @property
    def seconds(self) -> int:
        return int(self.at.timestamp())

    @property
    def identity(self) -> dict[str, Any]:
        return {"instanceName": self.name, "instanceId": self.id}

    @property
    def own(self) -> dict[str, Any]:
        return {"instanceId": self.id}

    @property
    def key(self) -> dict[str, Any]:
        """The key of a message from the customer."""
        return {"remoteJid": ANA, "fromMe": False, "id": "3EB0A1B2C3D4E5F60718A0"}

    @property
    def sent_key(self) -> dict[str, Any]:
        """The key of a message to the customer."""
        return {"remoteJid": ANA, "fromMe": True, "id": "3EB0C0FFEE0000000001A0"}

    @property
    def message(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "pushName": "Ana Lima",
            "status": "DELIVERY_ACK",
            "message": {"conversation": "Olá, vocês entregam no centro?"},
            "messageType": "conversation",
            "messageTimestamp": self.seconds,
            **self.own,
            "source": "unknown",
        }

    @property
    def sent_message(self) -> dict[str, Any]:
        return self.message | {
            "key": self.sent_key,
            "status": "PENDING",
            "message": {"conversation": "Entregamos sim!"},
        }

    def edit(self, key: dict[str, Any], text: str) -> dict[str, Any]:
        """Return the protocol message that edits a message."""
        edited = {"key": key, "editedMessage": {"conversation": text}, "type": "MESSAGE_EDIT"}
        return edited | {"timestampMs": str(self.seconds * 1000)}

    @property
    def contact(self) -> dict[str, Any]:
        return {"remoteJid": ANA, "pushName": "Ana Lima", "profilePicUrl": None} | self.own

    @property
    def chat(self) -> dict[str, Any]:
        return {"remoteJid": ANA, "name": "Ana Lima"} | self.own

    @property
    def member(self) -> dict[str, Any]:
        """A member of the group."""
        return {"id": "55667788990011@lid", "phoneNumber": "5511955556666@s.whatsapp.net", "admin": None}
