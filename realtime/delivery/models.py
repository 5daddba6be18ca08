"""Deliveries: a row for each event and endpoint, written in the event's transaction; its bytes are a `Body`."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence, Sized
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone

from instances.access.staff import sees_all_instances, within_limit
from instances.fields import EncryptedField, JsonField, PlainField
from instances.models import Subscription
from instances.outbound.webhook_urls import masked_url
from instances.sql import insert
from instances.unreadable import readable
from realtime.delivery.bodies import Body
from realtime.delivery.causes import Cause
from realtime.delivery.concurrency import LARGE, MAX_LARGE
from realtime.delivery.payload import Payload
from realtime.delivery.transports import retry
from realtime.delivery.transports.base import transports

#: Seconds for which a claim holds unless it is renewed.
LEASE = 15

#: The `reason` of deliveries that were pending when their endpoint was deleted.
DELETED = "Its endpoint was deleted"

#: The `error` of attempts that were none, as the delivery or its body could not be read.
UNREADABLE = "Its rows in the database cannot be read, see the server's log"

#: The jitter of retries.
_random = random.Random()


class State(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    #: Given up after the last attempt, or refused for good; kept, and can be sent again.
    DEAD = "dead"
    #: Not sent, because its endpoint is disabled or deleted, its transport is off, or too many others were pending.
    DROPPED = "dropped"


#: SQL of a recursive table of the endpoints with pending deliveries, and NULL.
PENDING_ENDPOINTS = """pending_endpoints(endpoint) AS (
    SELECT MIN(endpoint_id) FROM realtime_delivery WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT MIN(endpoint_id) FROM realtime_delivery
            WHERE state = 'pending' AND endpoint_id > pending_endpoints.endpoint)
    FROM pending_endpoints WHERE pending_endpoints.endpoint IS NOT NULL
)"""
#: SQL for the next instance with ordered deliveries pending for an endpoint.
_NEXT_INSTANCE = """(SELECT instance_id FROM realtime_delivery
    WHERE is_ordered AND state = 'pending' AND endpoint_id = {endpoint} {more} ORDER BY instance_id LIMIT 1)"""


def _head_of_queue(column: str, endpoint: str) -> str:
    """Return SQL for a column of the first pending delivery of an endpoint and `ordered_instances.instance`."""
    return f"""(SELECT {column} FROM realtime_delivery
        WHERE is_ordered AND state = 'pending' AND endpoint_id = {endpoint} AND instance_id = ordered_instances.instance
        ORDER BY seq, id LIMIT 1)"""  # noqa: S608


def _following_instance(endpoint: str) -> str:
    return _NEXT_INSTANCE.format(endpoint=endpoint, more="AND instance_id > ordered_instances.instance")


class AttemptResult(NamedTuple):
    """A delivery's state after an attempt, and the attempt's record."""

    delivery: Delivery
    state: str
    due_at: datetime
    attempt: Attempt
    #: The cause of its failure (`realtime.delivery.causes`); empty for a success.
    cause: str


class DueEndpoint(NamedTuple):
    """An endpoint with deliveries that are due."""

    id: int
    #: True if its deliveries are claimed by `claim_first`, in order.
    is_ordered: bool
    #: The instance that it belongs to, as the database has it; None for an endpoint of all instances.
    instance: Any


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def pending(self) -> DeliveryQuerySet:
        return self.filter(state=State.PENDING)

    def visible_to(self, user: Any) -> DeliveryQuerySet:
        """Deliveries of the instances that a staff user may see; those to the operator's URLs only if he sees all."""
        return self if sees_all_instances(user) else within_limit(user, self.filter(is_operators=False), "instance_id")

    def due(
        self, limit: int, excluding: Sequence[int] = (), excluding_instances: Sequence[Any] = ()
    ) -> list[DueEndpoint]:
        """Return up to `limit` endpoints with deliveries that are due, the longest due first.

        Endpoints with ids in `excluding` are left out, and so are those of `excluding_instances`, which are values of
        `DueEndpoint.instance`. For an ordered endpoint, only the first pending delivery of each instance counts. The
        query goes from endpoint to endpoint, and there from instance to instance, through indexes: a backlog is not
        scanned.
        """
        others = f"AND endpoint NOT IN ({_placeholders(excluding)})" if excluding else ""
        of_others = ""
        if excluding_instances:
            of_others = f"AND (instance IS NULL OR instance NOT IN ({_placeholders(excluding_instances)}))"
        names = _transports_on()
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH RECURSIVE {PENDING_ENDPOINTS}, ordered_instances(endpoint, instance) AS (
                    SELECT endpoint, {_NEXT_INSTANCE.format(endpoint="pending_endpoints.endpoint", more="")}
                    FROM pending_endpoints WHERE endpoint IS NOT NULL {others}
                    UNION ALL
                    SELECT endpoint, {_following_instance("ordered_instances.endpoint")}
                    FROM ordered_instances WHERE ordered_instances.instance IS NOT NULL
                ), next_deliveries(endpoint, is_ordered, due_at) AS (
                    SELECT endpoint, FALSE, (SELECT MIN(due_at) FROM realtime_delivery
                        WHERE state = 'pending' AND endpoint_id = pending_endpoints.endpoint AND is_ordered = FALSE)
                    FROM pending_endpoints WHERE endpoint IS NOT NULL {others}
                    UNION ALL
                    SELECT endpoint, TRUE, {_head_of_queue("due_at", "ordered_instances.endpoint")}
                    FROM ordered_instances WHERE ordered_instances.instance IS NOT NULL
                )
                SELECT endpoint, is_ordered, instance FROM (
                    SELECT endpoint, is_ordered, MIN(due_at) AS due_at,
                           (SELECT transport FROM realtime_delivery
                            WHERE state = 'pending' AND endpoint_id = next_deliveries.endpoint LIMIT 1) AS transport,
                           (SELECT CASE WHEN is_operators THEN NULL ELSE instance_id END FROM realtime_delivery
                            WHERE state = 'pending' AND endpoint_id = next_deliveries.endpoint LIMIT 1) AS instance
                    FROM next_deliveries WHERE due_at <= %s GROUP BY endpoint, is_ordered
                ) AS due_endpoints
                WHERE transport IN ({_placeholders(names)}) {of_others} ORDER BY due_at, endpoint LIMIT %s
                """,  # noqa: S608
                [*excluding, *excluding, _now(), *names, *excluding_instances, limit],
            )
            return [DueEndpoint(pk, bool(is_ordered), instance) for pk, is_ordered, instance in cursor.fetchall()]

    def claim(
        self, endpoint_id: int, limit: int, lease: str, large: int = MAX_LARGE, is_careful: bool = False
    ) -> list[Delivery]:
        """Claim up to `limit` due deliveries of an endpoint for LEASE seconds; ordered ones are left out.

        Unless the lease is renewed, they are due again when it ends. Deliveries by a transport that is off in this
        process are left to other processes. `large` limits the bytes of large bodies (above
        realtime.delivery.concurrency.LARGE): the last of them may exceed it, and with 0 they are left out. A row that
        cannot be read raises its error; if this `is_careful`, which takes longer, it is a failed attempt of its own.
        """
        condition = "candidate.endpoint_id = %s AND candidate.is_ordered = FALSE"
        return self._claim(condition, [endpoint_id], limit, lease, large, is_careful)

    def claim_first(
        self, endpoint_id: int, limit: int, lease: str, large: int = MAX_LARGE, is_careful: bool = False
    ) -> list[Delivery]:
        """Claim due deliveries of an ordered endpoint as `claim` does: of each instance only the first pending one."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH RECURSIVE ordered_instances(instance) AS (
                    SELECT {_NEXT_INSTANCE.format(endpoint="%s", more="")}
                    UNION ALL
                    SELECT {_following_instance("%s")}
                    FROM ordered_instances WHERE ordered_instances.instance IS NOT NULL
                ), next_deliveries(id, due_at) AS (
                    SELECT {_head_of_queue("id", "%s")}, {_head_of_queue("due_at", "%s")}
                    FROM ordered_instances WHERE ordered_instances.instance IS NOT NULL
                )
                SELECT id FROM next_deliveries WHERE due_at <= %s ORDER BY due_at LIMIT %s
                """,  # noqa: S608
                [*[endpoint_id] * 4, _now(), limit],
            )
            ids = [pk for (pk,) in cursor.fetchall()]
        if not ids:
            return []
        return self._claim(f"candidate.id IN ({_placeholders(ids)})", ids, limit, lease, large, is_careful)

    def _claim(
        self, condition: str, values: list[Any], limit: int, lease: str, large: int, is_careful: bool
    ) -> list[Delivery]:
        names = _transports_on()
        locking = "FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
        claimed: Iterable[Delivery] = Delivery.objects.raw(
            f"""
            UPDATE realtime_delivery SET lease = %s, due_at = %s
            WHERE id IN (
                SELECT id FROM (
                    SELECT id, large, SUM(large) OVER (ORDER BY due_at, id) AS total FROM (
                        SELECT candidate.id, candidate.due_at,
                               CASE WHEN candidate.size > {LARGE} THEN candidate.size ELSE 0 END AS large
                        FROM realtime_delivery AS candidate
                        WHERE candidate.state = 'pending' AND {condition} AND candidate.due_at <= %s
                          AND candidate.transport IN ({_placeholders(names)}) AND (candidate.size <= {LARGE} OR %s)
                        ORDER BY candidate.due_at, candidate.id LIMIT %s {locking}
                    ) AS due
                ) AS summed WHERE large = 0 OR total - large < %s
            )
            RETURNING {"id" if is_careful else "*"}
            """,  # noqa: S608
            [lease, _now(LEASE), *values, _now(), *names, large > 0, limit, large],
        )
        if is_careful:
            claimed = self._read_claimed([delivery.pk for delivery in claimed])
        return sorted(claimed, key=lambda delivery: delivery.pk)

    def _read_claimed(self, ids: Collection[int]) -> list[Delivery]:
        """Return claimed deliveries; to each that cannot be read an attempt has failed, so that it is tried again."""
        rows = Delivery.objects.filter(pk__in=ids)
        found = readable(rows, is_careful=True)
        lost = rows.exclude(pk__in=[delivery.pk for delivery in found])
        now = timezone.now()
        for pk, attempts in lost.values_list("pk", "attempts"):
            number = attempts + 1
            Attempt.objects.create(delivery_id=pk, number=number, at=now, duration_ms=0, error=UNREADABLE)
            wait = retry.delay(number, _random)
            changes: dict[str, Any] = {"state": State.DEAD, "finished_at": now, "due_at": now}
            if wait is not None:
                changes = {"due_at": now + timedelta(seconds=wait)}
            Delivery.objects.filter(pk=pk).update(attempts=number, lease=None, cause=Cause.UNREADABLE.code, **changes)
        return found

    def renew(self, ids: Collection[int], lease: str) -> None:
        """Extend the claims of these deliveries, where the lease still holds, to LEASE seconds from now.

        Rows that are locked are skipped, not waited for: their results are being stored, so they need no lease.
        """
        with transaction.atomic():
            claimed = self.pending().filter(pk__in=ids, lease=lease).unlocked()
            claimed.update(due_at=timezone.now() + timedelta(seconds=LEASE))

    def release(self, lease: str) -> None:
        """End a lease: its pending deliveries are due at once."""
        self.pending().filter(lease=lease).update(due_at=timezone.now(), lease=None)

    def give_up(self, endpoint_ids: Iterable[int], state: State, reason: str) -> None:
        """Move the unclaimed deliveries of these endpoints to a final state, with the reason; they are not sent."""
        unclaimed = self._unclaimed(endpoint_ids)
        unclaimed.update(state=state, finished_at=timezone.now(), reason=reason, cause=Cause.OFF.code)

    def retry_now(self, endpoint_id: int) -> None:
        """Make the unclaimed deliveries of an endpoint due at once."""
        self._unclaimed([endpoint_id]).update(due_at=timezone.now())

    def _unclaimed(self, endpoint_ids: Iterable[int]) -> DeliveryQuerySet:
        """Return pending deliveries without a lease; rows that are being claimed are left to the claiming process."""
        return self.pending().filter(endpoint_id__in=list(endpoint_ids), lease=None).unlocked()

    def unlocked(self, limit: int | None = None) -> DeliveryQuerySet:
        """Leave out rows that other transactions have locked: two that wait for each other's rows would deadlock."""
        can_skip = connection.features.has_select_for_update_skip_locked
        return Delivery.objects.filter(pk__in=self.select_for_update(skip_locked=can_skip).values("pk")[:limit])

    def store_results(self, results: Sequence[AttemptResult]) -> None:
        """Store the results of attempts; where the lease was lost meanwhile, only the attempt's record is added."""
        now = _now()
        results = sorted(results, key=lambda result: result.delivery.pk)  # the locking order of all processes
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                """
                UPDATE realtime_delivery
                SET state = %s, due_at = %s, attempts = %s, lease = NULL, finished_at = %s, cause = %s
                WHERE id = %s AND lease = %s AND state = 'pending'
                """,
                [
                    [
                        result.state,
                        connection.ops.adapt_datetimefield_value(result.due_at),
                        result.attempt.number,
                        None if result.state == State.PENDING else now,
                        result.cause,
                        result.delivery.pk,
                        result.delivery.lease,
                    ]
                    for result in results
                ],
            )
            insert(result.attempt for result in results)


class Delivery(models.Model):
    """An event that is to be sent, or was sent, to an endpoint."""

    event_id = models.CharField(max_length=64, help_text="The event's id, the same in each attempt.")
    instance_id = models.UUIDField()
    name = models.CharField(max_length=255, help_text="The instance's name when the event was recorded.")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=64)
    endpoint_id = models.BigIntegerField(help_text="0 or below for an endpoint of the environment, for all instances.")
    transport = models.CharField(max_length=32)
    destination = PlainField(max_length=2048, help_text="The destination when the event was recorded.")
    is_ordered = models.BooleanField(default=False)
    body = models.BinaryField(help_text="The bytes, in rows of earlier versions; others share a Body.")
    own_part = models.BinaryField(null=True, help_text="The endpoint's part of the bytes, put into the shared body.")
    shared_size = models.IntegerField(null=True, help_text="The size of the shared body; empty in rows without one.")
    size = models.IntegerField(default=0, help_text="The size of the bytes to send.")
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    attempts = models.IntegerField(default=0)
    due_at = models.DateTimeField(
        default=timezone.now, help_text="When it may be claimed; while claimed, the end of the lease."
    )
    lease = models.CharField(max_length=16, null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, default="", help_text="Why it ended without another attempt.")
    cause = models.CharField(
        max_length=32, default="", db_default="", help_text="The cause of its last failure, by which it is grouped."
    )
    resent_from = models.BigIntegerField(null=True, help_text="The delivery that this one resends.")
    asked_by = models.CharField(max_length=200, default="", help_text="The requester of a resending or test event.")
    is_operators = models.BooleanField(default=False, help_text="True if only the operator may see the destination.")

    #: Set by `load_bodies`.
    shared_body: Body | None = None

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=("endpoint_id", "is_ordered", "due_at", "id"), condition=Q(state="pending"), name="delivery_due"
            ),
            models.Index(
                fields=("endpoint_id", "instance_id", "seq", "id"),
                condition=Q(state="pending", is_ordered=True),
                name="delivery_order",
            ),
            models.Index(fields=("instance_id", "seq"), name="delivery_of_event"),
            models.Index(fields=("instance_id", "id"), name="delivery_of_instance"),
            models.Index(fields=("endpoint_id", "id"), name="delivery_of_endpoint"),
            models.Index(fields=("endpoint_id", "id"), condition=Q(state="dead"), name="delivery_dead"),
            models.Index(fields=("endpoint_id", "cause", "id"), condition=Q(state="dead"), name="delivery_cause"),
            # only of those that have failed: a delivery that succeeds at once costs nothing here
            models.Index(
                fields=("endpoint_id", "cause", "id"),
                condition=Q(state="pending") & ~Q(cause=""),
                name="delivery_retried",
            ),
            # with all columns that counting reads
            models.Index(
                fields=("instance_id", "seq", "transport", "shared_size", "state"),
                condition=Q(state="pending", shared_size__isnull=False),
                name="delivery_backlog",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.seq}: {self.type} to {masked_url(self.destination)}"

    def payload(self) -> Payload:
        """Return the bytes to send, the same in each attempt, and let go of the body: this row may outlive the attempt.

        Raises Body.DoesNotExist without `load_bodies`, and if the body cannot be read.
        """
        if self.shared_size is None:
            return Payload(self.body)
        body, self.shared_body = self.shared_body, None
        if body is None:
            raise Body.DoesNotExist(f"The body of delivery {self.pk} is not loaded")
        return body.with_part(bytes(self.own_part or b""))


class Attempt(models.Model):
    """The record of an attempt to send a delivery."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    number = models.IntegerField(help_text="From 1, and again from 1 when a dead delivery is requeued.")
    at = models.DateTimeField()
    duration_ms = models.IntegerField()
    status = models.IntegerField(null=True, help_text="The HTTP status of the response, if there was one.")
    excerpt = PlainField(max_length=2000, default="")
    error = PlainField(max_length=500, default="")

    class Meta:
        ordering = ("pk",)
        indexes = (models.Index(fields=("delivery", "number"), name="attempt_of_delivery"),)

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"

    @classmethod
    def last_of(cls, deliveries: Iterable[Delivery]) -> dict[int, Attempt]:
        """Return the last attempt of each delivery by the delivery's id, with the excerpts deferred."""
        rows = cls.objects.filter(delivery__in=[delivery.pk for delivery in deliveries]).defer("excerpt").order_by("pk")
        return {attempt.delivery_id: attempt for attempt in rows}


class FormerEndpoint(models.Model):
    """A snapshot of an endpoint that has no subscription.

    It belongs to a deleted instance, whose last events are still sent, or is the target of one resending.
    """

    id = models.BigIntegerField(primary_key=True)
    transport = models.CharField(max_length=32)
    options = JsonField(default=dict)
    secrets = EncryptedField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.transport} {self.pk}"

    @classmethod
    def store(cls, subscription: Subscription) -> None:
        """Store a copy of a subscription under its id."""
        cls.objects.update_or_create(
            pk=subscription.pk,
            defaults={
                "transport": subscription.transport,
                "options": subscription.options,
                "secrets": subscription.secrets,
            },
        )

    @property
    def all_secrets(self) -> dict[str, Any]:
        return orjson.loads(self.secrets.reveal()) if self.secrets else {}


def load_bodies(deliveries: Collection[Delivery], is_careful: bool = False) -> None:
    """Read the shared bodies of deliveries, each once; a delivery whose body cannot be read is left without.

    `is_careful` is that of `readable`.
    """
    sharing = [delivery for delivery in deliveries if delivery.shared_size is not None]
    bodies = Body.objects.by_key({(delivery.event_id, delivery.transport) for delivery in sharing}, is_careful)
    for delivery in sharing:
        delivery.shared_body = bodies.get((delivery.event_id, delivery.transport))


def pending_counts(endpoint_ids: Collection[int]) -> dict[tuple[int, str], int]:
    """Count pending and dead deliveries by endpoint and state; endpoints without any are left out.

    The states are literals in the SQL: SQLite uses a partial index only where the query repeats its condition.
    """
    if not endpoint_ids:
        return {}
    counts = [
        f"SELECT endpoint_id, '{state}', COUNT(*) FROM realtime_delivery "  # noqa: S608 (nothing of it is input)
        f"WHERE state = '{state}' AND endpoint_id IN ({_placeholders(endpoint_ids)}) GROUP BY endpoint_id"
        for state in (State.PENDING.value, State.DEAD.value)
    ]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(counts), [*endpoint_ids, *endpoint_ids])
        return {(endpoint, state): count for endpoint, state, count in cursor.fetchall()}


def _placeholders(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _transports_on() -> list[str]:
    return [transport.name for transport in transports().values() if transport.is_on]


def _now(seconds: float = 0) -> Any:
    """Return the time in `seconds` as the database stores it."""
    return connection.ops.adapt_datetimefield_value(timezone.now() + timedelta(seconds=seconds))
