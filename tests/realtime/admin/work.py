"""The work that the database has with a page: a count, and so the same on any machine, however busy it is."""

from __future__ import annotations

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

#: Instructions of SQLite's virtual machine after which they are counted.
STEP = 1000
MAX_QUERIES = 10
#: What a page of the admin may cost: instructions of SQLite's virtual machine, and PostgreSQL's blocks of 8 KiB. The
#: dearest page needs 1,100,000 and 92,000, which take a tenth of a second (`make bench-pages` prints times).
MAX_WORK = {"sqlite": 1_200_000, "postgresql": 100_000}


def work_of(client: Client, url: str) -> int:
    """Request a page, which may make MAX_QUERIES; returns their work, in the unit of MAX_WORK."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += STEP

    if connection.vendor == "sqlite":
        connection.ensure_connection()
        connection.connection.set_progress_handler(count, STEP)
    try:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200
    finally:
        if connection.vendor == "sqlite":
            connection.connection.set_progress_handler(None, 0)
    assert len(queries) <= MAX_QUERIES, [query["sql"] for query in queries]
    if connection.vendor == "postgresql":
        return sum(_blocks(query["sql"]) for query in queries)
    return counted


def _blocks(sql: str) -> int:
    """Return the blocks that a query reads; others than SELECT are not repeated."""
    if not sql.startswith(("SELECT", "(SELECT", "WITH")):
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        [[[plan]]] = cursor.fetchall()
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
