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
from realtime.delivery import backlog, wakeup
from realtime.delivery.causes import UNKNOWN, Cause
from realtime.delivery.models import Delivery, DeliveryQuerySet, State

#: Deliveries of one group that are counted; beyond it the count is a lower bound.
MAX_COUNT = 5000

#: The SQL condition of the index that has the failed deliveries of each state.
_CONDITIONS = {State.DEAD: "state = 'dead'", State.PENDING: "state = 'pending' AND NOT (cause = '')"}


@dataclass(frozen=True)
class FailureGroup:
    """The deliveries to one endpoint that are dead, or waiting for another attempt, by one cause."""

    state: State
    endpoint_id: int
    cause: str
    #: At most MAX_COUNT + 1, which stands for more than MAX_COUNT.
    counted: int
    #: The ids of its oldest and its newest delivery.
    first_id: int
    last_id: int

    @property
    def count(self) -> str:
        """The number for people: "12", or "5000+"."""
        return f"{MAX_COUNT}+" if self.counted > MAX_COUNT else str(self.counted)


class FailureGroups(NamedTuple):
    """The groups of a state, and whether there are more than a page shows."""

    groups: list[FailureGroup]
    has_more: bool


def failure_groups(state: State, instance_ids: QuerySet[Any, UUID] | None = None) -> FailureGroups:
    """Return the groups of dead deliveries, or of those that wait for another attempt, the largest first.

    `instance_ids` limits them to the endpoints that these instances have; None is all, with deleted endpoints and
    those of the environment. One query, which goes from group to group through an index: at most FAILURE_GROUPS, and of
    each at most MAX_COUNT deliveries are read.
    """
    of = f"{_CONDITIONS[state]} AND endpoint_id = failing.endpoint"
    endpoints, values = _endpoints(state, instance_ids)
    group = f"{_CONDITIONS[state]} AND endpoint_id = found.endpoint AND cause = found.cause"
    resent = Cause.RESENT.code
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
                   (SELECT COUNT(*) FROM (SELECT 1 FROM realtime_delivery WHERE {group} LIMIT %s) AS counted),
                   (SELECT MIN(id) FROM realtime_delivery WHERE {group}),
                   (SELECT MAX(id) FROM realtime_delivery WHERE {group})
            FROM (
                SELECT endpoint, cause FROM failing WHERE cause IS NOT NULL AND cause <> %s LIMIT %s
            ) AS found
            """,  # noqa: S608 (nothing of it is input)
            [*values, MAX_COUNT + 1, resent, FAILURE_GROUPS + 1],
        )
        rows = [FailureGroup(state, *row) for row in cursor.fetchall()]
    groups = sorted(rows[:FAILURE_GROUPS], key=lambda group: (-group.counted, group.endpoint_id, group.cause))
    return FailureGroups(groups, len(rows) > FAILURE_GROUPS)


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
    count = _retry_dead(group, cause, limit) if state == State.DEAD else _hasten(group, limit)
    if count:
        transaction.on_commit(wakeup.wake, robust=True)
    return Retried(count, has_more=count == limit)


def _retry_dead(group: DeliveryQuerySet, cause: str, limit: int) -> int:
    if cause == UNKNOWN:  # earlier versions did not note which were sent again
        resent = Delivery.objects.filter(endpoint_id__in=group.values("endpoint_id"), resent_from__isnull=False)
        group = group.exclude(pk__in=resent.values("resent_from"))
    columns = ("pk", "instance_id", "is_operators", "size")
    found = list(group.order_by("pk").select_for_update().values_list(*columns)[:limit])
    sizes: dict[tuple[UUID, bool], list[int]] = {}
    for _, instance_id, is_operators, size in found:
        sizes.setdefault((instance_id, is_operators), []).append(size)
    for (instance_id, is_operators), each in sizes.items():
        backlog.require(instance_id, len(each), sum(each), is_operators)
    fields = {"attempts": 0, "lease": None, "finished_at": None, "reason": "", "cause": ""}
    rows = Delivery.objects.filter(pk__in=[row[0] for row in found])
    return rows.update(state=State.PENDING, due_at=timezone.now(), **fields)


def _hasten(group: DeliveryQuerySet, limit: int) -> int:
    now = timezone.now()
    return group.filter(lease=None, due_at__gt=now).order_by("pk").unlocked(limit).update(due_at=now)
