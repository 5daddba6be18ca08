"""Deliveries that have failed, grouped by endpoint and cause, and the sending of a whole group again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from instances.bounds import FAILURE_GROUPS
from instances.models import Subscription
from realtime.delivery import wakeup
from realtime.delivery.causes import Cause
from realtime.delivery.models import Delivery, DeliveryQuerySet, State
from realtime.delivery.resend import requeue_dead

#: Deliveries that are counted, of all groups together; beyond its share a group's count is a lower bound.
MAX_COUNTED = 20_000

#: The SQL condition of the index that has the failed deliveries of each state.
_CONDITIONS = {State.DEAD: "state = 'dead'", State.PENDING: "state = 'pending' AND NOT (cause = '')"}


@dataclass(frozen=True)
class FailureGroup:
    """The deliveries to one endpoint that are dead, or waiting for another attempt, by one cause."""

    state: State
    endpoint_id: int
    cause: str
    #: The ids of its oldest and its newest delivery.
    first_id: int
    last_id: int
    #: The number of them that were counted, and whether there are more.
    counted: int
    has_more: bool

    @property
    def count(self) -> str:
        """The number for people: "12", or "5,000+" where there are more."""
        return f"{self.counted:,}{'+' if self.has_more else ''}"


class FailureGroups(NamedTuple):
    """The groups of a state, and whether there are more than a page shows."""

    groups: list[FailureGroup]
    has_more: bool


def failure_groups(state: State, instance_ids: QuerySet[Any, UUID] | None = None) -> FailureGroups:
    """Return the groups of dead deliveries, or of those that wait for another attempt, the largest first.

    `instance_ids` limits them to the endpoints that these instances have; None is all, with deleted endpoints and
    those of the environment. Two queries, which go from group to group through an index: to FAILURE_GROUPS at most, and
    MAX_COUNTED deliveries of all of them are read.
    """
    found = _found(state, instance_ids)
    shown = found[:FAILURE_GROUPS]
    counts = _counts(state, [(endpoint, cause) for endpoint, cause, _, _ in shown])
    groups = [FailureGroup(state, *each, *count) for each, count in zip(shown, counts, strict=True)]
    groups.sort(key=lambda group: (-group.counted, group.endpoint_id, group.cause))
    return FailureGroups(groups, len(found) > FAILURE_GROUPS)


def _found(state: State, instance_ids: QuerySet[Any, UUID] | None) -> list[tuple[int, str, int, int]]:
    """Return endpoint, cause, first and last id of up to FAILURE_GROUPS + 1 groups."""
    of = f"{_CONDITIONS[state]} AND endpoint_id = failing.endpoint"
    endpoints, values = _endpoints(state, instance_ids)
    group = f"{_CONDITIONS[state]} AND endpoint_id = found.endpoint AND cause = found.cause"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE {endpoints}, failing(endpoint, cause) AS (
                SELECT endpoint, (SELECT MIN(cause) FROM realtime_delivery
                                  WHERE {_CONDITIONS[state]} AND endpoint_id = endpoints.endpoint)
                FROM endpoints WHERE endpoint IS NOT NULL
                UNION ALL
                SELECT endpoint, (SELECT MIN(cause) FROM realtime_delivery WHERE {of} AND cause > failing.cause)
                FROM failing WHERE failing.cause IS NOT NULL
            )
            SELECT endpoint, cause,
                   (SELECT MIN(id) FROM realtime_delivery WHERE {group}),
                   (SELECT MAX(id) FROM realtime_delivery WHERE {group})
            FROM (
                SELECT endpoint, cause FROM failing WHERE cause IS NOT NULL AND cause <> %s LIMIT %s
            ) AS found
            """,  # noqa: S608 (nothing of it is input)
            [*values, Cause.RESENT.code, FAILURE_GROUPS + 1],
        )
        return cursor.fetchall()


def _counts(state: State, groups: list[tuple[int, str]]) -> list[tuple[int, bool]]:
    """Count the deliveries of each group, all groups together MAX_COUNTED at most; and whether there are more."""
    if not groups:
        return []
    limit = max(MAX_COUNTED // len(groups), 1)
    values = ", ".join(["(%s, %s, %s)"] * len(groups))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH found(number, endpoint, cause) AS (VALUES {values})
            SELECT (SELECT COUNT(*) FROM (
                SELECT 1 FROM realtime_delivery
                WHERE {_CONDITIONS[state]} AND endpoint_id = found.endpoint AND cause = found.cause
                ORDER BY id LIMIT %s
            ) AS counted)
            FROM found ORDER BY number
            """,  # noqa: S608 (nothing of it is input)
            [*(value for number, group in enumerate(groups) for value in (number, *group)), limit + 1],
        )
        return [(min(count, limit), count > limit) for (count,) in cursor.fetchall()]


def _endpoints(state: State, instance_ids: QuerySet[Any, UUID] | None) -> tuple[str, list[Any]]:
    """Return SQL for the table `endpoints`, and its values: those with failed deliveries, or those of instances."""
    if instance_ids is not None:
        owned = Subscription.objects.endpoints().filter(instance_id__in=instance_ids).order_by().values("pk")
        statement, values = owned.query.sql_with_params()
        return f"endpoints(endpoint) AS ({statement})", list(values)
    condition = _CONDITIONS[state]
    statement = f"""endpoints(endpoint) AS (
        SELECT MIN(endpoint_id) FROM realtime_delivery WHERE {condition}
        UNION ALL
        SELECT (SELECT MIN(endpoint_id) FROM realtime_delivery WHERE {condition} AND endpoint_id > endpoints.endpoint)
        FROM endpoints WHERE endpoints.endpoint IS NOT NULL
    )"""  # noqa: S608
    return statement, []


@dataclass(frozen=True)
class Retried:
    """The result of sending a group again: how many deliveries, and whether there are more of them."""

    count: int
    has_more: bool


def retry_group(state: State, endpoint_id: int, cause: str, limit: int) -> Retried:
    """Make up to `limit` deliveries of a group due at once, the oldest first; dead ones with all attempts again.

    Bytes and ids stay. Needs a transaction. Raises ApiError (429) if they are too many for a backlog.
    """
    group = Delivery.objects.filter(state=state, endpoint_id=endpoint_id, cause=cause)
    count = requeue_dead(group, limit) if state == State.DEAD else _hasten(group, limit)
    return Retried(count, has_more=count == limit)


def _hasten(group: DeliveryQuerySet, limit: int) -> int:
    now = timezone.now()
    count = group.filter(lease=None, due_at__gt=now).order_by("pk").unlocked(limit).update(due_at=now)
    if count:
        transaction.on_commit(wakeup.wake, robust=True)
    return count
