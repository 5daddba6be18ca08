"""Invariants 1, 2 and 9: numbers without gaps, events committed with their change, an audience fixed when recorded."""

from __future__ import annotations

import orjson
import pytest
from django.db import transaction

from instances.changes import InboundMessage
from instances.events import EventType, event_occurred
from instances.models import Instance, Message, Subscription
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.threads import in_threads


@pytest.fixture
def instance(db):
    return Instance.objects.create(name="loja centro", number="551199")


def record(instance, event_type=EventType.CALL, data=None, **options):
    return Event.objects.record(instance, event_type, data or {"n": 1}, **options)


def envelope(event):
    return orjson.loads(bytes(event.envelope))


def seqs(instance):
    return list(Event.objects.filter(instance_id=instance.pk).order_by("pk").values_list("seq", flat=True))


def test_events_of_each_instance_are_numbered_from_one_without_gaps(instance):
    other = Instance.objects.create(name="other")
    for _ in range(3):
        record(instance)
        record(other)

    assert seqs(instance) == seqs(other) == [1, 2, 3, 4]  # the first one is instance.create


def test_the_number_of_a_rolled_back_event_is_assigned_again(instance):
    with transaction.atomic():
        record(instance)
        transaction.set_rollback(True)

    assert record(instance).seq == 2
    assert seqs(instance) == [1, 2]


def test_saving_a_stale_instance_does_not_reset_the_counter(instance):
    stale = Instance.objects.get(pk=instance.pk)
    record(instance)
    stale.profile_name = "Loja"
    stale.save()

    assert record(instance).seq == 3


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_get_numbers_in_commit_order():
    instance = Instance.objects.create(name="busy")

    def write():
        for _ in range(25):
            with transaction.atomic():
                record(instance)

    in_threads(write, write, write, write)

    by_commit = Event.objects.filter(instance_id=instance.pk).order_by("transaction_id", "pk")
    assert [event.seq for event in by_commit] == list(range(1, 102))


@pytest.mark.django_db(transaction=True)
def test_concurrent_reports_with_one_dedupe_key_make_one_event():
    instance = Instance.objects.create(name="busy")

    def report():
        for number in range(10):
            record(instance, dedupe_key=f"report:{number}")

    in_threads(report, report, report)

    assert seqs(instance) == list(range(1, 12))


def test_an_event_and_its_change_are_rolled_back_together(instance):
    with transaction.atomic():
        receive(instance, inbound("one"))
        transaction.set_rollback(True)

    assert not Message.objects.exists()
    assert seqs(instance) == [1]


def test_a_change_whose_event_cannot_be_serialized_is_not_stored(instance):
    unserializable = inbound("one", content={"thing": {1, 2}})

    with pytest.raises(TypeError):
        receive(instance, unserializable)

    assert not Message.objects.exists()


def test_a_failing_signal_receiver_of_another_app_rolls_the_change_back(instance):
    def fail(**kwargs):
        raise RuntimeError("failed")

    event_occurred.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            receive(instance, inbound("one"))
    finally:
        event_occurred.disconnect(fail)

    assert not Message.objects.exists()
    assert seqs(instance) == [1]


@pytest.mark.django_db(transaction=True)
def test_an_instance_whose_creation_cannot_be_announced_is_not_created():
    def fail(**kwargs):
        raise RuntimeError("failed")

    event_occurred.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            Instance.objects.create(name="unannounced")
    finally:
        event_occurred.disconnect(fail)

    assert not Instance.objects.exists()


def test_any_app_records_an_event_by_sending_the_signal(instance):
    event_occurred.send(sender=None, instance=instance, event_type="labels.edit", data={"id": "1", "name": "VIP"})

    event = Event.objects.get(instance_id=instance.pk, type="labels.edit")
    assert envelope(event)["data"] == {"id": "1", "name": "VIP"}


def test_a_type_that_is_not_in_the_catalogue_raises_to_the_sender(instance):
    with pytest.raises(ValueError, match=r"labels\.invented"):
        event_occurred.send(sender=None, instance=instance, event_type="labels.invented", data={})


def test_the_envelope_has_the_members_of_evolution_in_its_order(instance, settings):
    settings.SERVER_URL = "https://evo.example.com"
    instance.integration = "WHATSAPP-BAILEYS"
    instance.owner_jid = "5511900000001@s.whatsapp.net"

    members = envelope(record(instance))

    assert list(members) == [
        *("event", "instance", "data", "server_url", "date_time", "sender", "apikey"),
        *("id", "seq", "prev"),
    ]
    assert members["apikey"] is None
    assert members["sender"] == "5511900000001@s.whatsapp.net"
    assert members["id"] == f"{Stream.objects.get().epoch}.2"


def test_members_that_evolution_leaves_out_are_left_out(instance):
    members = envelope(record(instance))

    assert "server_url" not in members
    assert "sender" not in members


def test_bytes_are_encoded_as_base64(instance):
    assert envelope(record(instance, data={"jpegThumbnail": b"\xff\xd8"}))["data"] == {"jpegThumbnail": "/9g="}


def test_the_global_key_is_masked_in_every_member_of_an_event(instance, settings):
    event = record(instance, data={"session": {"parameters": {"note": f"key={settings.AUTHENTICATION_API_KEY}"}}})

    assert settings.AUTHENTICATION_API_KEY.encode() not in bytes(event.envelope)


def test_sockets_receive_all_events_of_an_instance_without_websocket_settings(instance):
    assert record(instance).is_heard


def test_websocket_settings_decide_which_events_sockets_receive(instance):
    Subscription.set_websocket(instance, True, ["MESSAGES_UPSERT"])
    assert not record(instance, EventType.CALL).is_heard
    assert record(instance, EventType.MESSAGES_UPSERT).is_heard

    Subscription.set_websocket(instance, False, [])
    assert not record(instance, EventType.MESSAGES_UPSERT).is_heard


@pytest.mark.parametrize("spelling", ["GROUP_UPDATE", "GROUPS_UPDATE"])
def test_group_updates_are_received_under_both_spellings(instance, spelling):
    Subscription.set_websocket(instance, True, [spelling])

    assert record(instance, EventType.GROUPS_UPDATE).is_heard


def test_the_audience_of_an_event_is_not_changed_by_later_settings(instance):
    event = record(instance, EventType.CALL)
    Subscription.set_websocket(instance, True, ["MESSAGES_UPSERT"])

    assert Event.objects.get(seq=event.seq).is_heard


def test_a_rename_does_not_change_recorded_events(instance):
    event = record(instance)
    instance.name = "loja nova"
    instance.save()

    assert envelope(Event.objects.get(seq=event.seq))["instance"] == "loja centro"
    assert envelope(record(instance))["instance"] == "loja nova"


def test_prev_is_the_seq_of_the_previous_event_for_sockets(instance):
    Subscription.set_websocket(instance, True, ["MESSAGES_UPSERT"])
    first = record(instance, EventType.MESSAGES_UPSERT)
    not_for_sockets = record(instance, EventType.CALL)
    second = record(instance, EventType.MESSAGES_UPSERT)

    assert (first.seq, not_for_sockets.seq, second.seq) == (2, 3, 4)
    assert envelope(first)["prev"] == 1
    assert envelope(second)["prev"] == 2


def test_deleting_an_instance_records_its_last_events_and_keeps_its_log(instance):
    identity = instance.pk
    instance.delete()

    types = list(Event.objects.filter(instance_id=identity).order_by("seq").values_list("type", flat=True))
    assert types == ["instance.create", "instance.delete", "remove.instance"]
    assert Stream.objects.get(pk=identity).last_seq == 3


def test_deleting_several_instances_at_once_records_an_event_for_each(instance):
    Instance.objects.create(name="other")
    Instance.objects.all().delete()

    assert Event.objects.filter(type="remove.instance").count() == 2


def test_a_state_is_announced_once_when_it_changes_by_save_or_method(instance):
    instance = Instance.objects.get(pk=instance.pk)
    instance.connection_state = "open"
    instance.save()
    instance.save()
    instance.save(update_fields=["connection_state"])

    data = [envelope(event)["data"] for event in Event.objects.filter(type="connection.update")]
    assert data == [{"instance": "loja centro", "state": "open", "statusReason": 200}]


def receive(instance, message):
    with transaction.atomic():
        Message.receive(instance, [message])


def inbound(id, **fields):
    return InboundMessage(
        **({"id": id, "remote_jid": "1@s.whatsapp.net", "type": "conversation", "timestamp": 1} | fields)
        | {"content": fields.get("content", {"conversation": "hi"})}
    )
