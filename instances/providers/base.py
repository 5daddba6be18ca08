"""The base of providers: a way in and out of WhatsApp."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from instances import json_body
from instances.changes import Change, OutgoingText
from instances.models import Instance


class InvalidPayload(ValueError):
    """Raised by `Provider.parse`, naming the field, for a body that cannot be what it claims to be: a 400."""


class NotSent(Exception):
    """Raised when WhatsApp did not take a message. `status` is the HTTP status that tells the caller so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


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
