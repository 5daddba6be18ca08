"""The counters of messages change in the transaction that stores or deletes the messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from django.apps import apps
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from instances.changes import InboundMessage, StatusReport
from instances.models import Chat, Instance, Message, MessageCount, MessageStatus

pytest_plugins = ("tests.rest",)

ANA, BIA = "5511988887777@s.whatsapp.net", "5511977776666@s.whatsapp.net"


def inbound(id: str, jid: str = ANA, **fields) -> InboundMessage:
    known = {"type": "conversation", "content": {"conversation": "hi"}, "timestamp": 100}
    return InboundMessage(id=id, remote_jid=jid, **known | fields)


def receive(instance: Instance, *messages: InboundMessage) -> None:
    with transaction.atomic():
        Message.receive(instance, messages)


def counters(instance: Instance) -> dict[str, tuple[int, int, int, int]]:
    """Return message count, unread count, and the times of the last message and of the last inbound one, by chat."""
    names = ("remote_jid", "message_count", "unread_count", "last_message_at", "last_inbound_at")
    return {jid: tuple(rest) for jid, *rest in Chat.objects.filter(instance=instance).values_list(*names)}


def total(instance: Instance) -> int:
    return Instance.objects.counted().get(pk=instance.pk).message_count


def test_a_chat_counts_its_messages_and_those_that_are_unread(loja):
    receive(loja, inbound("1"), inbound("2", timestamp=300), inbound("3", timestamp=200), inbound("4", BIA))
    assert counters(loja) == {ANA: (3, 3, 300, 300), BIA: (1, 1, 100, 100)}
    assert total(loja) == 4

    receive(loja, inbound("5", timestamp=400), inbound("6", timestamp=500, from_me=True), inbound("7", timestamp=450))

    assert counters(loja)[ANA] == (6, 1, 500, 450)
    assert total(loja) == 7


def test_a_repeat_is_not_counted(loja):
    receive(loja, inbound("1"), inbound("1"))
    receive(loja, inbound("1"), inbound("1", BIA))
    assert (counters(loja), total(loja)) == ({ANA: (1, 1, 100, 100)}, 1)


def test_a_rollback_counts_nothing(loja):
    with transaction.atomic():
        Message.receive(loja, [inbound("1")])
        transaction.set_rollback(True)
    assert (counters(loja), total(loja)) == ({}, 0)


def test_deleted_messages_are_counted_no_more(loja):
    receive(loja, inbound("1", timestamp=300), inbound("2"), inbound("3", BIA))
    Message.objects.filter(instance=loja, wa_id__in=["1", "3"]).delete()
    assert (counters(loja), total(loja)) == ({ANA: (1, 2, 100, 100), BIA: (0, 1, 0, 0)}, 1)
    Message.objects.get(instance=loja).delete()
    assert (counters(loja)[ANA], total(loja)) == ((0, 2, 0, 0), 0)


def test_an_instance_is_deleted_without_reading_its_messages(loja):
    receive(loja, *(inbound(str(number)) for number in range(5)))
    Message.record_status(loja, StatusReport(id="1", remote_jid=ANA, status="READ"))
    with CaptureQueriesContext(connection) as queries:
        loja.delete()
    assert not [query for query in queries if query["sql"].startswith("SELECT") and "instances_message" in query["sql"]]
    assert not any(model.objects.exists() for model in (Message, Chat, MessageCount, MessageStatus))


def test_a_batch_takes_one_statement_for_the_counters(loja):
    """That of the instance: the counters of chats are in the statements that store the chats."""
    receive(loja, *(inbound(f"a{number}", f"{number}@s.whatsapp.net") for number in range(5)))
    with CaptureQueriesContext(connection) as queries:
        receive(loja, *(inbound(f"b{number}", f"{number}@s.whatsapp.net") for number in range(10)))
    counting = [query["sql"] for query in queries if "instances_chat" in query["sql"] or "messagecount" in query["sql"]]
    assert len(counting) == 4  # SELECT, UPDATE and INSERT of chats, as before there were counters, and the instance's


def test_statuses_are_rows_oldest_first_and_once(loja):
    receive(loja, inbound("1", from_me=True))
    for status in ("SENT", "DELIVERED", "DELIVERED", "READ", "nonsense"):
        Message.record_status(loja, StatusReport(id="1", remote_jid=ANA, status=status))
    Message.record_status(loja, StatusReport(id="unknown", remote_jid=ANA, status="READ"))
    with transaction.atomic():
        Message.store_statuses(loja, [("1", "PLAYED", None), ("1", "READ", BIA), ("unknown", "READ", None)])

    rows = MessageStatus.objects.filter(instance=loja).values_list("status", "participant")
    assert list(rows) == [("SENT", ANA), ("DELIVERED", ANA), ("READ", ANA), ("PLAYED", ANA), ("READ", BIA)]
    assert Message.objects.get(instance=loja).status == "PLAYED"
    Message.objects.all().delete()
    assert not MessageStatus.objects.exists()


def test_a_status_takes_no_more_statements_than_before_it_was_a_row(loja):
    receive(loja, inbound("1", from_me=True))
    with CaptureQueriesContext(connection) as queries:
        Message.record_status(loja, StatusReport(id="1", remote_jid=ANA, status="SENT"))
    of_messages = [query["sql"].split()[0] for query in queries if '"instances_message' in query["sql"]]
    assert of_messages == ["SELECT", "UPDATE", "INSERT"]


def test_messages_of_former_versions_are_counted_by_the_migration(loja, other):
    receive(loja, inbound("1"), inbound("2", BIA, timestamp=300), inbound("3", BIA, timestamp=500, from_me=True))
    receive(other, inbound("1"))
    expected = counters(loja)
    MessageCount.objects.filter(instance=loja).delete()
    Chat.objects.filter(instance=loja, remote_jid=BIA).delete()  # of sends alone there was no chat
    Chat.objects.filter(instance=loja).update(message_count=0, last_message_at=0, last_inbound_at=0)
    MessageCount.objects.filter(instance=other).update(count=7)
    migration = import_module("instances.migrations.0011_count_messages")

    migration.count_messages(apps, None)
    migration.count_messages(apps, None)  # as after an interruption: the instances that are counted are left alone

    assert counters(loja) == expected
    assert (total(loja), total(other)) == (3, 7)


def test_concurrent_messages_and_sends_are_all_counted(server):
    instance = server.create()

    def work(number: int) -> None:
        key = {"remoteJid": ANA if number % 2 else BIA, "fromMe": False, "id": str(number % 60)}
        if number % 3:
            assert server.receive(instance, key=key).status == 200
        else:
            sent = server.post(server.path("/message/sendText", instance), {"number": ANA, "text": "hi"})
            assert sent.status == 201

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(120)))

    code = f"""
from django.db.models import Count
from instances.models import Chat, Message
messages = Message.objects.filter(instance_id={instance.id!r}).order_by().values_list("remote_jid")
print(sorted(messages.annotate(Count("pk"))) == sorted(
    Chat.objects.filter(instance_id={instance.id!r}).values_list("remote_jid", "message_count")))
print(messages.count())
"""
    same, stored = server.shell(code).split()
    assert (same, int(stored)) == ("True", server.counts(instance)["Message"])
