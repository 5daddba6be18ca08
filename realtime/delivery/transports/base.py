"""What a transport is: one file here, and one line in settings.EVENT_TRANSPORTS.

It says what an endpoint of its kind is sent and sends it. What is owed, when, how often and in which order is the
dispatcher's; so is the record of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.utils.module_loading import import_string

from instances.events import EventType
from instances.models import Subscription

#: Bytes of an answer that are read, and characters of it that are kept.
MAX_ANSWER, MAX_EXCERPT = 64 * 1024, 2000


class Result(Enum):
    DELIVERED = "delivered"
    #: Worth another attempt, later.
    RETRY = "retry"
    #: It will not be taken, however often it is sent.
    DEAD = "dead"
    #: Nothing is to be sent there any more.
    GONE = "gone"


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt."""

    result: Result
    #: HTTP's, where there was an answer.
    status: int | None = None
    #: The beginning of the answer.
    excerpt: str = ""
    #: What went wrong, in words; without keys and secrets.
    error: str = ""
    #: Seconds after which the endpoint asks to be tried again.
    retry_after: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where to send, as it is now: a `Subscription`, or what the environment says of all instances."""

    id: int
    transport: str
    options: dict[str, Any]
    secrets: dict[str, Any]
    #: The names of the events that one of the environment's is sent.
    events: frozenset[str] = frozenset()
    #: Whether it is told of all instances, and so nobody else's to see.
    is_operators: bool = True

    @classmethod
    def of(cls, subscription: Subscription, secrets: dict[str, Any] | None = None) -> Endpoint:
        """`secrets`: instead of those that are stored, which takes time to decrypt."""
        return cls(
            subscription.pk,
            subscription.transport,
            subscription.options,
            subscription.all_secrets if secrets is None else secrets,
            is_operators=subscription.instance_id is None,
        )

    @property
    def is_trusted(self) -> bool:
        """Whether the operator gave it, in the environment, and not a tenant."""
        return self.id <= 0

    def wants(self, event_type: EventType) -> bool:
        return event_type.is_wanted_by(self.events)


@dataclass(frozen=True)
class OutgoingMessage:
    """A delivery on its way: the stored bytes, and what is told beside them."""

    #: The event's id: the same in each attempt, and however often the event is sent.
    id: str
    type: str
    body: bytes
    #: From 1.
    attempt: int


class Transport(ABC):
    #: As subscriptions name it.
    name: ClassVar[str]

    @property
    def is_on(self) -> bool:
        """Whether this process can send by it; what is owed is left to others, or waits."""
        return True

    @abstractmethod
    def body(self, envelope: dict[str, Any], endpoint: Endpoint) -> bytes:
        """What is stored for this endpoint when the event is recorded, and sent in each attempt.

        `envelope` is the one that sockets get (realtime/envelope.py); it is shared, and must not be changed.
        """

    @abstractmethod
    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        """Where that goes, for people to read; without secrets."""

    def global_endpoints(self) -> list[Endpoint]:
        """What the environment says is to be told of all instances. Its id is the transport's own: 0, -1, …"""
        return []

    def is_ordered(self, endpoint: Endpoint) -> bool:
        """Whether an event waits until all before it have been taken, or given up."""
        return bool(endpoint.options.get("ordered"))

    @abstractmethod
    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        """One attempt. Raises nothing; what fails is an outcome."""

    async def close(self) -> None:
        """The dispatcher stops."""


@cache
def transports() -> dict[str, Transport]:
    """Those that are registered, by name."""
    found = [import_string(path)() for path in settings.EVENT_TRANSPORTS]
    return {transport.name: transport for transport in found}
