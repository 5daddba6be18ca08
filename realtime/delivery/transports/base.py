"""The interface of transports: each is one file here, and one line in settings.EVENT_TRANSPORTS.

A transport renders the bytes for an endpoint and sends them. The dispatcher decides what is sent, when, how often and
in which order, and records it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol, cast

from instances.api.transports import TransportSettings, registered_transports
from instances.crypto import UnreadableSecret
from instances.events import EventType
from instances.models import Subscription
from realtime.delivery.causes import Cause, of_status
from realtime.delivery.payload import Payload

#: Bytes of a response that are read, and characters of it that are stored.
MAX_RESPONSE, MAX_EXCERPT = 64 * 1024, 2000


class Result(Enum):
    DELIVERED = "delivered"
    #: Failed, and worth another attempt.
    RETRY = "retry"
    #: Refused for good: another attempt would end in the same way.
    DEAD = "dead"
    #: Refused for good, as is all that follows: the endpoint is to be disabled.
    GONE = "gone"


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt."""

    result: Result
    #: The HTTP status of the response, if there was one.
    status: int | None = None
    #: The first MAX_EXCERPT characters of the response.
    excerpt: str = ""
    #: A sentence about the failure, for people, without keys and secrets.
    error: str = ""
    #: Its cause, where the transport knows better than by the status.
    cause: Cause | None = None
    #: Seconds until the next attempt, as the endpoint asks.
    retry_after: float | None = None
    #: True for a failure before anything was sent, which says nothing of the endpoint.
    is_ours: bool = False

    @property
    def cause_code(self) -> str:
        """The code of the failure's cause, by which failures are grouped; empty for a success."""
        if self.result is Result.DELIVERED:
            return ""
        if self.cause:
            return self.cause.code
        return Cause.OTHER.code if self.status is None else of_status(self.status)


@dataclass(frozen=True)
class Endpoint:
    """The current settings of an endpoint: of a `Subscription`, or of the environment for all instances."""

    id: int
    transport: str
    options: dict[str, Any]
    secrets: dict[str, Any]
    #: The names of the event types that an endpoint of the environment wants.
    events: frozenset[str] = frozenset()
    #: True if it receives the events of all instances; only the operator may see it.
    is_operators: bool = True
    #: The reason why nothing can be sent to it, such as secrets that cannot be read.
    error: str = ""

    @classmethod
    def of(cls, subscription: Subscription, secrets: dict[str, Any] | None = None) -> Endpoint:
        """Return the endpoint of a subscription, with `secrets` in place of the stored ones: decrypting takes time."""
        stored, error = read_secrets(subscription) if secrets is None else (secrets, "")
        error = subscription.unreadable or error
        is_operators = subscription.instance_id is None
        return cls(
            subscription.pk,
            subscription.transport,
            subscription.options,
            stored,
            is_operators=is_operators,
            error=error,
        )

    @property
    def is_trusted(self) -> bool:
        """True if it comes from the environment, and not from a tenant."""
        return self.id <= 0

    def wants(self, event_type: EventType) -> bool:
        return event_type.is_wanted_by(self.events)


class HasSecrets(Protocol):
    """A row with encrypted values."""

    @property
    def all_secrets(self) -> dict[str, Any]: ...


def read_secrets(row: HasSecrets) -> tuple[dict[str, Any], str]:
    """Return the secrets of an endpoint, and an empty string or, without secrets, why they cannot be read."""
    try:
        return row.all_secrets, ""
    except UnreadableSecret as error:
        return {}, f"The secrets of the endpoint cannot be read. {error}"


class RenderedBody(NamedTuple):
    """The bytes that all endpoints get of an event, and the offset at which each one's own are put in."""

    data: bytes
    offset: int = 0


@dataclass(frozen=True)
class OutgoingMessage:
    """The stored bytes of a delivery, and the metadata that is sent with them."""

    #: The event's id, the same in each attempt and each resending.
    id: str
    type: str
    payload: Payload
    #: The number of the attempt, from 1.
    attempt: int
    #: The instance's id and its name when the event was recorded; the instance may be deleted by now.
    instance_id: str
    instance_name: str

    @property
    def body(self) -> bytes:
        """The bytes in one piece."""
        return bytes(self.payload)


class Transport(TransportSettings, ABC):
    """A way to send messages to endpoints; `settings.EVENT_TRANSPORTS` lists the classes.

    Subclasses declare what their subscriptions are set to, and override the methods that send.
    """

    @property
    def off_reason(self) -> str:
        """The reason, a sentence without a full stop, why this process does not send; empty if it does.

        While it does not, new deliveries are dropped with this reason, and pending ones wait for up to OFF_HOURS.
        """
        return ""

    @property
    def is_on(self) -> bool:
        return not self.off_reason

    @abstractmethod
    def body(self, envelope: Mapping[str, Any]) -> RenderedBody:
        """Render the bytes of an event that all endpoints have in common; they are stored once.

        `envelope` has the members of the one that sockets receive; `data` may be an orjson.Fragment.
        """

    def own_part(self, endpoint: Endpoint) -> bytes:
        """Render the bytes that an endpoint has of its own; they are stored with its delivery."""
        return b""

    @abstractmethod
    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        """Return the destination for people to read, without secrets."""

    def global_endpoints(self) -> list[Endpoint]:
        """Return the environment's endpoints for all instances, with ids of the transport's own: 0, -1, …"""
        return []

    def is_ordered(self, endpoint: Endpoint) -> bool:
        """True if a delivery waits until all before it are delivered or dead."""
        return bool(endpoint.options.get("ordered"))

    @abstractmethod
    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        """Make an attempt. Raises nothing: a failure is an outcome."""

    async def close(self) -> None:
        """Close the connections of the running event loop; called when the dispatcher stops."""


def transports() -> dict[str, Transport]:
    """Return the registered transports by name."""
    return cast(dict[str, Transport], registered_transports())


def off_reason(name: str) -> str:
    """Return the reason, a sentence, why this process does not send by a transport; empty if it does."""
    transport = transports().get(name)
    return transport.off_reason if transport else f"This server does not send by {name}"


def global_endpoints() -> list[Endpoint]:
    """Return the environment's endpoints for all instances, of all transports."""
    return [endpoint for transport in transports().values() for endpoint in transport.global_endpoints()]
