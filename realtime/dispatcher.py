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
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from instances.errors import UNANSWERED
from instances.events import EventType, announce
from instances.models import Instance, Subscription
from realtime import waking
from realtime.database import Pool, database
from realtime.deliveries import LEASE, Attempt, Delivery, Result, State, endpoints_of
from realtime.transports import retry
from realtime.transports.base import Endpoint, Outcome, Parcel, Verdict, transports

logger = logging.getLogger(__name__)

#: Attempts that one process makes at a time, in all and to one endpoint.
MAX_IN_FLIGHT, MAX_PER_ENDPOINT = 1000, 20
#: The same to one whose last attempt failed: those that hang must not take up all the places.
MAX_PER_FAILING = 2
#: Endpoints that one look takes up.
ENDPOINTS_AT_ONCE = 100
#: Seconds between two looks for what is due when nobody says that there is something.
INTERVAL = 1.0
#: Seconds between two renewals of the lease on what is in flight.
RENEWAL = LEASE / 3
#: Results that are stored together, at most.
BATCH = 200
#: Spreads attempts over time.
_random = random.Random()

#: After how long a failure what waits for its next attempt is sent as soon as one has succeeded.
OUTAGE = timedelta(minutes=1)
#: How long an endpoint may fail until it is switched off.
PATIENCE = timedelta(days=5)


class Dispatcher:
    """Runs on an event loop, in the server or in `manage.py deliver`; several may, on one database."""

    def __init__(self) -> None:
        self._lease = secrets.token_hex(8)
        self._in_flight: Counter[int] = Counter()
        self._failing: set[int] = set()
        self._woken = asyncio.Event()
        self._results: list[tuple[Delivery, Endpoint | None, Outcome, datetime, float]] = []
        self._has_results = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled; then what it has not sent is due for others at once."""
        listener = self._wake_from_thread()
        waking.listeners.add(listener)
        beside = [asyncio.ensure_future(one()) for one in (self._settle_for_ever, self._renew_for_ever)]
        try:
            while True:
                self._woken.clear()
                if not await self._take_some():
                    await self._rest()
        finally:
            waking.listeners.discard(listener)
            running = [*beside, *self._tasks]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._stop()

    async def _stop(self) -> None:
        try:
            if self._results:
                await database(_settle, self._results, pool=Pool.SENDS)
            await database(Delivery.objects.release, self._lease, pool=Pool.SENDS)
        except DatabaseError as error:
            logger.error("What was in flight is sent again when its lease is over: %s", error)
        finally:
            for transport in transports().values():
                await transport.close()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            if self._in_flight:
                try:
                    await database(Delivery.objects.renew, self._lease, pool=Pool.SENDS)
                except UNANSWERED as error:
                    logger.error("The lease could not be renewed: %s", error)
                except Exception:
                    logger.exception("The lease could not be renewed")

    def _wake_from_thread(self) -> Any:
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(self._woken.set)

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), INTERVAL)

    async def _take_some(self) -> bool:
        """Claim what is due and may be sent now; returns whether there was anything."""
        room = MAX_IN_FLIGHT - self._in_flight.total()
        if room <= 0:
            return False
        try:
            claimed = await database(_claim, self._lease, room, self._places(), pool=Pool.SENDS)
        except UNANSWERED as error:
            logger.error("What is to be delivered could not be read; trying again: %s", error)
            return False
        except Exception:
            logger.exception("What is to be delivered could not be read; trying again")
            return False
        for delivery, endpoint in claimed:
            self._in_flight[delivery.endpoint_id] += 1
            task = asyncio.ensure_future(self._deliver(delivery, endpoint))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(claimed)

    def _places(self) -> dict[int, int]:
        """How many attempts more may be made to endpoints that are not at their beginning."""
        known = self._in_flight.keys() | self._failing
        return {one: self._bound(one) - self._in_flight[one] for one in known}

    def _bound(self, endpoint_id: int) -> int:
        return MAX_PER_FAILING if endpoint_id in self._failing else MAX_PER_ENDPOINT

    async def _deliver(self, delivery: Delivery, endpoint: Endpoint | None) -> None:
        at, began = timezone.now(), time.monotonic()
        outcome = Outcome(Verdict.DEAD, error="The endpoint is switched off or gone")
        try:
            if endpoint is not None:
                parcel = Parcel(delivery.event_id, delivery.type, bytes(delivery.body), delivery.attempts + 1)
                outcome = await transports()[endpoint.transport].send(parcel, endpoint)
        except Exception:
            logger.exception("A transport has failed")
            outcome = Outcome(Verdict.RETRY, error="The transport failed here; the server's log says how")
        if outcome.verdict is Verdict.DELIVERED:
            self._failing.discard(delivery.endpoint_id)
        else:
            self._failing.add(delivery.endpoint_id)
        self._results.append((delivery, endpoint, outcome, at, time.monotonic() - began))
        self._has_results.set()

    async def _settle_for_ever(self) -> None:
        while True:
            await self._has_results.wait()
            self._has_results.clear()
            while self._results:
                batch, self._results = self._results[:BATCH], self._results[BATCH:]
                await self._settle(batch)

    async def _settle(self, batch: list[Any]) -> None:
        """Store results; while the database is away they are kept, and their endpoints' places taken.

        One that can never be stored must not hold up the others: its delivery stays claimed until this process stops.
        """
        while True:
            try:
                await database(_settle, batch, pool=Pool.SENDS)
                break
            except UNANSWERED as error:
                logger.error("What came of deliveries could not be stored; trying again: %s", error)
                await asyncio.sleep(INTERVAL)
            except Exception:
                if len(batch) > 1:
                    for one in batch:
                        await self._settle([one])
                    return
                logger.exception("What came of delivery %s could not be stored", batch[0][0].pk)
                break
        for delivery, *_ in batch:
            self._in_flight[delivery.endpoint_id] -= 1
            if not self._in_flight[delivery.endpoint_id]:
                del self._in_flight[delivery.endpoint_id]
        self._woken.set()


def _claim(lease: str, room: int, places: dict[int, int]) -> list[tuple[Delivery, Endpoint | None]]:
    claimed: list[Delivery] = []
    full = [endpoint_id for endpoint_id, free in places.items() if free <= 0]
    with transaction.atomic():
        for endpoint_id in Delivery.objects.due_endpoints(ENDPOINTS_AT_ONCE, without=full):
            free = min(room - len(claimed), places.get(endpoint_id, MAX_PER_ENDPOINT))
            if free > 0:
                claimed += Delivery.objects.claim(endpoint_id, free, lease)
    endpoints = endpoints_of({one.endpoint_id for one in claimed}) if claimed else {}
    return [(one, endpoints.get(one.endpoint_id)) for one in claimed]


def _settle(batch: list[tuple[Delivery, Endpoint | None, Outcome, datetime, float]]) -> None:
    """Store results and, apart from that, switch off what does not work: for an event the instance is locked first."""
    useless = []
    with transaction.atomic():
        Delivery.objects.settle([_result(*one) for one in batch])
        for endpoint_id in {delivery.endpoint_id for delivery, *_ in batch if delivery.endpoint_id > 0}:
            outcomes = [outcome for delivery, _, outcome, *_ in batch if delivery.endpoint_id == endpoint_id]
            if reason := _note_health(endpoint_id, outcomes):
                useless.append((endpoint_id, reason))
    for endpoint_id, reason in useless:
        with transaction.atomic():
            _switch_off(endpoint_id, reason)


def _result(delivery: Delivery, endpoint: Endpoint | None, outcome: Outcome, at: datetime, seconds: float) -> Result:
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
    if outcome.verdict is Verdict.DELIVERED:
        return Result(delivery, State.DELIVERED, now, attempt)
    delay = retry.delay(number, _random) if outcome.verdict is Verdict.RETRY else None
    if delay is None:
        return Result(delivery, State.DEAD if endpoint else State.DROPPED, now, attempt)
    wait = max(delay, outcome.retry_after or 0)
    return Result(delivery, State.PENDING, now + timedelta(seconds=wait), attempt)


def _note_health(endpoint_id: int, outcomes: list[Outcome]) -> str:
    """Whether an endpoint works. Returns why it is to be switched off: it is gone, or has failed for days."""
    now = timezone.now()
    if any(outcome.verdict is Verdict.DELIVERED for outcome in outcomes):
        failing = Subscription.objects.filter(pk=endpoint_id).exclude(failing_since=None)
        if failing.filter(failing_since__lt=now - OUTAGE).exists():
            Delivery.objects.pending().filter(endpoint_id=endpoint_id, lease=None).update(due_at=now)
        failing.update(failing_since=None)
        return ""
    Subscription.objects.filter(pk=endpoint_id, failing_since=None).update(failing_since=now)
    if any(outcome.verdict is Verdict.GONE for outcome in outcomes):
        return "It answered 410 Gone"
    if Subscription.objects.filter(pk=endpoint_id, failing_since__lt=now - PATIENCE, is_enabled=True).exists():
        return f"Nothing could be delivered for {PATIENCE.days} days"
    return ""


def _switch_off(endpoint_id: int, reason: str) -> None:
    """And say so, by an event."""
    instance = Instance.objects.locked().filter(subscriptions=endpoint_id).first()
    endpoint = Subscription.objects.filter(pk=endpoint_id, is_enabled=True).first()
    if endpoint is None:
        return
    endpoint.is_enabled, endpoint.disabled_reason = False, reason
    endpoint.save(update_fields=["is_enabled", "disabled_reason", "updated_at"])
    Delivery.objects.give_up([endpoint_id], State.DEAD)
    logger.warning("The %s endpoint %s was switched off: %s", endpoint.transport, endpoint_id, reason)
    if instance:
        told = {"endpoint": endpoint_id, "transport": endpoint.transport, "reason": reason}
        announce(EventType.ENDPOINT_DISABLED, instance, told)
