"""The base class of providers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from instances import json_body
from instances.changes import Change, OutgoingText
from instances.models import Instance


class InvalidPayload(ValueError):
    """Raised by `Provider.parse` for an invalid body, naming the field; answered with 400."""


class NotSent(Exception):
    """Raised when WhatsApp did not accept a message. `status` is the HTTP status of our response."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Provider(ABC):
    """A connection to WhatsApp. Subclasses set `integration` and override the methods they support."""

    integration: ClassVar[str]
    #: The connection state of a new instance.
    initial_state: ClassVar[str] = "open"
    #: The status of a message once WhatsApp has accepted it, if the provider reports statuses.
    sent_status: ClassVar[str | None] = None

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Return the changes that a request's body reports, in order; pure. Raises InvalidPayload, naming the field."""
        raise InvalidPayload(f"{self.integration} takes no payloads")

    def address(self, number: str) -> str:
        """Return the `key.remoteJid` of a number given by a sender. Raises ValueError for an invalid number."""
        return number

    @abstractmethod
    async def send_text(self, instance: Instance, text: OutgoingText) -> str:
        """Send the text through WhatsApp and return the message's WhatsApp id. Raises NotSent.

        Runs on the server's event loop, outside of any transaction; `instance` has no deferred fields.
        """

    def check_new(self, instance: Instance) -> None:
        """Raise ValueError, with an error text for the client, if a new instance lacks a required field."""


def load_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises InvalidPayload."""
    try:
        payload = json_body.load(body)
    except json_body.NotJson as error:
        raise InvalidPayload(str(error)) from None
    if not isinstance(payload, dict):
        raise InvalidPayload("The body must be a JSON object")
    return payload
