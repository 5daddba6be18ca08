"""The endpoints of providers' payloads: authenticated, parsed by the provider, and applied to the instances."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol, Self

from rest_framework.exceptions import AuthenticationFailed

from instances.access.access import Access
from instances.access.cache import AccessCache
from instances.access.rest import authentication_error
from instances.access.rights import PUBLISH
from instances.changes import Change, InboundMessage, InvalidPayload, Notice, StatusReport
from instances.errors import ApiError
from instances.events import announce
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, InstanceQuery, Work
from instances.models import Instance, Message

logger = logging.getLogger(__name__)

SUCCESS = b'{"status":"success"}'


class Parser(Protocol):
    """The part of a provider that its endpoint needs."""

    @property
    def integration(self) -> str: ...

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]: ...


class ProviderIngress(IngressEndpoint):
    """An endpoint of a provider's payloads, for keys with the scope `publish` that give access to the instances.

    Subclasses set `path` and `openapi_view`; those whose payloads are authenticated otherwise override `authorize`.
    """

    def __init__(self, provider: Parser) -> None:
        self.provider = provider

    def authorize(self, request: IngressRequest, cache: AccessCache) -> Access | None:
        access = cache.access(request.headers.get("apikey", ""))
        if access is None:
            raise authentication_error(request.client_address)
        if not access.may(PUBLISH):
            raise ApiError("This key may not publish", 403)
        return access

    def prepare(self, request: IngressRequest, cache: AccessCache) -> ProviderWork:
        access = self.authorize(request, cache)
        return ProviderWork(self.provider.integration, self.parse(request), access, cache)

    def parse(self, request: IngressRequest) -> list[Change]:
        """Return the changes that the request reports. Raises ApiError (400)."""
        try:
            return self.provider.parse(request.body, request.headers)
        except InvalidPayload as error:
            raise ApiError(str(error)) from None


class ProviderWork(Work):
    """The changes of a provider's payload: all are applied, or none.

    `access` is that of its key; None for payloads that are authenticated otherwise, which may change every instance.
    """

    def __init__(self, integration: str, changes: Iterable[Change], access: Access | None, cache: AccessCache) -> None:
        self.changes = list(changes)
        self.access = access
        self.cache = cache
        #: True once applied, if an instance has one of the numbers or business ids.
        self.has_instances = False
        #: The messages that were stored before, once applied.
        self.repeats: list[InboundMessage] = []
        self.query = InstanceQuery(
            integration=integration,
            numbers=frozenset(change.number for change in self.changes if change.number),
            business_ids=frozenset(change.business_id for change in self.changes if change.business_id),
        )

    def authorize(self, instances: list[Instance]) -> None:
        """Raise APIException if the request may not change these instances.

        A key for some instances must not reveal which numbers exist: unknown ones are refused as foreign ones are.
        """
        if self.access is None or self.access.is_for_all or not self.changes:
            return
        if not instances or not all(self.cache.opens(self.access, instance) for instance in instances):
            raise AuthenticationFailed

    def apply(self, instances: list[Instance]) -> None:
        self.apply_all([self], instances)

    @classmethod
    def apply_all(cls, works: Sequence[Self], instances: list[Instance]) -> None:
        """Apply changes in order; a change for a number that no instance has (any longer) is dropped and logged."""
        for work in works:
            work.authorize(instances)
            work.has_instances = bool(instances)
        changes = [change for work in works for change in work.changes]
        repeats: set[int] = set()
        for instance in instances:
            of_instance = (change for change in changes if change.belongs_to(instance))
            for change_class, group in groupby(of_instance, key=lambda change: change.__class__):
                repeats.update(map(id, APPLY[change_class](instance, list(group)) or ()))
        for work in works:
            of_messages = (change for change in work.changes if isinstance(change, InboundMessage))
            work.repeats = [message for message in of_messages if id(message) in repeats]
        for change in changes:
            if not any(change.belongs_to(instance) for instance in instances):
                logger.info("No instance has the number %r", change.number or f"of business {change.business_id}")

    def response(self) -> IngressResponse:
        return IngressResponse(200, SUCCESS)


def _report_statuses(instance: Instance, reports: Sequence[StatusReport]) -> None:
    for report in reports:
        Message.record_status(instance, report)


def _announce_notices(instance: Instance, notices: Sequence[Notice]) -> None:
    for notice in notices:
        announce(notice.event_type, instance, notice.data, notice.dedupe_key)


#: Functions that store and announce changes of a class: several of one instance, in order, in the caller's transaction.
#: They return the repeats among them.
APPLY: dict[type[Change], Callable[[Instance, list[Any]], Collection[Change] | None]] = {
    InboundMessage: Message.receive,
    StatusReport: _report_statuses,
    Notice: _announce_notices,
}
