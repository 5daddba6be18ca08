"""What endpoints are owed: a row for each event and endpoint, written with the event, with bytes of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Sized
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone

from instances.fields import EncryptedField, JsonField, PlainField
from instances.models import Subscription
from instances.sql import insert
from realtime.delivery.concurrency import LARGE, MAX_LARGE
from realtime.delivery.transports.base import transports

#: Seconds for which a process may keep what it has claimed without saying that it still has it.
LEASE = 15


#: Why what an endpoint is owed ends with it.
DELETED = "Its endpoint was deleted"


class State(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    #: Given up after the last attempt, or refused for good. It is kept, and can be sent again.
    DEAD = "dead"
    #: Its endpoint is gone.
    DROPPED = "dropped"


#: SQL for the next instance that an endpoint is told of in order.
_NEXT_INSTANCE = """(SELECT instance_id FROM realtime_delivery
    WHERE is_ordered AND state = 'pending' AND endpoint_id = {endpoint} {more} ORDER BY instance_id LIMIT 1)"""


def _first(column: str, endpoint: str) -> str:
    return f"""(SELECT {column} FROM realtime_delivery
        WHERE is_ordered AND state = 'pending' AND endpoint_id = {endpoint} AND instance_id = told.instance
        ORDER BY seq, id LIMIT 1)"""  # noqa: S608


class AttemptResult(NamedTuple):
    """What an attempt changes."""

    delivery: Delivery
    state: str
    due_at: datetime
    attempt: Attempt


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def pending(self) -> DeliveryQuerySet:
        return self.filter(state=State.PENDING)

    def due(self, limit: int, without: Sequence[int] = ()) -> list[tuple[int, bool]]:
        """Endpoints that something can be claimed for, at most so many, the longest due first.

        With each, whether it is by `claim_first` (where it is told in order) or by `claim`. What waits behind the first
        one of an instance is due for nobody. Goes from endpoint to endpoint, and there from instance to instance,
        through indexes: a backlog is not walked.
        """
        others = f"AND endpoint NOT IN ({_places(without)})" if without else ""
        names = _transports_on()
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH RECURSIVE owed(endpoint) AS (
                    SELECT MIN(endpoint_id) FROM realtime_delivery WHERE state = 'pending'
                    UNION ALL
                    SELECT (SELECT MIN(endpoint_id) FROM realtime_delivery
                            WHERE state = 'pending' AND endpoint_id > owed.endpoint)
                    FROM owed WHERE owed.endpoint IS NOT NULL
                ), told(endpoint, instance) AS (
                    SELECT endpoint, {_NEXT_INSTANCE.format(endpoint="owed.endpoint", more="")}
                    FROM owed WHERE endpoint IS NOT NULL {others}
                    UNION ALL
                    SELECT endpoint,
                           {_NEXT_INSTANCE.format(endpoint="told.endpoint", more="AND instance_id > told.instance")}
                    FROM told WHERE told.instance IS NOT NULL
                ), firsts(endpoint, is_ordered, due_at) AS (
                    SELECT endpoint, FALSE, (SELECT MIN(due_at) FROM realtime_delivery
                        WHERE state = 'pending' AND endpoint_id = owed.endpoint AND is_ordered = FALSE)
                    FROM owed WHERE endpoint IS NOT NULL {others}
                    UNION ALL
                    SELECT endpoint, TRUE, {_first("due_at", "told.endpoint")} FROM told WHERE told.instance IS NOT NULL
                )
                SELECT endpoint, is_ordered FROM firsts WHERE due_at <= %s
                  AND (SELECT transport FROM realtime_delivery
                       WHERE state = 'pending' AND endpoint_id = firsts.endpoint LIMIT 1) IN ({_places(names)})
                GROUP BY endpoint, is_ordered ORDER BY MIN(due_at), endpoint LIMIT %s
                """,  # noqa: S608
                [*without, *without, _now(), *names, limit],
            )
            return [(endpoint, bool(is_ordered)) for endpoint, is_ordered in cursor.fetchall()]

    def claim(self, endpoint_id: int, limit: int, lease: str, large: int = MAX_LARGE) -> list[Delivery]:
        """Take up to `limit` of an endpoint's that are due, in no order, for LEASE seconds: then they are due again.

        What goes by a transport that is off in this process is left to others. `large`: bytes of large bodies
        (realtime.delivery.concurrency.LARGE) that may be taken, of which one goes beyond; without any, those are left.
        """
        return self._claim("one.endpoint_id = %s AND one.is_ordered = FALSE", [endpoint_id], limit, lease, large)

    def claim_first(self, endpoint_id: int, limit: int, lease: str, large: int = MAX_LARGE) -> list[Delivery]:
        """The same of an endpoint that is told in order: of each instance only the first one that is pending."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH RECURSIVE told(instance) AS (
                    SELECT {_NEXT_INSTANCE.format(endpoint="%s", more="")}
                    UNION ALL
                    SELECT {_NEXT_INSTANCE.format(endpoint="%s", more="AND instance_id > told.instance")}
                    FROM told WHERE told.instance IS NOT NULL
                ), firsts(id, due_at) AS (
                    SELECT {_first("id", "%s")}, {_first("due_at", "%s")} FROM told WHERE told.instance IS NOT NULL
                )
                SELECT id FROM firsts WHERE due_at <= %s ORDER BY due_at LIMIT %s
                """,  # noqa: S608
                [*[endpoint_id] * 4, _now(), limit],
            )
            ids = [pk for (pk,) in cursor.fetchall()]
        return self._claim(f"one.id IN ({_places(ids)})", ids, limit, lease, large) if ids else []

    def _claim(self, which: str, values: list[Any], limit: int, lease: str, large: int) -> list[Delivery]:
        names = _transports_on()
        locking = "FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
        claimed = Delivery.objects.raw(
            f"""
            UPDATE realtime_delivery SET lease = %s, due_at = %s
            WHERE id IN (
                SELECT id FROM (
                    SELECT id, large, SUM(large) OVER (ORDER BY due_at, id) AS upto FROM (
                        SELECT one.id, one.due_at, CASE WHEN one.size > {LARGE} THEN one.size ELSE 0 END AS large
                        FROM realtime_delivery AS one
                        WHERE one.state = 'pending' AND {which} AND one.due_at <= %s
                          AND one.transport IN ({_places(names)}) AND (one.size <= {LARGE} OR %s)
                        ORDER BY one.due_at, one.id LIMIT %s {locking}
                    ) AS due
                ) AS summed WHERE large = 0 OR upto - large < %s
            )
            RETURNING *
            """,  # noqa: S608
            [lease, _now(LEASE), *values, _now(), *names, large > 0, limit, large],
        )
        return sorted(claimed, key=lambda one: one.pk)

    def renew(self, lease: str) -> None:
        """Who holds this lease is still at it. What is being settled needs it no more, and is not waited for."""
        with transaction.atomic():
            held = self.pending().filter(lease=lease)._unlocked()
            held.update(due_at=timezone.now() + timedelta(seconds=LEASE))

    def release(self, lease: str) -> None:
        """Who held this lease stops: what it has not sent is due at once."""
        self.pending().filter(lease=lease).update(due_at=timezone.now(), lease=None)

    def give_up(self, endpoint_ids: Iterable[int], state: State, reason: str) -> None:
        """What waits for these endpoints ends in this state, and says why; it will not be sent."""
        waiting = self._waiting(endpoint_ids)
        waiting.update(state=state, finished_at=timezone.now(), reason=reason)

    def retry_now(self, endpoint_id: int) -> None:
        """What waits for its next attempt at this endpoint is due at once."""
        self._waiting([endpoint_id]).update(due_at=timezone.now())

    def _waiting(self, endpoint_ids: Iterable[int]) -> DeliveryQuerySet:
        """What nobody holds; what somebody just takes is his to settle."""
        return self.pending().filter(endpoint_id__in=list(endpoint_ids), lease=None)._unlocked()

    def _unlocked(self) -> DeliveryQuerySet:
        """Those that no other transaction has locked: two that wait for each other's rows would be a deadlock."""
        can_skip = connection.features.has_select_for_update_skip_locked
        return Delivery.objects.filter(pk__in=self.select_for_update(skip_locked=can_skip).values("pk"))

    def store_results(self, results: Sequence[AttemptResult]) -> None:
        """Store what came of attempts; a lease that was lost meanwhile changes nothing but the record."""
        now = _now()
        results = sorted(results, key=lambda result: result.delivery.pk)  # in which all lock them
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                """
                UPDATE realtime_delivery SET state = %s, due_at = %s, attempts = %s, lease = NULL, finished_at = %s
                WHERE id = %s AND lease = %s AND state = 'pending'
                """,
                [
                    [
                        result.state,
                        connection.ops.adapt_datetimefield_value(result.due_at),
                        result.attempt.number,
                        None if result.state == State.PENDING else now,
                        result.delivery.pk,
                        result.delivery.lease,
                    ]
                    for result in results
                ],
            )
            insert(result.attempt for result in results)


class Delivery(models.Model):
    """An event on its way to an endpoint."""

    event_id = models.CharField(max_length=64, help_text="The event's id, the same in each attempt.")
    instance_id = models.UUIDField()
    name = models.CharField(max_length=255, help_text="The instance's name when it happened.")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=64)
    endpoint_id = models.BigIntegerField(help_text="0 and below: those of all instances in the environment.")
    transport = models.CharField(max_length=32)
    destination = PlainField(max_length=2048, help_text="Where to, as it was when it happened.")
    is_ordered = models.BooleanField(default=False)
    body = models.BinaryField()
    size = models.IntegerField(default=0, help_text="Of the body, in bytes.")
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    attempts = models.IntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now, help_text="While somebody sends it: when others may.")
    lease = models.CharField(max_length=16, null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, default="", help_text="Why it ended without another attempt.")
    resent_from = models.BigIntegerField(null=True, help_text="The delivery that this one repeats by hand.")
    asked_by = models.CharField(max_length=200, default="", help_text="Who had it sent by hand.")
    is_operators = models.BooleanField(
        default=False, help_text="Its destination is the operator's, and shown to nobody else."
    )

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
        )

    def __str__(self) -> str:
        return f"{self.name} {self.seq}: {self.type} to {self.destination}"


class Attempt(models.Model):
    """One try to deliver, on record."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    number = models.IntegerField(help_text="Begins anew when what died is sent again.")
    at = models.DateTimeField()
    duration_ms = models.IntegerField()
    status = models.IntegerField(null=True, help_text="HTTP's, where there was an answer.")
    excerpt = PlainField(max_length=2000, default="")
    error = PlainField(max_length=500, default="")

    class Meta:
        ordering = ("pk",)
        indexes = (models.Index(fields=("delivery", "number"), name="attempt_of_delivery"),)

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"

    @classmethod
    def last_of(cls, deliveries: Iterable[Delivery]) -> dict[int, Attempt]:
        """The last one of each, by the delivery's id, without excerpts."""
        rows = cls.objects.filter(delivery__in=[one.pk for one in deliveries]).defer("excerpt").order_by("pk")
        return {attempt.delivery_id: attempt for attempt in rows}


class FormerEndpoint(models.Model):
    """An endpoint that no subscription is: a deleted instance's, which is told so, or one named for one resending."""

    id = models.BigIntegerField(primary_key=True)
    transport = models.CharField(max_length=32)
    options = JsonField(default=dict)
    secrets = EncryptedField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.transport} {self.pk}"

    @classmethod
    def keep(cls, subscription: Subscription) -> None:
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


def pending_counts(endpoint_ids: Collection[int]) -> dict[tuple[int, str], int]:
    """How many deliveries are pending and dead, by endpoint and state.

    The states are written out: SQLite uses a partial index only where it can read its condition.
    """
    if not endpoint_ids:
        return {}
    counts = [
        f"SELECT endpoint_id, '{state}', COUNT(*) FROM realtime_delivery "  # noqa: S608 (all of it is our own)
        f"WHERE state = '{state}' AND endpoint_id IN ({_places(endpoint_ids)}) GROUP BY endpoint_id"
        for state in (State.PENDING.value, State.DEAD.value)
    ]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(counts), [*endpoint_ids, *endpoint_ids])
        return {(endpoint, state): count for endpoint, state, count in cursor.fetchall()}


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _transports_on() -> list[str]:
    return [transport.name for transport in transports().values() if transport.is_on]


def _now(seconds: float = 0) -> Any:
    """As the database stores it."""
    return connection.ops.adapt_datetimefield_value(timezone.now() + timedelta(seconds=seconds))
