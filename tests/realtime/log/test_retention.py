"""Retention: expired events are pruned as a prefix of each stream, in small steps, and no report is recorded twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from instances.events import EventType
from instances.models import Instance
from realtime.database import Pool, database
from realtime.log import retention
from realtime.log.cursor import Cursor
from realtime.log.models import DedupeKey, Event, EventDraft
from realtime.log.paging import page_of_all
from realtime.log.retention import Pruning, prune
from realtime.log.stream import GLOBAL_STREAM_ID, Stream
from tests.environment import ON_POSTGRES
from tests.in_process import until
from tests.realtime.log.test_models import record, seqs
from tests.server import ROOT
from tests.threads import in_threads


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja")


def record_many(instance, count):
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n) for n in range(count)])


def age(rows, hours=0, days=0):
    """Set the age of these rows."""
    return rows.update(created_at=timezone.now() - timedelta(hours=hours, days=days))


def of(instance):
    return Event.objects.filter(instance_id=instance.pk)


def stream(instance):
    return Stream.objects.get(pk=instance.pk)


def test_expired_events_are_pruned_and_the_others_stay(instance):
    record_many(instance, 4)
    age(of(instance).filter(seq__lte=3), hours=169)
    age(of(instance).filter(seq__gt=3), hours=167)

    assert prune().events == 3

    assert seqs(instance) == [4, 5]
    assert (stream(instance).first_seq, stream(instance).last_seq) == (4, 5)


def test_an_old_event_after_a_young_one_stays(instance):
    record_many(instance, 4)
    age(of(instance).exclude(seq=3), days=30)

    assert prune().events == 2

    assert seqs(instance) == [3, 4, 5]
    assert stream(instance).first_seq == 3


#: A time of creation that no driver can read.
NO_TIME = "'infinity'" if ON_POSTGRES else "'2026-99-99 00:00:00'"


@pytest.mark.parametrize(("seq", "kept"), [(1, [4, 5]), (2, [4, 5]), (3, [3, 4, 5]), (4, [4, 5])])
def test_an_event_whose_time_cannot_be_read_is_as_old_as_the_next(instance, seq, kept):
    record_many(instance, 4)
    age(of(instance).filter(seq__lte=3), days=30)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE realtime_event SET created_at = {NO_TIME} WHERE seq = %s", [seq])

    prune()

    assert list(of(instance).order_by("seq").values_list("seq", flat=True)) == kept


def test_a_dedupe_key_whose_time_cannot_be_read_is_as_old_as_the_next(instance):
    keys = [DedupeKey(instance_id=instance.pk, key=str(number)) for number in range(4)]
    _, second, third, fourth = DedupeKey.objects.bulk_create(keys)
    age(DedupeKey.objects.filter(pk__lte=third.pk), days=30)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE realtime_dedupekey SET created_at = {NO_TIME} WHERE id = %s", [second.pk])

    prune()

    assert list(DedupeKey.objects.values_list("pk", flat=True)) == [fourth.pk]


def test_the_retention_is_the_setting(instance, settings):
    settings.EVENT_RETENTION_HOURS = 2
    record_many(instance, 1)
    age(of(instance).filter(seq=1), hours=3)

    assert prune().events == 1
    assert prune().events == 0


def test_numbers_continue_after_those_of_a_pruned_stream(instance):
    record_many(instance, 2)
    epoch = stream(instance).epoch
    age(Event.objects.all(), days=30)
    prune()

    assert seqs(instance) == []
    assert (stream(instance).first_seq, stream(instance).last_seq, stream(instance).epoch) == (4, 3, epoch)
    assert record(instance).seq == 4


def test_a_step_deletes_at_most_a_batch(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 4)
    record_many(instance, 10)
    age(of(instance).filter(seq__lte=9), days=30)

    pruning, left = Pruning(), []
    while pruning.step():
        left.append((of(instance).count(), stream(instance).first_seq))

    # steps that give SQLite's pages back delete nothing; how many there are depends on what the file has been through
    assert list(dict.fromkeys(left)) == [(7, 5), (3, 9), (2, 10)]
    assert pruning.events == 9


def test_streams_are_pruned_independently(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    others = [Instance.objects.create(name=f"other {n}") for n in range(3)]
    for other in others:
        record_many(other, 2)
    age(of(others[1]), days=30)

    assert prune().events == 3
    assert [seqs(row) for row in (instance, *others)] == [[1], [1, 2, 3], [], [1, 2, 3]]


# The floor


def is_complete_after(cursor):
    """Return whether no event after the cursor is pruned."""
    transaction_id, row = Stream.objects.global_floor()
    return cursor.low > transaction_id or (cursor.high > transaction_id and cursor.row >= row)


@pytest.mark.django_db(transaction=True)
def test_the_global_floor_separates_cursors_that_miss_events_from_those_that_do_not():
    assert Stream.objects.global_floor() == (0, 0)
    instance = Instance.objects.create(name="loja")
    record_many(instance, 3)
    beginning = Cursor(0, 1, 0)
    before_last = page_of_all(beginning).entries[2][0]
    last = Event.objects.head()
    assert all(map(is_complete_after, (beginning, before_last, last)))

    age(of(instance), days=30)
    prune()

    assert Stream.objects.global_floor()[1] > 0
    assert not is_complete_after(beginning)
    assert not is_complete_after(before_last)
    assert is_complete_after(last)
    assert is_complete_after(Event.objects.head())


def test_a_floor_is_never_lowered(instance):
    other = Instance.objects.create(name="other")
    age(of(other), days=30)
    prune()
    floor = Stream.objects.global_floor()
    age(of(instance), days=30)

    assert prune().events == 1
    assert Stream.objects.global_floor() == floor


def test_the_global_stream_has_an_epoch_that_stays(db):
    global_stream = Stream.objects.global_stream()
    prune()

    assert (global_stream.pk, global_stream.name, len(global_stream.epoch)) == (GLOBAL_STREAM_ID, "/", 16)
    assert Stream.objects.global_stream().epoch == global_stream.epoch


def test_the_row_of_a_stream_is_created_where_there_is_none(instance):
    [silent] = Instance.objects.bulk_create([Instance(name="silent")])

    assert Stream.objects.state(instance.pk).last_seq == 1
    created = Stream.objects.state(silent.pk)
    assert (created.name, created.first_seq, created.last_seq) == ("silent", 1, 0)
    assert Stream.objects.state(silent.pk).epoch == created.epoch
    assert record(silent).seq == 1
    with pytest.raises(Instance.DoesNotExist):
        Stream.objects.state("00000000-0000-4000-8000-000000000000")


# Dedupe keys


def test_a_repeat_of_a_pruned_event_is_still_a_repeat(instance, settings):
    settings.EVENT_RETENTION_HOURS = 1
    first = record(instance, dedupe_key="once")
    age(Event.objects.all(), days=7)
    age(DedupeKey.objects.all(), days=7)
    pruned = prune()

    assert (pruned.events, pruned.keys) == (2, 0)
    assert record(instance, dedupe_key="once") is None
    [recorded] = Event.objects.record_all(instance, [EventDraft(EventType.CALL, 1, "once")])
    assert (recorded.seq, recorded.event) == (first.seq, None)


@pytest.mark.parametrize(("hours", "days"), [(1, 8), (168, 8), (240, 10)])
def test_dedupe_keys_are_kept_as_long_as_events_and_at_least_eight_days(instance, settings, hours, days):
    settings.EVENT_RETENTION_HOURS = hours
    record(instance, dedupe_key="once")
    age(DedupeKey.objects.all(), days=days, hours=-1)
    assert prune().keys == 0

    age(DedupeKey.objects.all(), days=days, hours=1)
    assert prune().keys == 1
    assert record(instance, dedupe_key="once").seq == 3


def test_dedupe_keys_are_deleted_in_batches(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n, str(n)) for n in range(6)])
    age(DedupeKey.objects.filter(seq__lt=7), days=9)

    pruning, left = Pruning(), []
    while pruning.step():
        left.append(DedupeKey.objects.count())

    assert list(dict.fromkeys(left)) == [4, 2]
    assert list(DedupeKey.objects.values_list("key", flat=True)) == ["5"]


@pytest.mark.django_db(transaction=True)
def test_the_migration_moves_dedupe_keys_out_of_events_and_back():
    instance = Instance.objects.create(name="loja")
    first = record(instance, dedupe_key="once")

    def migrate(targets):
        return MigrationExecutor(connection).migrate(targets).apps

    newest = MigrationExecutor(connection).loader.graph.leaf_nodes("realtime")

    try:
        old = migrate([("realtime", "0001_initial")]).get_model("realtime", "Event")
        assert list(old.objects.order_by("seq").values_list("dedupe_key", flat=True)) == [None, "once"]
    finally:
        migrate(newest)

    assert DedupeKey.objects.get().seq == first.seq
    assert record(instance, dedupe_key="once") is None
    assert record(instance).seq == 3


# Deleted instances


def test_a_deleted_instance_keeps_its_log_until_it_expires_and_then_leaves_nothing(instance):
    identity = instance.pk
    record(instance, dedupe_key="once")
    instance.delete()
    prune()
    assert stream(Instance(pk=identity)).last_seq == 4

    age(Event.objects.all(), days=8)
    pruned = prune()

    assert (pruned.events, pruned.keys, pruned.streams) == (4, 1, 1)
    assert not Event.objects.exists()
    assert not DedupeKey.objects.exists()
    assert list(Stream.objects.values_list("pk", flat=True)) == [GLOBAL_STREAM_ID]


def test_keys_and_stream_of_a_deleted_instance_are_deleted_in_batches_though_it_has_no_event(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n, str(n)) for n in range(5)])
    instance.delete()
    Event.objects.all().delete()

    pruned = prune()

    assert (pruned.events, pruned.keys, pruned.streams) == (0, 5, 1)


def test_a_new_instance_of_the_same_name_has_numbers_and_keys_of_its_own(instance):
    record(instance, dedupe_key="once")
    instance.delete()
    age(Event.objects.all(), days=8)
    again = Instance.objects.create(name="loja")
    record(again, dedupe_key="once")

    assert prune().events == 4
    assert seqs(again) == [1, 2]
    assert record(again, dedupe_key="once") is None


# Concurrent writers


@pytest.mark.django_db(transaction=True)
def test_pruning_loses_and_blocks_nothing_of_concurrent_writers(monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    instances = [Instance.objects.create(name=f"busy {n}") for n in range(2)]
    for instance in instances:
        record_many(instance, 100)
    age(Event.objects.all(), days=30)

    def write(instance):
        for n in range(40):
            with transaction.atomic():
                record(instance, dedupe_key=f"{n}")

    in_threads(*(lambda row=row: write(row) for row in instances * 2), prune, prune)
    prune()

    for instance in instances:
        assert seqs(instance) == list(range(102, 142))
        assert (stream(instance).first_seq, stream(instance).last_seq) == (102, 141)


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
def test_a_stream_locked_by_a_writer_is_pruned_after_its_commit():
    instance = Instance.objects.create(name="busy")
    age(Event.objects.all(), days=30)
    is_written = threading.Event()

    def write_slowly():
        with transaction.atomic():
            record(instance)
            is_written.set()
            until(is_lock_awaited)

    def prune_meanwhile():
        is_written.wait(10)
        prune()

    in_threads(write_slowly, prune_meanwhile)

    assert seqs(instance) == [2]


def is_lock_awaited():
    """Return whether a session of this database waits for a lock of another one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


# Server and command


@pytest.mark.django_db(transaction=True)
async def test_a_server_prunes_round_after_round(monkeypatch):
    monkeypatch.setattr(retention, "FIRST_ROUND_DELAY", 0)
    monkeypatch.setattr(retention, "ROUND_INTERVAL", 0)
    instance = await database(Instance.objects.create, name="loja")

    pruning = asyncio.create_task(retention.prune_forever())
    for _ in range(2):
        await database(age, of(instance), days=30)
        async with asyncio.timeout(10):
            while await database(Event.objects.exists):
                assert not pruning.done()
        await database(record, instance)
    pruning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pruning
    await until_reads_are_done()


async def until_reads_are_done():
    """Wait for a step in a thread, which does not end with its cancelled task."""
    barrier = threading.Barrier(4)
    await asyncio.gather(*(database(barrier.wait, 10, pool=Pool.READS) for _ in range(barrier.parties)))


def test_the_command_prints_what_it_deleted(fresh_server):
    server = fresh_server(EVENT_RETENTION_HOURS="24")
    instance = server.create()
    server.shell(
        "from datetime import timedelta; from django.utils import timezone; from realtime.log.models import Event;"
        "Event.objects.update(created_at=timezone.now() - timedelta(hours=25))"
    )
    server.receive(instance)

    assert server.manage("prune_events").splitlines() == [
        "Removed 1 events older than 24 hours, 0 dedupe keys and the streams of 0 deleted instances."
    ]
    found = server.get(server.path("/event/find", instance)).json
    assert (found["first"], [event["seq"] for event in found["events"]]) == (2, list(range(2, found["last"] + 1)))


@pytest.mark.parametrize("hours", ["0", "-1", "1000001", "week"])
def test_an_invalid_retention_fails_the_start(environment, hours):
    command = [sys.executable, "manage.py", "check"]
    settings = os.environ | environment | {"EVENT_RETENTION_HOURS": hours}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "EVENT_RETENTION_HOURS" in done.stderr
