"""The contract of ingress endpoints: a request, the work that it asks for, and the response."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from instances import errors
from instances.access.access import Access
from instances.access.cache import AccessCache, StaleAccess
from instances.access.gate import Caller
from instances.models import Instance

logger = logging.getLogger(__name__)


class IngressRequest:
    """A POST request to an ingress endpoint."""

    def __init__(
        self, endpoint: IngressEndpoint, path: str, name: str, headers: Mapping[str, str], peer: str, body: bytes
    ) -> None:
        self.endpoint = endpoint
        self.path = path
        #: The instance that the path names, "" for an endpoint without one.
        self.name = name
        #: Values by case-insensitive name.
        self.headers = headers
        #: The IP address of the TCP peer.
        self.peer = peer
        self.body = body

    @property
    def caller(self) -> Caller:
        """The client: its address, and whether it may do without a key."""
        return Caller.of_request("POST", self.headers, self.peer)

    @property
    def client_address(self) -> str:
        """The IP address of the client: the peer, or the address that a trusted proxy forwards."""
        return self.caller.address


class IngressResponse(NamedTuple):
    """A response with a JSON body."""

    status: int
    body: bytes


class IngressEndpoint(ABC):
    """A path that accepts POST requests, or a prefix of such paths."""

    #: The path of the requests; with a slash at its end, the prefix of paths that name an instance.
    path: ClassVar[str]
    #: A view that is never called: it describes the endpoint in the OpenAPI document.
    openapi_view: ClassVar[type[APIView]]

    def authorize(self, request: IngressRequest, cache: AccessCache) -> Access | None:
        """Authorize a request by its head, before a large body is read.

        Returns the access of its key, None where the endpoint needs no key. Raises APIException to refuse the request.
        """
        return None

    @abstractmethod
    def prepare(self, request: IngressRequest, cache: AccessCache) -> Work | IngressResponse:
        """Authenticate and parse a request, outside of a transaction.

        Returns the work to do in a transaction, or the response if there is none. Raises APIException to refuse the
        request.
        """

    def get(self, request: HttpRequest) -> HttpResponse:
        """Respond to a GET request to the path, by which some platforms verify it. Raises Http404 unless overridden."""
        raise Http404

    def match(self, path: str) -> str | None:
        """Return the name in a path, "" for an endpoint without one, or None if the path is not this endpoint's."""
        if not self.path.endswith("/"):
            return "" if path == self.path else None
        name = path.removeprefix(self.path)
        return name if name and name != path and "/" not in name else None


class Work(ABC):
    """The changes of one request. They may be applied several times, and are committed once at most."""

    #: The instances to lock.
    query: InstanceQuery

    @abstractmethod
    def apply(self, instances: list[Instance]) -> None:
        """Store and announce the changes of these locked instances. Raises APIException to refuse the request."""

    @classmethod
    def apply_all(cls, works: Sequence[Self], instances: list[Instance]) -> None:
        """Apply several works of the same instances, in order. Whatever is raised, each is applied again alone."""
        for work in works:
            work.apply(instances)

    @abstractmethod
    def response(self) -> IngressResponse:
        """Return the response. Called in the same savepoint, once all announced events are recorded."""


class InstanceQuery(NamedTuple):
    """The instances of a request: one by its name, or those of an integration by numbers and business ids."""

    name: str | None = None
    integration: str = ""
    numbers: frozenset[str] = frozenset()
    business_ids: frozenset[str] = frozenset()

    @property
    def is_exhaustive(self) -> bool:
        """True if no further instance can match once each lookup key has one: a business has many instances."""
        return not self.business_ids

    @property
    def lookup_keys(self) -> Iterator[tuple[str, ...]]:
        if self.name is not None:
            yield ("name", self.name)
        for number in self.numbers:
            yield ("number", self.integration, number)
        for business_id in self.business_ids:
            yield ("business", self.integration, business_id)


def error_response(request: IngressRequest, error: Exception) -> IngressResponse | None:
    """Return the response for an error that a request failed with, None for an unexpected error."""
    if isinstance(error, (*errors.DATABASE_ERRORS, StaleAccess)):
        logger.error("%s was not answered: %s", request.path, error)
        error = errors.database_error(error)
    if not isinstance(error, APIException):
        return None
    return IngressResponse(error.status_code, orjson.dumps(errors.error_body(error)))
