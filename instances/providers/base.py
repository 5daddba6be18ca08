"""The base class of providers: a subclass is a file of its own, and a line in settings.PROVIDERS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from instances import json_body
from instances.changes import Change, InvalidPayload
from instances.ingress.endpoint import IngressEndpoint
from instances.integrations import MEMBERS, Integration
from instances.models import Instance
from instances.outbound_message import MessageKind, OutboundMessage
from instances.providers.cloud_api_graph import GraphApi


class SendError(Exception):
    """Raised when a message was not accepted by WhatsApp. `status` is the HTTP status of our response."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotSent(SendError):
    """Raised when WhatsApp has refused a message, or cannot have received it."""


class OutcomeUnknown(SendError):
    """Raised when WhatsApp may have accepted a message, and may not."""


class Provider(Integration, ABC):
    """A connection to WhatsApp. Subclasses declare an integration and override the methods they support."""

    #: The status of a message once WhatsApp has accepted it, if the provider reports statuses.
    sent_status: ClassVar[str | None] = None
    #: True if statuses may be reported before `send` returns: a send is stored before it is begun.
    reports_early: ClassVar[bool] = False
    #: The kinds of messages that it sends; others are refused with the text of `refusal`.
    sends: ClassVar[Collection[MessageKind]] = frozenset({MessageKind.TEXT})
    #: What its platform does besides sending messages, where that is Meta's.
    graph: ClassVar[GraphApi | None] = None

    @property
    def endpoints(self) -> Sequence[IngressEndpoint]:
        """The endpoints that take its payloads, such as a `ProviderIngress`; each describes itself for OpenAPI."""
        return ()

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Return the changes that a request's body reports, in order; pure. Raises InvalidPayload, naming the field."""
        raise InvalidPayload(f"{self.integration} takes no payloads")

    def address(self, number: str) -> str:
        """Return the `key.remoteJid` of a number given by a sender. Raises ValueError for an invalid number."""
        return number

    def refusal(self, instance: Instance, kind: MessageKind, members: Mapping[str, Any]) -> str:
        """Return why it does not send a message, of a kind that is not in `sends` and whose body is valid."""
        return self.unavailable.format(name=instance.name)

    def content(self, message: OutboundMessage) -> tuple[str, dict[str, Any]]:
        """Return Evolution API's `messageType` and `message` of a message to send, of one of the kinds in `sends`.

        Raises ApiError for a message of such a kind that the channel cannot send.
        """
        return "conversation", {"conversation": message.members["text"], **quotation(message)}

    @abstractmethod
    async def send(self, instance: Instance, message: OutboundMessage) -> str:
        """Send the message through WhatsApp and return its WhatsApp id. Raises NotSent and OutcomeUnknown.

        Runs on the server's event loop, outside of any transaction; `instance` has no deferred fields.
        """

    def check_new(self, instance: Instance) -> None:
        """Raise ValueError, with an error text for the client, if a new instance lacks a required member."""
        for member in self.required:
            if not getattr(instance, MEMBERS[member]):
                raise ValueError(f"{member} is required")


def quotation(message: OutboundMessage) -> dict[str, Any]:
    """Return the member of Evolution API's `message` that holds the quoted message, if there is one."""
    return {"quoted": message.quoted} if message.quoted else {}


def load_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises InvalidPayload."""
    try:
        payload = json_body.load(body)
    except json_body.NotJson as error:
        raise InvalidPayload(str(error)) from None
    if not isinstance(payload, dict):
        raise InvalidPayload("The body must be a JSON object")
    return payload
