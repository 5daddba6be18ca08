"""The backlog of all that a user may see: how many deliveries are pending, and since when the oldest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from realtime.counters.hours import time_of
from realtime.counters.pages import seconds_sql

#: Deliveries that are counted, all together and of an endpoint; the page says "more than" beyond.
MAX_COUNTED = 10_000


class Pending(NamedTuple):
    """Pending deliveries."""

    #: Up to one more than MAX_COUNTED.
    number: int
    #: The time of the oldest of these; None without any.
    oldest: datetime | None
    #: The number of some endpoints' by the endpoint's id, as `number`.
    of_endpoints: dict[int, int]


def pending_deliveries(ids: QuerySet[Any, UUID] | None, endpoint_ids: Sequence[int]) -> Pending:
    """Return the pending deliveries, with `ids` those of these instances, by one query of an index.

    The state is a literal in the SQL: SQLite uses a partial index only where the query repeats its condition.
    """
    where, parameters = "", []
    if ids is not None:
        subquery, values = ids.query.sql_with_params()
        # the index of backlogs, which leaves out deliveries of earlier versions; another one would list all deliveries
        where, parameters = f"AND shared_size IS NOT NULL AND instance_id IN ({subquery})", list(values)
    of_endpoints = "".join(
        f"""
        UNION ALL SELECT %s, COUNT(*), NULL FROM (
            SELECT 1 FROM realtime_delivery WHERE state = 'pending' AND endpoint_id = %s LIMIT {MAX_COUNTED + 1}
        ) AS waiting
        """  # noqa: S608
        for _ in endpoint_ids
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH counted AS (
                SELECT id FROM realtime_delivery WHERE state = 'pending' {where} LIMIT {MAX_COUNTED + 1}
            )
            SELECT CAST(NULL AS BIGINT), (SELECT COUNT(*) FROM counted), (
                SELECT {seconds_sql("created_at")} FROM realtime_delivery WHERE id = (SELECT MIN(id) FROM counted)
            ) {of_endpoints}
            """,  # noqa: S608 (nothing of it is input)
            [*parameters, *(pk for endpoint_id in endpoint_ids for pk in (endpoint_id, endpoint_id))],
        )
        rows = cursor.fetchall()
    [(number, oldest)] = [row[1:] for row in rows if row[0] is None]
    return Pending(number, time_of(oldest), {pk: count for pk, count, _ in rows if pk is not None})
