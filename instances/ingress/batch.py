"""Many requests in one transaction: each has its own outcome, and an error in one does not affect the others.

All instances of a transaction are locked at its beginning, in one order. Requests of the same instances share a
savepoint, and the events that they announce are written at its end; if that fails, each is applied again in its own.
Those that another transaction's locks keep waiting are left out, to run alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.models import Q

from instances.access.cache import AccessCache, StaleAccess
from instances.bounds import LOCK_SECONDS
from instances.ingress.commit_hooks import robust_hooks
from instances.ingress.endpoint import IngressRequest, IngressResponse, InstanceQuery, Work
from instances.models import Instance, Subscription
from instances.sql import load, load_where, set_lock_timeout
from instances.unreadable import is_of_row, unreadable

logger = logging.getLogger(__name__)

#: Attempts of a transaction that the database aborts in favour of another one.
ATTEMPTS = 3
#: Milliseconds that a transaction of many requests waits for the first lock of another transaction, and for any after
#: it. Locks of instances are not waited for at all; those of other rows, such as `Stream`, are held by this server for
#: a few milliseconds only.
FIRST_LOCK, NEXT_LOCK = 100, 1
#: The outcome of a job until it has one.
NOT_RUN = RuntimeError("A request was left without a response")


class Job:
    """A request on its way through the queue: its work once it is prepared, its outcome once it is run."""

    def __init__(self, request: IngressRequest, future: asyncio.Future[IngressResponse] | None = None) -> None:
        self.request = request
        #: The size of the request's body in bytes.
        self.size = len(request.body)
        #: The time when it was queued, by time.monotonic().
        self.queued_at = time.monotonic()
        #: The future that `resolve` completes; None for a job that runs in its caller's thread.
        self.future = future
        self.work: Work | None = None
        self.outcome: IngressResponse | Exception = NOT_RUN

    def prepare(self, cache: AccessCache) -> None:
        """Let the endpoint authenticate and parse the request: sets `work`, or `outcome` if there is no work."""
        self.work, self.outcome = None, NOT_RUN
        try:
            prepared = self.request.endpoint.prepare(self.request, cache)
        except Exception as error:
            self.outcome = error
        else:
            if isinstance(prepared, IngressResponse):
                self.outcome = prepared
            else:
                self.work = prepared

    def result(self) -> IngressResponse:
        """Return the response. Raises the error that the request failed with."""
        if isinstance(self.outcome, IngressResponse):
            return self.outcome
        raise self.outcome

    def resolve(self) -> None:
        """Complete the future, unless its client has disconnected; called on its event loop."""
        if self.future is None or self.future.done():
            return
        if isinstance(self.outcome, IngressResponse):
            self.future.set_result(self.outcome)
        else:
            self.future.set_exception(self.outcome)


class BatchContext(threading.local):
    """The requests that this thread is applying together, for receivers that write at their end, all at once."""

    #: Called in order before the savepoint of the requests is released; None while no requests are applied.
    before_release: list[Callable[[], None]] | None = None
    #: State that the callbacks share.
    shared: dict[Any, Any]


batch_context = BatchContext()


# In one transaction


def run_batch(
    jobs: list[Job], cache: AccessCache, lock_timeout: int | None = None, waiting: Collection[Hashable] = ()
) -> list[Job]:
    """Prepare jobs, and apply them in one transaction of their own, leaving each its outcome.

    Returns the jobs that are not applied, as their instances, or other rows that they write, are locked by other
    transactions, or their queries are in `waiting`. With `lock_timeout`, waits so many milliseconds for each of those
    locks instead. Raises the error that the entire transaction failed with, and StaleAccess.
    """
    cache.renew()
    for job in jobs:
        job.prepare(cache)
    prepared = [(job, job.work) for job in jobs if job.work and job.work.query not in waiting]
    deferred = [job for job in jobs if job.work and job.work.query in waiting]
    if not prepared:
        return deferred
    with transaction.atomic(), robust_hooks():
        set_lock_timeout(FIRST_LOCK if lock_timeout is None else lock_timeout)
        return deferred + _apply_all(prepared, cache, wait_for_locks=lock_timeout is not None)


def _apply_all(prepared: list[tuple[Job, Work]], cache: AccessCache, wait_for_locks: bool) -> list[Job]:
    lock = "FOR NO KEY UPDATE" if wait_for_locks else "FOR NO KEY UPDATE SKIP LOCKED"
    rows = LockedInstances(_matching([work.query for _, work in prepared], lock))
    deferred = [] if wait_for_locks else _locked_by_others(prepared, rows)
    cache.check()
    ready = [(rows.ids(work.query), job) for job, work in prepared if job not in deferred]
    ready.sort(key=lambda each: each[0])
    for ids, group in groupby(ready, key=lambda each: each[0]):
        deferred += _apply_group([job for _, job in group], rows, ids, is_alone=len(prepared) == 1)
    return deferred


def _locked_by_others(prepared: list[tuple[Job, Work]], rows: LockedInstances) -> list[Job]:
    """Return the jobs with an instance that exists and was skipped, because another transaction holds its lock."""
    missing = [(job, work) for job, work in prepared if not rows.has_all(work.query)]
    if not missing or not connection.features.has_select_for_update_skip_locked:
        return []
    existing = LockedInstances(_matching([work.query for _, work in missing]))
    return [job for job, work in missing if existing.ids(work.query) != rows.ids(work.query)]


def _apply_group(jobs: Sequence[Job], rows: LockedInstances, ids: tuple[UUID, ...], is_alone: bool) -> list[Job]:
    """Apply jobs of the same instances in one savepoint; if that fails, each in its own.

    Returns the jobs that are left out, as another transaction has locked a row that they write, and those after them.
    """
    try:
        # a job that is alone in the transaction needs no savepoint: it has no others to protect
        with transaction.atomic(savepoint=not is_alone):
            for job, response in zip(jobs, _responses(jobs, rows), strict=True):
                job.outcome = response
    except Exception as error:
        if is_deadlock(error) or (is_alone and is_locked(error)):
            raise
        if is_alone:
            jobs[0].outcome = error
            return []
        rows.reload(ids)
        if is_locked(error):
            set_lock_timeout(NEXT_LOCK)
            return list(jobs)
        if len(jobs) == 1:
            jobs[0].outcome = error
            return []
        deferred: list[Job] = []
        for job in jobs:
            deferred += [job] if deferred else _apply_group([job], rows, ids, is_alone=False)
        return deferred
    return []


def _responses(jobs: Sequence[Job], rows: LockedInstances) -> list[IngressResponse]:
    """Apply the work of jobs and record the events that it announces. Returns their responses."""
    batch_context.before_release, batch_context.shared = [], {}
    try:
        works = [job.work for job in jobs if job.work]
        for work_class, group in groupby(works, key=lambda work: work.__class__):
            works_of_class = list(group)
            work_class.apply_all(works_of_class, rows.matching(works_of_class[0].query))
        for callback in batch_context.before_release:
            callback()
        return [work.response() for work in works]
    finally:
        # nothing stays with the thread until its next requests: they may have been megabytes
        batch_context.before_release, batch_context.shared = None, {}


# The instances of a transaction


class LockedInstances:
    """The instances of a transaction, with an index for the queries of its requests."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances: dict[UUID, Instance] = {}
        self._ids: dict[tuple[str, ...], list[UUID]] = {}
        for instance in instances:
            self._instances[instance.pk] = instance
            for key in _lookup_keys(instance):
                self._ids.setdefault(key, []).append(instance.pk)
        self._read_subscriptions()

    def ids(self, query: InstanceQuery) -> tuple[UUID, ...]:
        return tuple(sorted({pk for key in query.lookup_keys for pk in self._ids.get(key, ())}))

    def matching(self, query: InstanceQuery) -> list[Instance]:
        return [self._instances[pk] for pk in self.ids(query)]

    def has_all(self, query: InstanceQuery) -> bool:
        """Return whether no further instance can match."""
        return query.is_exhaustive and all(key in self._ids for key in query.lookup_keys)

    def reload(self, ids: Iterable[UUID]) -> None:
        """Read instances again: after the rollback of a savepoint, the objects differ from their rows."""
        self._instances |= Instance.objects.in_bulk(list(ids))
        self._read_subscriptions()

    def _read_subscriptions(self) -> None:
        """Read the subscriptions of all instances at once: the recording of each event asks for them."""
        subscriptions = _subscriptions_of(list(self._instances))
        for instance in self._instances.values():
            instance.known_subscriptions = [each for each in subscriptions if each.instance_id in (instance.pk, None)]


def _subscriptions_of(ids: list[UUID]) -> list[Subscription]:
    """Return the subscriptions of instances, and those of all."""
    if not ids:
        return []
    if not unreadable.of(Subscription):
        try:
            found = load(Subscription, ids, " OR instance_id IS NULL")
            for subscription in found:
                subscription.check_shape()
            return found
        except Exception as error:
            if not is_of_row(error):
                raise
    return Subscription.objects.filter(Q(instance__in=ids) | Q(instance=None)).order_by("pk").even_unreadable()


def _lookup_keys(instance: Instance) -> Iterator[tuple[str, ...]]:
    yield ("name", instance.name)
    if instance.number:
        yield ("number", instance.integration, instance.number)
    if instance.business_id:
        yield ("business", instance.integration, instance.business_id)


def _matching(queries: Iterable[InstanceQuery], lock: str = "") -> list[Instance]:
    """Return the instances that match any of the queries, by id; `lock` is PostgreSQL's clause that locks the rows."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for query in queries:
        if query.name is not None:
            wanted.setdefault(("", "name"), set()).add(query.name)
        if query.numbers:
            wanted.setdefault((query.integration, "number"), set()).update(query.numbers)
        if query.business_ids:
            wanted.setdefault((query.integration, "business_id"), set()).update(query.business_ids)
    if not wanted:
        return []
    conditions: list[str] = []
    values: list[str] = []
    for (integration, column), given in wanted.items():
        condition = f"{column} IN ({', '.join(['%s'] * len(given))})"
        conditions.append(f"(integration = %s AND {condition})" if integration else condition)
        values += [integration, *given] if integration else given
    ending = lock if connection.features.has_select_for_update else ""
    return load_where(Instance, f"{' OR '.join(conditions)} ORDER BY id {ending}", values)


# One request alone


def run_alone(job: Job, lock_timeout: int) -> bool:
    """Run one job in a transaction of its own that waits `lock_timeout` milliseconds for each lock.

    Always leaves an outcome; returns False if a lock was waited for in vain.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            run_batch([job], AccessCache(), lock_timeout)
            break
        except Exception as error:
            job.outcome = error
            if attempt == ATTEMPTS or not is_retryable(error):
                return not is_locked(error)
    return True


def process(request: IngressRequest) -> IngressResponse:
    """Run a request in the caller's thread, and return its response. Raises the error that it failed with."""
    job = Job(request)
    run_alone(job, LOCK_SECONDS * 1000)
    return job.result()


def is_locked(error: Exception) -> bool:
    """Return whether PostgreSQL ended a transaction that waited for a lock longer than its lock_timeout."""
    return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) == "55P03"


def is_deadlock(error: Exception) -> bool:
    return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) in ("40P01", "40001")


def is_retryable(error: Exception) -> bool:
    if is_deadlock(error):
        logger.info("Two transactions waited for each other; trying again")
    return isinstance(error, StaleAccess) or is_deadlock(error)
