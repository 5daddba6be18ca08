"""Sends pending deliveries: hundreds at a time, within a limit for each endpoint, so that a dead one delays no other.

Deliveries are claimed with a lease, and results are stored in batches, each in one transaction. When a process dies,
the deliveries it has claimed are due again at the end of the lease.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from instances.errors import DATABASE_ERRORS
from realtime.database import Pool, database
from realtime.delivery import wakeup
from realtime.delivery.concurrency import Availability, ConcurrencyLimiter
from realtime.delivery.endpoint_health import disable, failing_endpoints, record_failure, record_success
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import LEASE, Attempt, AttemptResult, Delivery, State, load_bodies
from realtime.delivery.transports import retry
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result, transports

logger = logging.getLogger(__name__)

#: Endpoints that one poll claims for.
ENDPOINTS_AT_ONCE = 100
#: Seconds between two polls for due deliveries without a wakeup.
INTERVAL = 1.0
#: Seconds for which an endpoint cools down without a claimable delivery: others have claimed them, or memory is short.
COOLING_DOWN = 0.25
#: Seconds between two renewals of the lease.
RENEWAL = LEASE / 3
#: Results that are stored in one transaction, at most.
BATCH = 200
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
        self._wakeup = asyncio.Event()
        #: Finished attempts whose results are not stored yet, with their slots.
        self._finished: list[tuple[int, FinishedAttempt]] = []
        self._has_finished = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send deliveries until cancelled; then unsent deliveries are released to other processes at once."""
        listener = self._wakeup_from_thread()
        wakeup.listeners.add(listener)
        background = [asyncio.ensure_future(loop()) for loop in (self._store_results_forever, self._renew_forever)]
        try:
            await self._load_failing()
            while True:
                self._wakeup.clear()
                if not await self._start_attempts():
                    await self._wait_for_wakeup()
        finally:
            wakeup.listeners.discard(listener)
            running = [*background, *self._tasks]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._stop()

    async def _load_failing(self) -> None:
        """Limit the endpoints that failed before this process started."""
        with suppress(DatabaseError):  # the first poll reports it
            self._limiter.load_failing(await database(failing_endpoints, pool=Pool.SENDS))

    async def _stop(self) -> None:
        try:
            if self._finished:
                await database(_store_batch, [attempt for _, attempt in self._finished], pool=Pool.SENDS)
            await database(Delivery.objects.release, self._lease, pool=Pool.SENDS)
        except DatabaseError as error:
            logger.error("Deliveries in flight are sent again when their lease ends: %s", error)
        finally:
            for transport in transports().values():
                await transport.close()

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            if self._limiter:
                try:
                    await database(Delivery.objects.renew, self._lease, pool=Pool.SENDS)
                except DATABASE_ERRORS as error:
                    logger.error("The lease could not be renewed: %s", error)
                except Exception:
                    logger.exception("The lease could not be renewed")

    def _wakeup_from_thread(self) -> Callable[[], object]:
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(self._wakeup.set)

    async def _wait_for_wakeup(self) -> None:
        with suppress(TimeoutError):
            # not wait_for, which loses a cancellation that meets a wakeup before Python 3.12
            async with asyncio.timeout(INTERVAL):
                await self._wakeup.wait()

    async def _start_attempts(self) -> bool:
        """Claim due deliveries and start their attempts; returns whether another poll may claim more."""
        now = time.monotonic()
        self._cooling_down = {pk: until for pk, until in self._cooling_down.items() if until > now}
        available = self._limiter.availability()
        try:
            claimed, unclaimable = await database(
                _claim, self._lease, available, list(self._cooling_down), pool=Pool.SENDS
            )
        except DATABASE_ERRORS as error:
            logger.error("Due deliveries could not be read; trying again: %s", error)
            return False
        except Exception:
            logger.exception("Due deliveries could not be read; trying again")
            return False
        self._cooling_down |= dict.fromkeys(unclaimable, time.monotonic() + COOLING_DOWN)
        for delivery, endpoint in claimed:
            slot = self._limiter.acquire(delivery.endpoint_id, delivery.size)
            task = asyncio.ensure_future(self._attempt(delivery, endpoint, slot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(claimed or unclaimable)

    async def _attempt(self, delivery: Delivery, endpoint: Endpoint | None, slot: int) -> None:
        at, start = timezone.now(), time.monotonic()
        outcome = Outcome(Result.DEAD, error="The endpoint is switched off or gone")
        try:
            if endpoint is not None:
                message = OutgoingMessage(delivery.event_id, delivery.type, delivery.payload(), delivery.attempts + 1)
                outcome = await transports()[endpoint.transport].send(message, endpoint)
        except Exception:
            logger.exception("A transport has failed")
            outcome = Outcome(Result.RETRY, error="The transport failed here; the server's log says how")
        self._limiter.record(slot, outcome.result is Result.DELIVERED)
        self._finished.append((slot, FinishedAttempt(delivery, endpoint, outcome, at, time.monotonic() - start)))
        self._has_finished.set()

    async def _store_results_forever(self) -> None:
        while True:
            await self._has_finished.wait()
            self._has_finished.clear()
            while self._finished:
                batch, self._finished = self._finished[:BATCH], self._finished[BATCH:]
                await self._store_results(batch)

    async def _store_results(self, batch: list[tuple[int, FinishedAttempt]]) -> None:
        """Store results, then free their slots; while the database is away, both are kept.

        A result that can never be stored must not delay the others: its delivery stays claimed until the process stops.
        """
        while True:
            try:
                await database(_store_batch, [attempt for _, attempt in batch], pool=Pool.SENDS)
                break
            except DATABASE_ERRORS as error:
                logger.error("Results of deliveries could not be stored; trying again: %s", error)
                await asyncio.sleep(INTERVAL)
            except Exception:
                if len(batch) > 1:
                    for item in batch:
                        await self._store_results([item])
                    return
                logger.exception("The result of delivery %s could not be stored", batch[0][1].delivery.pk)
                break
        for slot, _ in batch:
            self._limiter.release(slot)
        self._wakeup.set()


def _claim(
    lease: str, available: Availability, cooling_down: list[int]
) -> tuple[list[tuple[Delivery, Endpoint | None]], list[int]]:
    """Claim due deliveries; returns them with their current endpoints, and the endpoints without a claimable one."""
    claimed: list[Delivery] = []
    unclaimable = []
    with transaction.atomic():
        due = Delivery.objects.due(ENDPOINTS_AT_ONCE, excluding=[*available.full(), *cooling_down])
        for endpoint_id, is_ordered in due:
            free = available.free(endpoint_id)
            claim = Delivery.objects.claim_first if is_ordered else Delivery.objects.claim
            deliveries = claim(endpoint_id, free, lease, available.large) if free else []
            available.reserve(endpoint_id, [delivery.size for delivery in deliveries])
            claimed += deliveries
            if not deliveries:  # also without a free slot: such endpoints must not fill the next poll
                unclaimable.append(endpoint_id)
    endpoints = endpoints_of({delivery.endpoint_id for delivery in claimed}) if claimed else {}
    load_bodies(claimed)
    return [(delivery, endpoints.get(delivery.endpoint_id)) for delivery in claimed], unclaimable


def _store_batch(batch: list[FinishedAttempt]) -> None:
    """Store results and the health of endpoints, then disable endpoints that are gone or fail for days.

    Disabling takes a transaction of its own: its event locks the instance first.
    """
    results_of = defaultdict(list)
    for attempt in batch:
        if attempt.delivery.endpoint_id > 0:
            results_of[attempt.delivery.endpoint_id].append(attempt.outcome.result)
    with transaction.atomic():
        Delivery.objects.store_results([_result(attempt) for attempt in batch])
        record_success([pk for pk, results in results_of.items() if Result.DELIVERED in results])
        # sorted: all processes lock them in one order
        failed = sorted(pk for pk, results in results_of.items() if Result.DELIVERED not in results)
        to_disable = [(pk, reason) for pk in failed if (reason := record_failure(pk, results_of[pk]))]
    for endpoint_id, reason in to_disable:
        with transaction.atomic():
            disable(endpoint_id, reason)


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
    now = timezone.now()
    if outcome.result is Result.DELIVERED:
        return AttemptResult(delivery, State.DELIVERED, now, attempt)
    delay = retry.delay(number, _random) if outcome.result is Result.RETRY else None
    if delay is None:
        return AttemptResult(delivery, State.DEAD if endpoint else State.DROPPED, now, attempt)
    wait = max(delay, outcome.retry_after or 0)
    return AttemptResult(delivery, State.PENDING, now + timedelta(seconds=wait), attempt)
