"""Pages of the order of all events on PostgreSQL: each row is read once, however far back a client resumes."""

from __future__ import annotations

import time
import uuid

import pytest
from django.db import connection, transaction

from instances.bounds import REPLAY_PAGE_EVENTS
from instances.events import EventType
from instances.models import Instance
from realtime.log.cursor import Cursor
from realtime.log.models import Event
from realtime.log.paging import page_of_all

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def rows_read() -> int:
    """Return the number of the log's rows that were read so far, through an index or not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'realtime_event'")
        return cursor.fetchone()[0]


def fill(count: int, transactions: int) -> None:
    """Write events of one instance in some transactions."""
    each = count // transactions
    instance_id = uuid.uuid4()
    for number in range(transactions):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO realtime_event (instance_id, name, seq, type, is_heard, envelope, created_at)
                SELECT %s, 'loja', seq, 'call', true, '{}', now() FROM generate_series(%s, %s) AS seq
                """,
                [instance_id, number * each + 1, (number + 1) * each],
            )


@pytest.mark.bound("LIMIT_REPLAY_PAGE_EVENTS")
@pytest.mark.slow
def test_each_row_is_read_once_from_200_000_events_back():
    fill(100_000, 20)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE realtime_event")  # the planner knows half of the log
    middle = settled_head()
    fill(200_000, 100)
    head = settled_head()
    Instance.objects.create(name="later")
    before = rows_read()

    cursor, seqs = middle, []
    while cursor != head:
        page = page_of_all(cursor, head, with_envelopes=False)
        seqs += [event.seq for _, event in page.entries]
        cursor = page.end
        # the window's rows are looked at once, in its index, whatever the number of pages; then each page reads its own
        assert rows_read() - before <= 200_000 + 1.2 * len(seqs) + REPLAY_PAGE_EVENTS

    assert seqs == list(range(1, 200_001))


def test_pages_of_overlapping_transactions_have_each_event_once_and_in_its_order(monkeypatch):
    """Transactions that began before others end after them, in pages of all sizes."""
    instances = [Instance.objects.create(name=f"instance {number}") for number in range(3)]
    beginning = settled_head()
    other = connection.copy()
    try:
        for instance in instances:
            with transaction.atomic():
                Instance.objects.filter(pk=instance.pk).update(profile_name="busy")  # has its id from here on
                with other.cursor() as cursor:
                    cursor.execute(
                        """
                        INSERT INTO realtime_event (instance_id, name, seq, type, is_heard, envelope, created_at)
                        SELECT %s, 'other', n, 'call', true, '{}', now() FROM generate_series(1, 7) AS n
                        """,
                        [uuid.uuid4()],
                    )
                for _ in range(5):
                    Event.objects.record(instance, EventType.CALL, {})
    finally:
        other.close()
    expected = set(Event.objects.filter(type="call").values_list("pk", flat=True))

    for size in (1, 2, 3, 5, 8, 200):
        monkeypatch.setattr("realtime.log.paging.REPLAY_PAGE_EVENTS", size)
        for upto in (None, settled_head()):
            found = events_after(beginning, upto)
            assert sorted(event.pk for event in found) == sorted(expected)
            for instance in instances:
                seqs = [event.seq for event in found if event.instance_id == instance.pk]
                assert seqs == sorted(seqs)


def settled_head() -> Cursor:
    """Return the cursor after all events, which another transaction on this PostgreSQL may delay for a moment."""
    while True:
        cursor = Event.objects.head()
        if Event.objects.past(cursor).count() == Event.objects.count():
            return cursor
        time.sleep(0.02)


def events_after(cursor: Cursor, upto: Cursor | None) -> list[Event]:
    """Return all events page by page, once none is above the horizon."""
    found: list[Event] = []
    while True:
        page = page_of_all(cursor, upto)
        found += [event for _, event in page.entries]
        cursor = page.end
        if not page.has_more:
            return found
