"""What is too old leaves the log: of each stream a prefix, in small steps, and nobody is told twice for it."""

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
from realtime.log.retention import Pruning, prune
from realtime.log.stream import GLOBAL_STREAM_ID, Stream
from tests.inside import until
from tests.realtime.log.test_models import in_threads, record, seqs
from tests.server import ROOT


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja")


def record_many(instance, count):
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n) for n in range(count)])


def age(rows, hours=0, days=0):
    """Make these as old as that."""
    return rows.update(created_at=timezone.now() - timedelta(hours=hours, days=days))


def of(instance):
    return Event.objects.filter(instance_id=instance.pk)


def stream(instance):
    return Stream.objects.get(pk=instance.pk)


def test_events_past_their_time_go_and_the_others_stay(instance):
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


def test_the_retention_is_the_setting(instance, settings):
    settings.EVENT_RETENTION_HOURS = 2
    record_many(instance, 1)
    age(of(instance).filter(seq=1), hours=3)

    assert prune().events == 1
    assert prune().events == 0


def test_counting_goes_on_where_a_pruned_stream_stopped(instance):
    record_many(instance, 2)
    epoch = stream(instance).epoch
    age(Event.objects.all(), days=30)
    prune()

    assert seqs(instance) == []
    assert (stream(instance).first_seq, stream(instance).last_seq, stream(instance).epoch) == (4, 3, epoch)
    assert record(instance).seq == 4


def test_a_step_removes_no_more_than_a_batch(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 4)
    record_many(instance, 10)
    age(of(instance).filter(seq__lte=9), days=30)

    pruning, left = Pruning(), []
    while pruning.step():
        left.append((of(instance).count(), stream(instance).first_seq))

    assert left == [(7, 5), (3, 9), (2, 10)]
    assert pruning.events == 9


def test_one_stream_is_pruned_whatever_the_others_hold(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    others = [Instance.objects.create(name=f"other {n}") for n in range(3)]
    for one in others:
        record_many(one, 2)
    age(of(others[1]), days=30)

    assert prune().events == 3
    assert [seqs(one) for one in (instance, *others)] == [[1], [1, 2, 3], [], [1, 2, 3]]


# Resuming from below


def is_whole_after(cursor):
    """Whether nothing is missing that whoever stands here has not had."""
    transaction_id, row = Stream.objects.global_floor()
    return cursor.low > transaction_id or (cursor.high > transaction_id and cursor.row >= row)


@pytest.mark.django_db(transaction=True)
def test_the_floor_of_all_parts_who_missed_something_from_who_did_not():
    assert Stream.objects.global_floor() == (0, 0)
    instance = Instance.objects.create(name="loja")
    record_many(instance, 3)
    beginning = Cursor(0, 1, 0)
    before_last = Event.objects.page_after(beginning, 3).entries[-1][0]
    last = Event.objects.head()
    assert all(map(is_whole_after, (beginning, before_last, last)))

    age(of(instance), days=30)
    prune()

    assert Stream.objects.global_floor()[1] > 0
    assert not is_whole_after(beginning)
    assert not is_whole_after(before_last)
    assert is_whole_after(last)
    assert is_whole_after(Event.objects.head())


def test_a_floor_is_never_lowered(instance):
    other = Instance.objects.create(name="other")
    age(of(other), days=30)
    prune()
    floor = Stream.objects.global_floor()
    age(of(instance), days=30)

    assert prune().events == 1
    assert Stream.objects.global_floor() == floor


def test_the_stream_of_all_has_an_epoch_that_stays(db):
    whole = Stream.objects.global_stream()
    prune()

    assert (whole.pk, whole.name, len(whole.epoch)) == (GLOBAL_STREAM_ID, "/", 16)
    assert Stream.objects.global_stream().epoch == whole.epoch


def test_a_streams_state_is_its_row_and_made_where_there_is_none(instance):
    [silent] = Instance.objects.bulk_create([Instance(name="silent")])

    assert Stream.objects.state(instance.pk).last_seq == 1
    made = Stream.objects.state(silent.pk)
    assert (made.name, made.first_seq, made.last_seq) == ("silent", 1, 0)
    assert Stream.objects.state(silent.pk).epoch == made.epoch
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
def test_a_key_is_kept_as_long_as_events_and_eight_days_at_least(instance, settings, hours, days):
    settings.EVENT_RETENTION_HOURS = hours
    record(instance, dedupe_key="once")
    age(DedupeKey.objects.all(), days=days, hours=-1)
    assert prune().keys == 0

    age(DedupeKey.objects.all(), days=days, hours=1)
    assert prune().keys == 1
    assert record(instance, dedupe_key="once").seq == 3


def test_keys_go_in_batches_too(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n, str(n)) for n in range(6)])
    age(DedupeKey.objects.filter(seq__lt=7), days=9)

    pruning, left = Pruning(), []
    while pruning.step():
        left.append(DedupeKey.objects.count())

    assert left == [4, 2]
    assert list(DedupeKey.objects.values_list("key", flat=True)) == ["5"]


@pytest.mark.django_db(transaction=True)
def test_keys_that_were_columns_of_events_are_kept_by_the_migration_and_given_back():
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


def test_a_deleted_instance_is_told_of_until_its_events_are_too_old_and_then_leaves_nothing(instance):
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


def test_what_a_deleted_instance_leaves_goes_in_batches_and_when_its_events_went_before(instance, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    Event.objects.record_all(instance, [EventDraft(EventType.CALL, n, str(n)) for n in range(5)])
    instance.delete()
    Event.objects.all().delete()

    pruned = prune()

    assert (pruned.events, pruned.keys, pruned.streams) == (0, 5, 1)


def test_an_instance_created_anew_under_the_same_name_counts_and_keeps_its_own(instance):
    record(instance, dedupe_key="once")
    instance.delete()
    age(Event.objects.all(), days=8)
    again = Instance.objects.create(name="loja")
    record(again, dedupe_key="once")

    assert prune().events == 4
    assert seqs(again) == [1, 2]
    assert record(again, dedupe_key="once") is None


# Beside writers


@pytest.mark.django_db(transaction=True)
def test_pruning_beside_writers_loses_and_blocks_nothing(monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    instances = [Instance.objects.create(name=f"busy {n}") for n in range(2)]
    for instance in instances:
        record_many(instance, 100)
    age(Event.objects.all(), days=30)

    def write(instance):
        for n in range(40):
            with transaction.atomic():
                record(instance, dedupe_key=f"{n}")

    in_threads(*(lambda one=one: write(one) for one in instances * 2), prune, prune)
    prune()

    for instance in instances:
        assert seqs(instance) == list(range(102, 142))
        assert (stream(instance).first_seq, stream(instance).last_seq) == (102, 141)


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
def test_a_stream_that_is_being_written_is_pruned_after_the_commit():
    instance = Instance.objects.create(name="busy")
    age(Event.objects.all(), days=30)
    is_written = threading.Event()

    def write_slowly():
        with transaction.atomic():
            record(instance)
            is_written.set()
            until(somebody_waits)

    def prune_meanwhile():
        is_written.wait(10)
        prune()

    in_threads(write_slowly, prune_meanwhile)

    assert seqs(instance) == [2]


def somebody_waits():
    """Whether a session of this database waits for a lock of another one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


# Who starts it


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
    await all_reads_are_done()


async def all_reads_are_done():
    """A step that was under way when its task was cancelled ends in its thread."""
    meeting = threading.Barrier(4)
    await asyncio.gather(*(database(meeting.wait, 10, pool=Pool.READS) for _ in range(meeting.parties)))


def test_the_command_says_what_it_removed(fresh_server):
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
def test_a_retention_that_is_none_is_refused_at_the_start(environment, hours):
    command = [sys.executable, "manage.py", "check"]
    settings = os.environ | environment | {"EVENT_RETENTION_HOURS": hours}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "EVENT_RETENTION_HOURS" in done.stderr
