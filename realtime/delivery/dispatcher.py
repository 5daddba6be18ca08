"""Sends pending deliveries: hundreds at a time, within a limit for each endpoint, so that a dead one delays no other.

Deliveries are claimed with a lease, and results are stored in batches, each in one transaction. When a process dies,
the deliveries it has claimed are due again at the end of the lease. So are those whose claim was committed without
this process knowing, as the connection broke: only what is in flight here is renewed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from instances.errors import DATABASE_ERRORS
from instances.ingress.held_bytes import held_bytes
from instances.models import Subscription
from instances.sql import locked_by_others
from realtime.database import Pool, close_kept_connections, database
from realtime.delivery import wakeup
from realtime.delivery.bodies import Body
from realtime.delivery.causes import Cause
from realtime.delivery.concurrency import Availability, ConcurrencyLimiter
from realtime.delivery.endpoint_health import changing, disable, failing_endpoints, record_failure, record_success
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.failure_log import FailureLog
from realtime.delivery.models import (
    LEASE,
    UNREADABLE,
    Attempt,
    AttemptResult,
    Delivery,
    DueEndpoint,
    State,
    load_bodies,
)
from realtime.delivery.transports import retry
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result, transports
from realtime.operation.supervisor import SetAside, Supervisor, is_cancelled

logger = logging.getLogger(__name__)

#: Endpoints that one poll claims for.
ENDPOINTS_AT_ONCE = 100
#: Seconds between two polls for due deliveries without a wakeup.
INTERVAL = 1.0
#: Seconds for which an endpoint cools down without a claimable delivery: others have claimed them, or memory is short.
COOLING_DOWN = 0.25
#: Seconds for which an endpoint that is gone cools down: by then it is disabled.
DISABLING = 2.0
#: Seconds between two renewals of the lease.
RENEWAL = LEASE / 3
#: Results that are stored in one transaction, at most.
BATCH = 200
#: Seconds until a result is stored whose rows another transaction has locked.
LOCKED = 1.0
#: The jitter of retries.
_random = random.Random()


class FinishedAttempt(NamedTuple):
    """An attempt that was made, and its outcome."""

    delivery: Delivery
    #: None for an endpoint that is disabled or deleted.
    endpoint: Endpoint | None
    outcome: Outcome
    at: datetime
    seconds: float


class Dispatcher:
    """Runs on an event loop, in the server or in `manage.py deliver`; several may share one database."""

    def __init__(self) -> None:
        self._lease = secrets.token_hex(8)
        self._limiter = ConcurrencyLimiter()
        #: Endpoints that are cooling down, and the time (time.monotonic) until when.
        self._cooling_down: dict[int, float] = {}
        #: Endpoints for which deliveries could not be claimed.
        self._set_aside = SetAside("endpoint")
        self._failures = FailureLog()
        self._wakeup = asyncio.Event()
        self._listener: Callable[[], object] = self._wakeup.set
        #: The delivery in each slot, until its result is stored: its claim is renewed, and no other one is.
        self._in_flight: dict[int, Delivery] = {}
        #: Finished attempts whose results are not stored yet, with their slots.
        self._finished: deque[tuple[int, FinishedAttempt]] = deque()
        #: Those that wait for LOCKED before they are among the finished again.
        self._locked: list[tuple[int, FinishedAttempt]] = []
        self._has_finished = asyncio.Event()
        #: The task that disables an endpoint, by endpoint.
        self._disabling: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, supervisor: Supervisor) -> None:
        """Have the supervisor run the loops that claim and send deliveries and store their results."""
        loop = asyncio.get_running_loop()
        self._listener = lambda: loop.call_soon_threadsafe(self._wakeup.set)
        wakeup.listeners.add(self._listener)
        supervisor.start("deliveries", self._send_forever)
        supervisor.start("delivery results", self._store_results_forever)
        supervisor.start("delivery claims", self._renew_forever)

    async def stop(self) -> None:
        """Cancel the attempts, store what is finished, and release the rest to other processes at once.

        The supervisor has to be stopped first.
        """
        wakeup.listeners.discard(self._listener)
        running = [*self._tasks, *self._disabling.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        try:
            if finished := [attempt for _, attempt in (*self._finished, *self._locked)]:
                await database(_store_batch, finished, pool=Pool.DELIVERIES)
            await database(Delivery.objects.release, self._lease, pool=Pool.DELIVERIES)
        except Exception as error:
            logger.error("Deliveries in flight are sent again when their lease ends: %s", error)
        finally:
            await close_kept_connections()
            for transport in transports().values():
                await transport.close()

    async def run(self) -> None:
        """Send deliveries until cancelled, under a supervisor of its own."""
        supervisor = Supervisor()
        self.start(supervisor)
        try:
            await asyncio.Event().wait()
        finally:
            await supervisor.stop()
            await self.stop()

    # Claims

    async def _send_forever(self) -> None:
        # those that failed before this process started
        self._limiter.load_failing(await database(failing_endpoints, pool=Pool.DELIVERIES))
        while True:
            self._wakeup.clear()
            if not await self._start_attempts():
                await self._wait_for_wakeup()

    async def _wait_for_wakeup(self) -> None:
        with suppress(TimeoutError):
            # not wait_for, which loses a cancellation that meets a wakeup before Python 3.12
            async with asyncio.timeout(INTERVAL):
                await self._wakeup.wait()

    async def _start_attempts(self) -> bool:
        """Claim due deliveries and start their attempts; returns whether another poll may claim more."""
        now = time.monotonic()
        self._cooling_down = {pk: until for pk, until in self._cooling_down.items() if until > now}
        excluded = [*self._cooling_down, *self._disabling, *self._set_aside.keys()]
        available = self._limiter.availability()
        claimed, unclaimable, failed = await database(_claim, self._lease, available, excluded, pool=Pool.DELIVERIES)
        for endpoint_id, error in failed.items():
            self._set_aside.add(endpoint_id, error)
        self._cooling_down |= dict.fromkeys(unclaimable, time.monotonic() + COOLING_DOWN)
        for delivery, endpoint, instance in claimed:
            self._set_aside.discard(delivery.endpoint_id)
            slot = self._limiter.acquire(delivery.endpoint_id, delivery.size, instance)
            self._in_flight[slot] = delivery
            task = asyncio.ensure_future(self._attempt(delivery, endpoint, slot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(claimed or unclaimable)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            if self._in_flight:
                ids = [delivery.pk for delivery in self._in_flight.values()]
                await database(Delivery.objects.renew, ids, self._lease, pool=Pool.DELIVERIES)

    # Attempts

    async def _attempt(self, delivery: Delivery, endpoint: Endpoint | None, slot: int) -> None:
        at, start = timezone.now(), time.monotonic()
        outcome = await _send(delivery, endpoint)
        if not outcome.is_ours:
            self._limiter.record(slot, outcome.result is Result.DELIVERED)
        self._failures.note(delivery.endpoint_id, outcome)
        if outcome.result is Result.GONE:
            self._cooling_down[delivery.endpoint_id] = time.monotonic() + DISABLING
        self._finished.append((slot, FinishedAttempt(delivery, endpoint, outcome, at, time.monotonic() - start)))
        self._has_finished.set()

    async def _store_results_forever(self) -> None:
        """Store results, then free their slots; while the database is away, both are kept."""
        while True:
            await self._has_finished.wait()
            while self._finished:
                count = min(len(self._finished), BATCH)
                try:
                    await self._store_results(count)
                except DATABASE_ERRORS:
                    raise
                except Exception:
                    for _ in range(count):
                        await self._store_result()
            self._has_finished.clear()

    async def _store_result(self) -> None:
        """Store the first result alone; one that cannot be stored ends its delivery, and delays no other."""
        slot, attempt = self._finished[0]
        try:
            await self._store_results(1)
        except DATABASE_ERRORS:
            raise
        except Exception:
            logger.exception("The result of delivery %s could not be stored", attempt.delivery.pk)
            await database(_end_without_result, attempt, pool=Pool.DELIVERIES)
            self._finished.popleft()
            self._free(slot)

    async def _store_results(self, count: int) -> None:
        """Store the first `count` results in one transaction, and free their slots; those that are locked wait."""
        batch = [self._finished[number] for number in range(count)]
        stored = await database(_store_batch, [attempt for _, attempt in batch], pool=Pool.DELIVERIES)
        for slot, attempt in batch:
            self._finished.popleft()
            if attempt.delivery.pk in stored.locked:
                self._locked.append((slot, attempt))
            else:
                self._free(slot)
        if stored.locked:
            asyncio.get_running_loop().call_later(LOCKED, self._try_locked)
        self._wakeup.set()
        for endpoint_id, reason in stored.to_disable:
            if endpoint_id not in self._disabling:
                self._disabling[endpoint_id] = asyncio.ensure_future(self._disable(endpoint_id, reason))

    def _try_locked(self) -> None:
        self._finished.extend(self._locked)
        self._locked.clear()
        self._has_finished.set()

    def _free(self, slot: int) -> None:
        size = self._in_flight.pop(slot).size
        self._limiter.release(slot)
        held_bytes.note_released(size)  # outside of the budget, but of the same heaps

    async def _disable(self, endpoint_id: int, reason: str) -> None:
        """Disable an endpoint; it may wait for the lock of its instance, so results do not wait for it."""
        try:
            await database(disable, endpoint_id, reason, pool=Pool.UPKEEP)
        except Exception as error:
            logger.error("The endpoint %s is switched off at its next failure: %s", endpoint_id, error)
        finally:
            del self._disabling[endpoint_id]
            self._wakeup.set()


async def _send(delivery: Delivery, endpoint: Endpoint | None) -> Outcome:
    """Send a delivery to its endpoint; an unforeseen error is logged, and is the outcome of this attempt alone."""
    if endpoint is None:
        return Outcome(Result.DEAD, error="The endpoint is switched off or gone", cause=Cause.OFF)
    if endpoint.error:
        return Outcome(Result.RETRY, error=endpoint.error, cause=Cause.SECRETS)
    try:
        return await transports()[endpoint.transport].send(_message(delivery), endpoint)
    except Body.DoesNotExist:
        return Outcome(Result.RETRY, error=UNREADABLE, cause=Cause.UNREADABLE, is_ours=True)
    except (Exception, asyncio.CancelledError):
        if is_cancelled():
            raise
        logger.exception("A transport has failed")
        text = "The transport failed here; the server's log says how"
        return Outcome(Result.RETRY, error=text, cause=Cause.FAILED_HERE)


def _message(delivery: Delivery) -> OutgoingMessage:
    """Return the message of the next attempt. Raises Body.DoesNotExist."""
    return OutgoingMessage(
        id=delivery.event_id,
        type=delivery.type,
        payload=delivery.payload(),
        attempt=delivery.attempts + 1,
        instance_id=str(delivery.instance_id),
        instance_name=delivery.name,
    )


class Claimed(NamedTuple):
    """The result of a poll: deliveries, each with its current endpoint and the instance that this one belongs to."""

    deliveries: list[tuple[Delivery, Endpoint | None, Hashable]]
    #: Endpoints without a delivery that could be claimed.
    unclaimable: list[int]
    #: Endpoints that raised an unforeseen error, whose claims are rolled back.
    failed: dict[int, Exception]


def _claim(lease: str, available: Availability, excluded: list[int]) -> Claimed:
    """Claim due deliveries and read their endpoints, in one transaction: without an endpoint there is no claim."""
    result = Claimed([], [], {})
    due = Delivery.objects.due(ENDPOINTS_AT_ONCE, [*available.full(), *excluded], available.full_instances())
    if not due:
        return result
    try:
        _claim_for(due, lease, available, result)
    except DATABASE_ERRORS:
        raise
    except Exception:
        # one endpoint is the cause, or one of its deliveries: each endpoint has a transaction of its own
        result = Claimed([], [], {})
        for endpoint in due:
            try:
                _claim_for([endpoint], lease, available, result, is_careful=True)
            except DATABASE_ERRORS:
                raise
            except Exception as error:
                result.failed[endpoint.id] = error
    return result


def _claim_for(
    due: list[DueEndpoint], lease: str, available: Availability, result: Claimed, is_careful: bool = False
) -> None:
    """Claim deliveries of these endpoints in one transaction, and add them to the result.

    If it `is_careful`, a delivery that cannot be read keeps none of the others.
    """
    claimed: list[Delivery] = []
    unclaimable = []
    instances = {}
    with transaction.atomic():
        for endpoint_id, is_ordered, instance in due:
            free = available.free(endpoint_id, instance)
            claim = Delivery.objects.claim_first if is_ordered else Delivery.objects.claim
            deliveries = claim(endpoint_id, free, lease, available.large(instance), is_careful) if free else []
            available.reserve(endpoint_id, [delivery.size for delivery in deliveries], instance)
            instances[endpoint_id] = instance
            claimed += deliveries
            if not deliveries:  # also without a free slot: such endpoints must not fill the next poll
                unclaimable.append(endpoint_id)
        endpoints = endpoints_of({delivery.endpoint_id for delivery in claimed}) if claimed else {}
        load_bodies(claimed, is_careful)
    for delivery in claimed:
        endpoint_id = delivery.endpoint_id
        result.deliveries.append((delivery, endpoints.get(endpoint_id), instances[endpoint_id]))
    result.unclaimable.extend(unclaimable)


class StoredBatch(NamedTuple):
    """The result of storing results."""

    #: The endpoints to disable, each with the reason.
    to_disable: list[tuple[int, str]]
    #: The ids of deliveries whose results are not stored, as another transaction has locked their rows.
    locked: set[int]


def _store_batch(batch: list[FinishedAttempt]) -> StoredBatch:
    """Store results and the health of endpoints, but for those whose rows another transaction has locked."""
    with transaction.atomic():
        locked = locked_by_others(Delivery.objects.all(), [attempt.delivery.pk for attempt in batch])
        results_of = _results_by_endpoint(attempt for attempt in batch if attempt.delivery.pk not in locked)
        succeeded = {pk for pk, results in results_of.items() if Result.DELIVERED in results}
        endpoints = locked_by_others(Subscription.objects.all(), changing(succeeded, results_of.keys() - succeeded))
        locked |= {attempt.delivery.pk for attempt in batch if attempt.delivery.endpoint_id in endpoints}
        Delivery.objects.store_results([_result(attempt) for attempt in batch if attempt.delivery.pk not in locked])
        record_success([pk for pk in succeeded if pk not in endpoints])
        # sorted: all processes lock them in one order
        failed = sorted(results_of.keys() - succeeded - endpoints)
        to_disable = [(pk, reason) for pk in failed if (reason := record_failure(pk, results_of[pk]))]
        return StoredBatch(to_disable, locked)


def _results_by_endpoint(attempts: Iterable[FinishedAttempt]) -> dict[int, list[Result]]:
    results_of = defaultdict(list)
    for attempt in attempts:
        if attempt.delivery.endpoint_id > 0 and not attempt.outcome.is_ours:
            results_of[attempt.delivery.endpoint_id].append(attempt.outcome.result)
    return results_of


def _end_without_result(finished: FinishedAttempt) -> None:
    """End a delivery whose result cannot be stored: it would be sent again and again."""
    state = State.DELIVERED if finished.outcome.result is Result.DELIVERED else State.DEAD
    claimed = Delivery.objects.pending().filter(pk=finished.delivery.pk, lease=finished.delivery.lease)
    reason = "The result of its last attempt could not be stored; the server's log says why"
    cause = Cause.FAILED_HERE.code if state == State.DEAD else ""
    claimed.update(state=state, lease=None, finished_at=timezone.now(), reason=reason, cause=cause)


def _result(finished: FinishedAttempt) -> AttemptResult:
    delivery, endpoint, outcome, at, seconds = finished
    number = delivery.attempts + 1
    attempt = Attempt(
        delivery=delivery,
        number=number,
        at=at,
        duration_ms=round(seconds * 1000),
        status=outcome.status,
        excerpt=outcome.excerpt,
        error=outcome.error,
    )
    now, cause = timezone.now(), outcome.cause_code
    if outcome.result is Result.DELIVERED:
        return AttemptResult(delivery, State.DELIVERED, now, attempt, cause)
    delay = retry.delay(number, _random) if outcome.result is Result.RETRY else None
    if delay is None:
        return AttemptResult(delivery, State.DEAD if endpoint else State.DROPPED, now, attempt, cause)
    wait = max(delay, outcome.retry_after or 0)
    return AttemptResult(delivery, State.PENDING, now + timedelta(seconds=wait), attempt, cause)
