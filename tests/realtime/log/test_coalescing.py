"""Coalescing: of a burst the first event is emitted at once, then once an interval the latest, which is never lost."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F

from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.log import coalescing_worker
from realtime.log.coalescing import COALESCIBLE, IDLE_LIFETIME, Burst
from realtime.log.models import DedupeKey, Event, EventDraft
from realtime.log.stream import Stream
from tests.end_to_end.test_processes import run
from tests.environment import GLOBAL_KEY, ON_POSTGRES
from tests.in_process import until
from tests.realtime.api.test_publish import an_event, log, publish, state
from tests.realtime.log.test_models import envelope, record, seqs
from tests.server import Number, Server
from tests.threads import in_threads

HOUR = 3_600_000
CONNECTION, QRCODE, PRESENCE = EventType.CONNECTION_UPDATE, EventType.QRCODE_UPDATED, EventType.PRESENCE_UPDATE


@pytest.fixture(autouse=True)
def intervals(settings):
    """Intervals so long that no event becomes due by itself, only by `pass_time`."""
    set_intervals(settings, HOUR, HOUR, HOUR)


def set_intervals(settings, connection, qrcode, presence):
    settings.EVENT_COALESCE_CONNECTION_UPDATE_MS = connection
    settings.EVENT_COALESCE_QRCODE_UPDATED_MS = qrcode
    settings.EVENT_COALESCE_PRESENCE_UPDATE_MS = presence


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja")


def pass_time(milliseconds=HOUR):
    by = timedelta(milliseconds=milliseconds)
    Burst.objects.update(told_at=F("told_at") - by, due_at=F("due_at") - by)


def record_states(instance, *states):
    return [record(instance, CONNECTION, {"state": state}) for state in states]


def presence(chat: Any, value: str) -> dict[str, Any]:
    return {"id": chat, "presences": {chat if isinstance(chat, str) else "?": {"lastKnownPresence": value}}}


def emitted_data(instance):
    """Return the data of the instance's events after its creation."""
    return [
        envelope(event)["data"] for event in Event.objects.filter(instance_id=instance.pk, seq__gt=1).order_by("seq")
    ]


def emitted_states(instance):
    return [data["state"] for data in emitted_data(instance)]


# The rule


def test_the_first_of_a_burst_is_emitted_at_once_and_the_last_when_it_is_due(instance):
    first, *deferred = record_states(instance, "connecting", "close", "connecting", "open")

    assert first.seq == 2
    assert deferred == [None] * 3
    assert coalescing_worker.emit_due() == 0
    pass_time()
    assert coalescing_worker.emit_due() == 1
    pass_time(2 * HOUR)
    assert coalescing_worker.emit_due() == 0
    assert emitted_states(instance) == ["connecting", "open"]


def test_emitting_a_deferred_event_begins_a_new_interval(instance):
    record_states(instance, "connecting", "open")
    pass_time()
    coalescing_worker.emit_due()

    assert record_states(instance, "close") == [None]
    pass_time()
    assert coalescing_worker.emit_due() == 1
    assert emitted_states(instance) == ["connecting", "open", "close"]


def test_after_an_interval_the_next_event_is_emitted_at_once_and_replaces_the_deferred_one(instance):
    record_states(instance, "connecting", "close")
    pass_time()

    assert record_states(instance, "open")[0].seq == 3
    pass_time(2 * HOUR)
    assert coalescing_worker.emit_due() == 0
    assert emitted_states(instance) == ["connecting", "open"]


def test_of_a_batch_the_first_is_emitted_and_the_last_is_deferred(instance):
    batch = [EventDraft(CONNECTION, {"state": n}) for n in range(3)]
    batch.insert(2, EventDraft(EventType.CALL, {"state": "call"}))

    recorded = Event.objects.record_all(instance, batch)

    assert [(result.seq, result.is_deferred, result.is_repeat) for result in recorded] == [
        *((2, False, False), (None, True, False), (3, False, False), (None, True, False)),
    ]
    pass_time()
    coalescing_worker.emit_due()
    assert emitted_states(instance) == [0, "call", 2]
    assert seqs(instance) == [1, 2, 3, 4]


def test_the_presence_of_a_chat_does_not_replace_that_of_another(instance):
    chats = ["1@s.whatsapp.net", "2@s.whatsapp.net", "3@g.us"]
    for value in ("available", "composing", "paused"):
        for chat in chats:
            record(instance, PRESENCE, presence(chat, value))
    pass_time()
    coalescing_worker.emit_due()

    emitted = [(data["id"], *data["presences"].values()) for data in emitted_data(instance)]
    for chat in chats:
        values = [value["lastKnownPresence"] for emitted_chat, value in emitted if emitted_chat == chat]
        assert values == ["available", "paused"]


@pytest.mark.parametrize("chat", [None, 5, "", "x" * 5000, "nul \x00", "\U0001f600", ["1"], {}])
def test_a_chat_may_have_any_id(instance, chat):
    data: list[Any] = [presence(chat, value) for value in ("available", "composing", "paused")]
    for value in data:
        record(instance, PRESENCE, value)
    pass_time()
    coalescing_worker.emit_due()

    assert emitted_data(instance) == [data[0], data[2]]


@pytest.mark.parametrize("data", [None, [], "text", 0, {"no": "id"}])
def test_presence_data_without_a_chat_is_deferred_too(instance, data):
    assert record(instance, PRESENCE, {"first": 1})
    [recorded] = Event.objects.record_all(instance, [EventDraft(PRESENCE, data)])
    assert recorded.is_deferred
    pass_time()
    coalescing_worker.emit_due()

    assert emitted_data(instance)[-1] == data


def test_instances_and_types_are_coalesced_separately(instance):
    other = Instance.objects.create(name="other")

    assert all(record(row, event_type) for row in (instance, other) for event_type in COALESCIBLE)
    assert not any(record(row, event_type) for row in (instance, other) for event_type in COALESCIBLE)


def test_a_deferred_code_is_not_emitted_after_the_open_that_followed_it(instance, settings):
    set_intervals(settings, 1000, HOUR, 0)
    for event_type, value in [(QRCODE, "code 1"), (QRCODE, "code 2"), (CONNECTION, "open")]:
        record(instance, event_type, {"state": value})
    pass_time(2000)
    assert coalescing_worker.emit_due() == 0
    pass_time(HOUR)

    assert coalescing_worker.emit_due() == 2
    assert emitted_states(instance) == ["code 1", "code 2", "open"]


def test_alternating_codes_and_states_are_not_deferred_forever(instance):
    for n in range(10):
        record(instance, CONNECTION, {"state": f"state {n}"})
        record(instance, QRCODE, {"state": f"code {n}"})
    pass_time()
    coalescing_worker.emit_due()

    assert emitted_states(instance) == ["state 0", "code 0", "state 9", "code 9"]


def test_a_clock_that_is_set_back_defers_nothing_forever(instance):
    record_states(instance, "connecting", "close")
    pass_time(-24 * HOUR)

    assert coalescing_worker.emit_due() == 1
    pass_time(-24 * HOUR)
    assert record_states(instance, "open")[0].seq == 4
    assert emitted_states(instance) == ["connecting", "close", "open"]


# Off


@pytest.mark.django_db
def test_with_coalescing_off_all_events_are_emitted(instance, settings):
    set_intervals(settings, 0, 0, 0)
    for _ in range(3):
        for event_type in COALESCIBLE:
            assert record(instance, event_type)
    assert not Burst.objects.exists()


@pytest.mark.any_database
def test_only_presence_is_coalesced_unless_settings_say_otherwise(tmp_path):
    code = "from realtime.log.coalescing import *; print([interval(kind).total_seconds() for kind in COALESCIBLE])"
    done = run({"DATA_DIR": str(tmp_path)}, "shell", "--no-imports", "-c", code)
    assert done.stdout == "[0.0, 0.0, 1.0]\n"


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "3600001", "1s", "٣", "9" * 5000])
@pytest.mark.parametrize("name", ["CONNECTION_UPDATE", "PRESENCE_UPDATE"])
def test_an_invalid_interval_fails_the_start(tmp_path, name, value):
    done = run({"DATA_DIR": str(tmp_path), f"EVENT_COALESCE_{name}_MS": value}, "check")

    assert done.returncode != 0
    assert f"EVENT_COALESCE_{name}_MS takes a number of milliseconds, 0 for off, from 0 to 3600000" in done.stderr


def test_types_that_are_not_coalesced_cost_no_statement(instance, settings, django_assert_num_queries):
    batch = [EventDraft(EventType.CALL, 1), EventDraft(EventType.MESSAGES_UPSERT, 2)]
    with django_assert_num_queries(3):
        Event.objects.record_all(instance, batch)

    set_intervals(settings, 0, 0, 0)
    with django_assert_num_queries(3):
        Event.objects.record_all(instance, [EventDraft(event_type, 1) for event_type in COALESCIBLE])


def test_events_deferred_before_coalescing_is_switched_off_are_emitted_before_newer_ones(instance, settings):
    record_states(instance, "connecting", "close")
    record(instance, PRESENCE, {"state": "typing"})
    record(instance, PRESENCE, {"state": "paused"})
    set_intervals(settings, 0, 0, HOUR)

    assert coalescing_worker.emit_left_behind() == 1
    assert record_states(instance, "open")[0].seq == 5
    assert emitted_states(instance) == ["connecting", "typing", "close", "open"]


# Contents of a deferred event


def test_name_and_audience_are_those_of_the_emission_and_the_data_that_of_the_report(instance):
    data = {"token": "t", "note": "\x00 ключ", "list": [1, None], "jpeg": b"\xff\xd8"}
    record_states(instance, "connecting")
    record(instance, CONNECTION, data)
    instance.name = "loja nova"
    instance.save()
    Subscription.set_websocket(instance, True, ["CALL"])
    pass_time()
    coalescing_worker.emit_due()

    event = Event.objects.get(instance_id=instance.pk, seq=3)
    assert envelope(event)["instance"] == event.name == "loja nova"
    assert envelope(event)["data"] == {"note": "\x00 ключ", "list": [1, None], "jpeg": "/9g="}
    assert not event.is_heard


def test_no_key_is_stored_in_deferred_data(instance, settings):
    record_states(instance, "connecting")
    record(instance, CONNECTION, {"token": "secret-token", "note": f"key={settings.AUTHENTICATION_API_KEY}"})

    assert Burst.objects.get().data == '{"note":"key=********"}'


def test_data_that_cannot_be_serialized_raises_at_once(instance):
    record_states(instance, "connecting")
    with pytest.raises(TypeError):
        record(instance, CONNECTION, {"thing": {1, 2}})


def test_a_deferred_event_is_rolled_back_with_its_change(instance):
    record_states(instance, "connecting")
    with transaction.atomic():
        record_states(instance, "open")
        transaction.set_rollback(True)
    pass_time()

    assert coalescing_worker.emit_due() == 0


def test_the_state_of_an_instance_changes_at_once_though_its_event_is_deferred(instance):
    for new in ("connecting", "open"):
        instance.connection_state = new
        instance.save()

    assert Instance.objects.get().connection_state == "open"
    assert emitted_states(instance) == ["connecting"]
    pass_time()
    coalescing_worker.emit_due()
    assert emitted_states(instance) == ["connecting", "open"]


# Repeats


def test_a_repeat_of_a_deferred_or_replaced_event_makes_no_event(instance):
    for key in ("emitted", "replaced", "deferred"):
        record(instance, CONNECTION, {"state": key}, dedupe_key=key)

    for key in ("emitted", "replaced", "deferred"):
        [recorded] = Event.objects.record_all(instance, [EventDraft(CONNECTION, {"state": "repeat"}, key)])
        assert recorded.is_repeat
        assert recorded.seq == (2 if key == "emitted" else None)
    pass_time()
    coalescing_worker.emit_due()
    assert emitted_states(instance) == ["emitted", "deferred"]

    pass_time()
    for key, seq in (("emitted", 2), ("replaced", None), ("deferred", 3)):
        [recorded] = Event.objects.record_all(instance, [EventDraft(CONNECTION, {"state": "repeat"}, key)])
        assert (recorded.is_repeat, recorded.seq) == (True, seq)
    assert emitted_states(instance) == ["emitted", "deferred"]
    assert dict(DedupeKey.objects.values_list("key", "seq")) == {"emitted": 2, "replaced": None, "deferred": 3}


def test_a_repeat_within_a_batch_makes_no_event(instance):
    keys = ["a", "b", "b", "a"]
    recorded = Event.objects.record_all(instance, [EventDraft(CONNECTION, {"state": n}, k) for n, k in enumerate(keys)])

    assert [(result.seq, result.is_deferred, result.is_repeat) for result in recorded] == [
        *((2, False, False), (None, True, False), (None, False, True), (2, False, True)),
    ]
    pass_time()
    coalescing_worker.emit_due()
    assert emitted_states(instance) == [0, 1]


# Lifetime of rows


NO_TIME = "infinity" if ON_POSTGRES else "2026-99-99 00:00:00"


@pytest.mark.parametrize(("column", "damage"), [("data", '{"id": '), ("told_at", NO_TIME)])
def test_a_deferred_event_that_cannot_be_read_keeps_no_other_from_being_emitted(instance, caplog, column, damage):
    other = Instance.objects.create(name="other")
    for number, chat in ((instance, "1"), (instance, "2"), (other, "3")):
        record(number, PRESENCE, presence(chat, "available"))
        record(number, PRESENCE, presence(chat, "composing"))
    pass_time()
    broken = Burst.objects.filter(instance_id=instance.pk).order_by("due_at").first()
    with connection.cursor() as cursor:
        key = broken._meta.pk.get_db_prep_value(broken.pk, connection)
        cursor.execute(f"UPDATE realtime_burst SET {column} = %s WHERE id = %s", [damage, key])

    assert coalescing_worker.emit_due() == 2
    assert coalescing_worker.emit_due() == 0
    assert [data["id"] for data in emitted_data(instance)] == ["1", "2", "2"]
    assert len(emitted_data(other)) == 2
    assert caplog.text.count(f"The row realtime_burst {key} cannot be read") == 1

    # it is replaced by a newer one, as it would be if it could be read
    record(instance, PRESENCE, presence("1", "paused"))
    assert [data["id"] for data in emitted_data(instance)] == ["1", "2", "2", "1"]
    assert Burst.objects.get(pk=broken.pk).data is None


def test_a_deferred_event_is_dropped_with_its_instance(instance):
    identity = instance.pk
    record_states(instance, "connecting", "open")
    instance.delete()
    pass_time()

    assert coalescing_worker.emit_due() == 0
    assert Event.objects.filter(instance_id=identity).latest("seq").type == "remove.instance"
    assert not Burst.objects.exists()


def test_idle_rows_are_deleted_in_batches_after_their_lifetime(instance, monkeypatch):
    monkeypatch.setattr(coalescing_worker, "BATCH", 3)
    for chat in range(5):
        record(instance, PRESENCE, presence(f"{chat}@g.us", "available"))
    record(instance, PRESENCE, presence("0@g.us", "composing"))
    assert coalescing_worker.remove_idle() == 0

    pass_time(HOUR + IDLE_LIFETIME.total_seconds() * 1000)

    assert [coalescing_worker.remove_idle(), coalescing_worker.remove_idle(), coalescing_worker.remove_idle()] == [
        3,
        1,
        0,
    ]
    assert coalescing_worker.emit_due() == 1


# Concurrency


@pytest.mark.django_db(transaction=True)
def test_concurrent_workers_emit_a_deferred_event_once():
    instances = [Instance.objects.create(name=f"loja {n}") for n in range(8)]
    for instance in instances:
        record_states(instance, "connecting", "open")
    pass_time()

    counts = []
    in_threads(*[lambda: counts.append(coalescing_worker.emit_due())] * 4)

    assert sum(counts) == 8
    for instance in instances:
        assert emitted_states(instance) == ["connecting", "open"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_emitting_and_recording_lose_and_reorder_nothing():
    instance = Instance.objects.create(name="loja")
    is_over = threading.Event()

    def record_burst():
        try:
            for n in range(60):
                record(instance, CONNECTION, {"state": n})
                record(instance)
                if n % 3 == 0:
                    pass_time()
        finally:
            is_over.set()

    def emit():
        while not is_over.is_set():
            coalescing_worker.emit_due()
            coalescing_worker.remove_idle()

    in_threads(record_burst, emit, emit)
    pass_time()
    coalescing_worker.emit_due()

    states = [data["state"] for data in emitted_data(instance) if "state" in data]
    assert states == sorted(set(states))
    assert (states[0], states[-1]) == (0, 59)
    assert seqs(instance) == list(range(1, len(seqs(instance)) + 1))


@pytest.mark.django_db(transaction=True)
def test_an_instance_deleted_while_emitting_has_no_event_after_its_removal():
    instance = Instance.objects.create(name="loja")
    identity = instance.pk
    record_states(instance, "connecting", "open")
    pass_time()
    is_deleted = threading.Event()

    def delete():
        with transaction.atomic():
            instance.delete()
            is_deleted.set()
            time.sleep(0.3)  # so that the other thread waits for the lock

    def emit():
        assert is_deleted.wait(10)
        coalescing_worker.emit_due()

    in_threads(delete, emit)

    assert Event.objects.filter(instance_id=identity).latest("seq").type == "remove.instance"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_locked_stream_does_not_delay_other_instances():
    stuck, other = Instance.objects.create(name="stuck"), Instance.objects.create(name="other")
    for instance in (stuck, other):
        record_states(instance, "connecting", "open")
    pass_time()
    is_locked, is_over = threading.Event(), threading.Event()

    def lock():
        with transaction.atomic():
            Stream.objects.lock(stuck)
            is_locked.set()
            assert is_over.wait(20)

    def emit():
        assert is_locked.wait(10)
        try:
            assert coalescing_worker.emit_due() == 1
        finally:
            is_over.set()

    in_threads(lock, emit)
    assert emitted_states(other) == ["connecting", "open"]
    assert until(coalescing_worker.emit_due) == 1


# Through servers


@pytest.fixture
def coalescing_server(start_server) -> Server:
    return start_server(EVENT_COALESCE_CONNECTION_UPDATE_MS="1000")


def listen(server: Server, node: Any, instance: Number) -> Any:
    return node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()


def received_by(client: Any) -> list[dict[str, Any]]:
    return [line["args"][0] for line in client.seen if line["is"] == "event"]


@pytest.mark.slow
@pytest.mark.any_database
def test_a_loop_of_reconnections_is_emitted_once_a_second_and_ends_with_its_last_state(coalescing_server, node):
    server = coalescing_server
    instance = server.create()
    client = listen(server, node, instance)

    began = time.monotonic()
    for n in range(200):
        state_now = "open" if n == 199 else ("connecting", "close")[n % 2]
        answer = publish(server, instance, an_event("connection.update", {"state": state_now, "n": n}))
        assert answer.status == 201
    assert state(server, instance) == "open"
    while client.event("connection.update")["data"]["n"] != 199:
        pass
    seconds = time.monotonic() - began

    assert client.quiet(1.5) == []
    events = received_by(client)
    assert events[0]["data"]["n"] == 0
    assert 2 <= len(events) <= seconds + 2
    assert [event["data"] for event in log(server, instance)] == [event["data"] for event in events]
    assert [event["prev"] for event in events] == [event["seq"] - 1 for event in events]
    client.disconnect()


@pytest.mark.any_database
def test_the_last_presence_of_each_chat_is_received(server, node):
    instance = server.create()
    client = listen(server, node, instance)
    chats = [f"{n}@s.whatsapp.net" for n in range(3)]

    for n in range(10):
        publish(server, instance, [an_event("presence.update", {"id": chat, "n": n}) for chat in chats])
    pending = set(chats)
    while pending:
        data = client.event("presence.update")["data"]
        if data["n"] == 9:
            pending.remove(data["id"])

    assert client.quiet(1.5) == []
    assert len(received_by(client)) < 30
    client.disconnect()


@pytest.mark.any_database
def test_with_coalescing_off_sockets_receive_every_event(start_server, node):
    server = start_server(EVENT_COALESCE_PRESENCE_UPDATE_MS="0")
    instance = server.create()
    client = listen(server, node, instance)

    for event in ("presence.update", "connection.update", "qrcode.updated"):
        answer = publish(server, instance, [an_event(event, {"n": n}) for n in range(5)])
        assert not any(row["isHeld"] for row in answer.json["events"])
        assert [client.event(event)["data"]["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
    client.disconnect()


def test_the_response_to_a_publisher_names_deferred_events_and_repeats(coalescing_server):
    server = coalescing_server
    instance = server.create()
    before = state(server, instance)
    new = "close" if before == "open" else "open"

    bodies = [an_event("connection.update", {"state": "connecting"}, dedupeKey="first")]
    bodies += [an_event("connection.update", {"state": new}, dedupeKey="second")]
    first, second = publish(server, instance, bodies).json["events"]

    assert (first["seq"], first["isHeld"], first["isRepeat"]) == (2, False, False)
    deferred = {"id": None, "seq": None, "event": "connection.update", "isRepeat": False, "isHeld": True}
    assert second == deferred
    assert state(server, instance) == new

    until(lambda: len(log(server, instance)) == 2)
    last = log(server, instance)[-1]
    publish(server, instance, an_event("connection.update", {"state": "connecting"}))
    [repeat] = publish(server, instance, bodies[1]).json["events"]
    assert repeat == deferred | {"id": last["id"], "seq": last["seq"], "isRepeat": True, "isHeld": False}
    assert state(server, instance) == "connecting"


def test_a_repeat_of_a_deferred_event_has_no_number_and_does_not_change_the_state(fresh_server):
    # alone on its database: a server with short intervals takes a time so far ahead for that of a clock set back
    server = fresh_server(EVENT_COALESCE_CONNECTION_UPDATE_MS=str(HOUR))
    instance = server.create()
    for key, value in (("a", "connecting"), ("b", "open"), ("c", "close")):
        publish(server, instance, an_event("connection.update", {"state": value}, dedupeKey=key))

    for key in ("b", "c"):
        [row] = publish(server, instance, an_event("connection.update", {"state": "open"}, dedupeKey=key)).json[
            "events"
        ]
        assert row == {"id": None, "seq": None, "event": "connection.update", "isRepeat": True, "isHeld": False}
    assert state(server, instance) == "close"


@pytest.mark.slow
def test_an_event_deferred_when_the_server_is_killed_is_emitted_once_by_the_next(fresh_server, node):
    server = fresh_server(EVENT_COALESCE_CONNECTION_UPDATE_MS="3000")
    instance = server.create()
    client = listen(server, node, instance)
    answer = publish(server, instance, [an_event("connection.update", {"n": n}) for n in range(3)])
    assert answer.json["events"][2]["isHeld"]
    assert client.event("connection.update")["data"] == {"n": 0}

    server.kill()
    assert "connection.update" not in [line.get("event") for line in client.quiet(0.2)]
    server.start()

    until(lambda: len(log(server, instance)) == 2, timeout=20)
    time.sleep(1)
    assert [event["data"]["n"] for event in log(server, instance)] == [0, 2]
    client.disconnect()


@pytest.mark.any_database
def test_events_deferred_before_a_restart_without_coalescing_are_emitted_by_it(fresh_server):
    server = fresh_server(EVENT_COALESCE_CONNECTION_UPDATE_MS="60000")
    instance = server.create()
    publish(server, instance, [an_event("connection.update", {"n": n}) for n in range(3)])
    server.kill()
    server.environment["EVENT_COALESCE_CONNECTION_UPDATE_MS"] = "0"
    server.start()

    assert publish(server, instance, an_event("connection.update", {"n": 3})).json["events"][0]["seq"] == 4
    assert [event["data"]["n"] for event in log(server, instance)] == [0, 2, 3]


SHELL = """
from instances.events import event_occurred
from instances.models import Instance
instance = Instance.objects.get(name={name!r})
for number in range(3):
    event_occurred.send(
        sender=None, instance=instance, event_type="presence.update", data={{"id": "1@g.us", "n": number}}
    )
"""


@pytest.mark.made_up_events
def test_events_deferred_by_a_shell_are_emitted_by_the_server(server, node):
    instance = server.create()
    client = listen(server, node, instance)

    server.shell(SHELL.format(name=instance.name))

    assert client.event("presence.update")["data"]["n"] == 0
    assert client.event("presence.update")["data"]["n"] == 2
    assert client.quiet(1.5) == []
    client.disconnect()


@pytest.mark.slow
@pytest.mark.postgres
def test_several_servers_emit_a_deferred_event_once(coalescing_server, start_server, node):
    servers = [coalescing_server, *(start_server(EVENT_COALESCE_CONNECTION_UPDATE_MS="1000") for _ in range(2))]
    instances = [servers[0].create() for _ in range(5)]
    global_client = node.connect(f"{servers[2].url}/", auth={"apikey": GLOBAL_KEY}).connected()
    for n in range(3):
        for instance in instances:
            publish(servers[n], instance, an_event("connection.update", {"n": n}))

    for instance in instances:
        until(lambda number=instance: log(servers[0], number)[-1]["data"]["n"] == 2)
    time.sleep(1.5)
    for instance in instances:
        numbers = [event["data"]["n"] for event in log(servers[0], instance)]
        assert numbers[0] == 0
        assert numbers == sorted(set(numbers))
    global_client.disconnect()
