"""What endpoints implement."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

import orjson
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from instances import errors
from instances.access.cache import AccessCache, StaleAccess
from instances.access.client_address import client_address
from instances.models import Instance

logger = logging.getLogger(__name__)


class IngressRequest:
    """A request: what doors look at."""

    def __init__(self, path: str, name: str, headers: Mapping[str, str], peer: str, body: bytes) -> None:
        self.path = path
        #: What follows the door's own path.
        self.name = name
        #: By their names in any case.
        self.headers = headers
        self.peer = peer
        self.body = body

    @property
    def address(self) -> str:
        """Whom it comes from."""
        return client_address(self.peer, self.headers.get("x-forwarded-for", ""))


class IngressResponse(NamedTuple):
    status: int
    body: bytes


class InstanceQuery(NamedTuple):
    """Which instances a request is for: one by its name, or those of an integration by what a payload names."""

    name: str | None = None
    integration: str = ""
    numbers: frozenset[str] = frozenset()
    business_ids: frozenset[str] = frozenset()

    @property
    def is_exhaustive(self) -> bool:
        """Whether one look for each of its marks tells that there is no further instance."""
        return not self.business_ids

    @property
    def lookup_keys(self) -> Iterator[tuple[str, ...]]:
        if self.name is not None:
            yield ("name", self.name)
        for number in self.numbers:
            yield ("number", self.integration, number)
        for business_id in self.business_ids:
            yield ("business", self.integration, business_id)


class Work(ABC):
    """What a request that was let in has to do. It may be done several times, of which one is committed."""

    address: InstanceQuery

    @abstractmethod
    def apply(self, instances: list[Instance]) -> None:
        """Store and announce it, on the address' instances, which are locked. Raises what it is refused with."""

    @classmethod
    def apply_all(cls, works: Sequence[Self], instances: list[Instance]) -> None:
        """Several of the same instances, in order. Whatever one raises, they are applied again one by one."""
        for work in works:
            work.apply(instances)

    @abstractmethod
    def answer(self) -> IngressResponse:
        """Called in the same savepoint, once everything is recorded that was announced."""


class IngressEndpoint(ABC):
    """What is posted to one path, or to all that begin with it."""

    #: With a slash at its end it is followed by a name.
    path: ClassVar[str]
    #: A view that is never called: how the OpenAPI document describes the door.
    openapi_view: ClassVar[type[APIView]]

    @abstractmethod
    def admit(self, call: IngressRequest, cache: AccessCache) -> Work | IngressResponse:
        """What is to be done in a transaction, or the answer if there is nothing. Raises APIException to refuse it."""

    def name_in(self, path: str) -> str | None:
        """What the path names, None if it does not lead here."""
        if not self.path.endswith("/"):
            return "" if path == self.path else None
        name = path.removeprefix(self.path)
        return name if name and name != path and "/" not in name else None


class Visit:
    """A call at a door."""

    def __init__(self, door: IngressEndpoint, call: IngressRequest) -> None:
        self.door = door
        self.call = call
        self.size = len(call.body)

    def admit(self, cache: AccessCache) -> Work | IngressResponse:
        return self.door.admit(self.call, cache)


def refusal(call: IngressRequest, error: Exception) -> IngressResponse | None:
    """The answer to what a door raised, None for what nobody foresaw."""
    if isinstance(error, (*errors.DATABASE_ERRORS, StaleAccess)):
        logger.error("%s was not answered: %s", call.path, error)
        error = errors.ApiError(errors.DATABASE_AWAY, 503)
    if not isinstance(error, APIException):
        return None
    return IngressResponse(error.status_code, orjson.dumps(errors.error_body(error)))
