"""Requests in one transaction: each has its outcome, and an error in one touches no other.

All instances of a transaction are locked at its beginning, in one order. Requests of the same instances share a
savepoint, and what they announce is written at its end; where that fails, each is applied again in its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol, TypeVar
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.models import Q

from instances.access.cache import AccessCache, StaleAccess
from instances.ingress.commit_hooks import robust_hooks
from instances.ingress.endpoint import IngressResponse, InstanceQuery, Work
from instances.models import Instance, Subscription
from instances.sql import load

logger = logging.getLogger(__name__)

#: How often a transaction that the database gave up in favour of another one is tried.
ATTEMPTS = 3


class Entrant(Protocol):
    """A request at a door."""

    size: int

    def admit(self, cache: AccessCache) -> Work | IngressResponse:
        """Who is it, and what is it? Called outside of a transaction. Raises what the request is refused with."""


class BatchContext(threading.local):
    """Requests that this thread applies together: what they announce may be recorded at their end, all at once."""

    #: Called, in order, before the savepoint of the requests ends; None while there are none.
    before_release: list[Callable[[], None]] | None = None
    #: Whatever the callbacks have in common.
    shared: dict[Any, Any]


batch_context = BatchContext()


class Entry:
    """A request, and what becomes of it."""

    def __init__(self, entrant: Entrant) -> None:
        self.entrant = entrant
        self.work: Work | None = None
        self.outcome: IngressResponse | Exception | None = None

    def admit(self, cache: AccessCache) -> None:
        self.work = self.outcome = None
        try:
            admitted = self.entrant.admit(cache)
        except Exception as error:
            self.outcome = error
        else:
            if isinstance(admitted, IngressResponse):
                self.outcome = admitted
            else:
                self.work = admitted


E = TypeVar("E", bound=Entry)


class LockedInstances:
    """The instances of a transaction, found by what requests call them."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances: dict[UUID, Instance] = {}
        self._ids: dict[tuple[str, ...], list[UUID]] = {}
        for instance in instances:
            self._instances[instance.pk] = instance
            for key in _lookup_keys(instance):
                self._ids.setdefault(key, []).append(instance.pk)
        self._read_subscriptions()

    def ids(self, address: InstanceQuery) -> tuple[UUID, ...]:
        return tuple(sorted({pk for key in address.lookup_keys for pk in self._ids.get(key, ())}))

    def of(self, address: InstanceQuery) -> list[Instance]:
        return [self._instances[pk] for pk in self.ids(address)]

    def has_all(self, address: InstanceQuery) -> bool:
        """Whether there can be none besides these."""
        return address.is_exhaustive and all(key in self._ids for key in address.lookup_keys)

    def reload(self, ids: Iterable[UUID]) -> None:
        """After a savepoint was given up, the objects are not what is stored."""
        self._instances |= Instance.objects.in_bulk(list(ids))
        self._read_subscriptions()

    def _read_subscriptions(self) -> None:
        """Whoever records an event asks for them: here for all instances at once."""
        subscriptions = load(Subscription, list(self._instances), " OR instance_id IS NULL")
        for instance in self._instances.values():
            instance.known_subscriptions = [one for one in subscriptions if one.instance_id in (instance.pk, None)]


def _lookup_keys(instance: Instance) -> Iterator[tuple[str, ...]]:
    yield ("name", instance.name)
    if instance.number:
        yield ("number", instance.integration, instance.number)
    if instance.business_id:
        yield ("business", instance.integration, instance.business_id)


def _addressed(addresses: Iterable[InstanceQuery]) -> Any:
    """The instances of several addresses."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for address in addresses:
        if address.name is not None:
            wanted.setdefault(("", "name__in"), set()).add(address.name)
        if address.numbers:
            wanted.setdefault((address.integration, "number__in"), set()).update(address.numbers)
        if address.business_ids:
            wanted.setdefault((address.integration, "business_id__in"), set()).update(address.business_ids)
    condition = Q()
    for (integration, column), values in wanted.items():
        condition |= Q((column, values), **({"integration": integration} if integration else {}))
    return Instance.objects.filter(condition) if wanted else Instance.objects.none()


# One transaction


def run_batch(entries: list[E], cache: AccessCache, wait_for_locks: bool) -> list[E]:
    """Admit and apply requests in one transaction of their own, leaving each its outcome.

    Returns those for whose instances somebody else's transaction would have to be waited for: nothing is done of them,
    unless `wait_for_locks`. Raises what the transaction as a whole fails with, and Stale.
    """
    cache.renew()
    for entry in entries:
        entry.admit(cache)
    working = [(entry, entry.work) for entry in entries if entry.work]
    if not working:
        return []
    with transaction.atomic(), robust_hooks():
        return _apply_all(working, cache, wait_for_locks)


def _apply_all(working: list[tuple[E, Work]], cache: AccessCache, wait_for_locks: bool) -> list[E]:
    addresses = [work.address for _, work in working]
    rows = LockedInstances(
        _addressed(addresses).locked().select_for_update(no_key=True, skip_locked=not wait_for_locks)
    )
    held = [] if wait_for_locks else _held(working, rows)
    cache.check()
    ready = [(rows.ids(work.address), entry) for entry, work in working if entry not in held]
    ready.sort(key=lambda one: one[0])
    for ids, group in groupby(ready, key=lambda one: one[0]):
        _apply_run([entry for _, entry in group], rows, ids, is_alone=len(working) == 1)
    return held


def _held(working: list[tuple[E, Work]], rows: LockedInstances) -> list[E]:
    """Those with an instance that is there, and was not to be had at once."""
    missing = [(entry, work) for entry, work in working if not rows.has_all(work.address)]
    if not missing or not connection.features.has_select_for_update_skip_locked:
        return []
    there = LockedInstances(_addressed([work.address for _, work in missing]))
    return [entry for entry, work in missing if there.ids(work.address) != rows.ids(work.address)]


def _apply_run(entries: Sequence[Entry], rows: LockedInstances, ids: tuple[UUID, ...], is_alone: bool) -> None:
    """Requests of the same instances share a savepoint; where that fails, each has its own."""
    try:
        # without others in the transaction nobody needs to be kept from what it leaves
        with transaction.atomic(savepoint=not is_alone):
            for entry, answer in zip(entries, _applied(entries, rows), strict=True):
                entry.outcome = answer
    except Exception as error:
        if is_deadlock(error):
            raise
        if is_alone:
            entries[0].outcome = error
            return
        rows.reload(ids)
        if len(entries) == 1:
            entries[0].outcome = error
            return
        for entry in entries:
            _apply_run([entry], rows, ids, is_alone=False)


def _applied(entries: Sequence[Entry], rows: LockedInstances) -> list[IngressResponse]:
    batch_context.before_release, batch_context.shared = [], {}
    try:
        works = [entry.work for entry in entries if entry.work]
        for kind, group in groupby(works, key=lambda work: work.__class__):
            alike = list(group)
            kind.apply_all(alike, rows.of(alike[0].address))
        for finish in batch_context.before_release:
            finish()
        return [work.answer() for work in works]
    finally:
        batch_context.before_release = None


def run_alone(entry: Entry) -> None:
    """One request in a transaction of its own, which waits for its instances' locks. It always leaves an outcome."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            run_batch([entry], AccessCache(), wait_for_locks=True)
        except Exception as error:
            entry.outcome = error
            if attempt < ATTEMPTS and is_worth_another(error):
                continue
        return


def enter(entrant: Entrant) -> IngressResponse:
    """The answer to a request, of which everything happens in the caller's thread. Raises what it is refused with."""
    entry = Entry(entrant)
    run_alone(entry)
    if isinstance(entry.outcome, IngressResponse):
        return entry.outcome
    raise entry.outcome or RuntimeError("A request was left without an answer")


def is_deadlock(error: Exception) -> bool:
    return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) in ("40P01", "40001")


def is_worth_another(error: Exception) -> bool:
    if is_deadlock(error):
        logger.info("Two transactions waited for each other; trying again")
    return isinstance(error, StaleAccess) or is_deadlock(error)
