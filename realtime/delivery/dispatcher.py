"""Sends what endpoints are owed: hundreds at a time, each within its bound, so that a dead one holds up nobody.

Deliveries are claimed with a lease and settled in batches, each in one transaction. What a process that dies had
claimed is due again when the lease is over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from instances.errors import DATABASE_ERRORS
from realtime.database import Pool, database
from realtime.delivery import wakeup
from realtime.delivery.concurrency import Availability, ConcurrencyLimiter
from realtime.delivery.endpoint_health import failing_endpoints, note_failure, note_success, switch_off
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import LEASE, Attempt, AttemptResult, Delivery, State
from realtime.delivery.transports import retry
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result, transports

logger = logging.getLogger(__name__)

#: Endpoints that one look takes up.
ENDPOINTS_AT_ONCE = 100
#: Seconds between two looks for what is due when nobody says that there is something.
INTERVAL = 1.0
#: Seconds for which an endpoint is passed over that gave nothing: others hold what is due, or there is no memory.
COOLING_DOWN = 0.25
#: Seconds between two renewals of the lease on what is in flight.
RENEWAL = LEASE / 3
#: Results that are stored together, at most.
BATCH = 200
#: Spreads attempts over time.
_random = random.Random()


class FinishedAttempt(NamedTuple):
    delivery: Delivery
    #: None: it is off, or gone.
    endpoint: Endpoint | None
    outcome: Outcome
    at: datetime
    seconds: float


class Dispatcher:
    """Runs on an event loop, in the server or in `manage.py deliver`; several may, on one database."""

    def __init__(self) -> None:
        self._lease = secrets.token_hex(8)
        self._places = ConcurrencyLimiter()
        self._barren: dict[int, float] = {}
        self._woken = asyncio.Event()
        self._results: list[tuple[int, FinishedAttempt]] = []
        self._has_results = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled; then what it has not sent is due for others at once."""
        listener = self._wake_from_thread()
        wakeup.listeners.add(listener)
        beside = [asyncio.ensure_future(one()) for one in (self._store_results_forever, self._renew_forever)]
        try:
            await self._load_failing()
            while True:
                self._woken.clear()
                if not await self._take_some():
                    await self._rest()
        finally:
            wakeup.listeners.discard(listener)
            running = [*beside, *self._tasks]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._stop()

    async def _load_failing(self) -> None:
        """Who failed before this process began gets no more places than it had."""
        with suppress(DatabaseError):  # the first look will tell
            self._places.remember_failing(await database(failing_endpoints, pool=Pool.SENDS))

    async def _stop(self) -> None:
        try:
            if self._results:
                await database(_store_results, [attempted for _, attempted in self._results], pool=Pool.SENDS)
            await database(Delivery.objects.release, self._lease, pool=Pool.SENDS)
        except DatabaseError as error:
            logger.error("What was in flight is sent again when its lease is over: %s", error)
        finally:
            for transport in transports().values():
                await transport.close()

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            if self._places:
                try:
                    await database(Delivery.objects.renew, self._lease, pool=Pool.SENDS)
                except DATABASE_ERRORS as error:
                    logger.error("The lease could not be renewed: %s", error)
                except Exception:
                    logger.exception("The lease could not be renewed")

    def _wake_from_thread(self) -> Any:
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(self._woken.set)

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            # not wait_for, which before Python 3.12 may keep a cancellation to itself
            async with asyncio.timeout(INTERVAL):
                await self._woken.wait()

    async def _take_some(self) -> bool:
        """Claim what is due and may be sent now; returns whether another look may find more."""
        now = time.monotonic()
        self._barren = {one: until for one, until in self._barren.items() if until > now}
        look = self._places.look()
        try:
            claimed, barren = await database(_claim, self._lease, look, list(self._barren), pool=Pool.SENDS)
        except DATABASE_ERRORS as error:
            logger.error("What is to be delivered could not be read; trying again: %s", error)
            return False
        except Exception:
            logger.exception("What is to be delivered could not be read; trying again")
            return False
        self._barren |= dict.fromkeys(barren, time.monotonic() + COOLING_DOWN)
        for delivery, endpoint in claimed:
            place = self._places.begin(delivery.endpoint_id, delivery.size)
            task = asyncio.ensure_future(self._deliver(delivery, endpoint, place))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(claimed or barren)

    async def _deliver(self, delivery: Delivery, endpoint: Endpoint | None, place: int) -> None:
        at, began = timezone.now(), time.monotonic()
        outcome = Outcome(Result.DEAD, error="The endpoint is switched off or gone")
        try:
            if endpoint is not None:
                message = OutgoingMessage(delivery.event_id, delivery.type, bytes(delivery.body), delivery.attempts + 1)
                outcome = await transports()[endpoint.transport].send(message, endpoint)
        except Exception:
            logger.exception("A transport has failed")
            outcome = Outcome(Result.RETRY, error="The transport failed here; the server's log says how")
        self._places.answered(place, outcome.result is Result.DELIVERED)
        self._results.append((place, FinishedAttempt(delivery, endpoint, outcome, at, time.monotonic() - began)))
        self._has_results.set()

    async def _store_results_forever(self) -> None:
        while True:
            await self._has_results.wait()
            self._has_results.clear()
            while self._results:
                batch, self._results = self._results[:BATCH], self._results[BATCH:]
                await self._store_results(batch)

    async def _store_results(self, batch: list[tuple[int, FinishedAttempt]]) -> None:
        """Store results; while the database is away they are kept, and their endpoints' places taken.

        One that can never be stored must not hold up the others: its delivery stays claimed until this process stops.
        """
        while True:
            try:
                await database(_store_results, [attempted for _, attempted in batch], pool=Pool.SENDS)
                break
            except DATABASE_ERRORS as error:
                logger.error("What came of deliveries could not be stored; trying again: %s", error)
                await asyncio.sleep(INTERVAL)
            except Exception:
                if len(batch) > 1:
                    for one in batch:
                        await self._store_results([one])
                    return
                logger.exception("What came of delivery %s could not be stored", batch[0][1].delivery.pk)
                break
        for place, _ in batch:
            self._places.end(place)
        self._woken.set()


def _claim(
    lease: str, look: Availability, barren: list[int]
) -> tuple[list[tuple[Delivery, Endpoint | None]], list[int]]:
    """What is due, with its endpoints as they are now; and the endpoints that gave nothing, though something is due."""
    claimed: list[Delivery] = []
    fruitless = []
    with transaction.atomic():
        for endpoint_id, is_ordered in Delivery.objects.due(ENDPOINTS_AT_ONCE, without=[*look.full(), *barren]):
            free = look.free(endpoint_id)
            claim = Delivery.objects.claim_first if is_ordered else Delivery.objects.claim
            found = claim(endpoint_id, free, lease, look.large) if free else []
            look.take(endpoint_id, [one.size for one in found])
            claimed += found
            if not found:  # also for want of a place: such ones must not fill the next look
                fruitless.append(endpoint_id)
    endpoints = endpoints_of({one.endpoint_id for one in claimed}) if claimed else {}
    return [(one, endpoints.get(one.endpoint_id)) for one in claimed], fruitless


def _store_results(batch: list[FinishedAttempt]) -> None:
    """Store results and, apart from that, switch off what does not work: for an event the instance is locked first."""
    by_endpoint = defaultdict(list)
    for attempted in batch:
        if attempted.delivery.endpoint_id > 0:
            by_endpoint[attempted.delivery.endpoint_id].append(attempted.outcome.result)
    with transaction.atomic():
        Delivery.objects.store_results([_result(attempted) for attempted in batch])
        note_success([one for one, results in by_endpoint.items() if Result.DELIVERED in results])
        # sorted: in one order all processes lock them
        failed = sorted(one for one, results in by_endpoint.items() if Result.DELIVERED not in results)
        useless = [(one, reason) for one in failed if (reason := note_failure(one, by_endpoint[one]))]
    for endpoint_id, reason in useless:
        with transaction.atomic():
            switch_off(endpoint_id, reason)


def _result(attempted: FinishedAttempt) -> AttemptResult:
    delivery, endpoint, outcome, at, seconds = attempted
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
