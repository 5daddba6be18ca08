"""Finds of large and of damaged rows: they stall nobody, count until they are read, and leave out what is damaged."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.clients.http import begin_of_response
from tests.in_process import until
from tests.realtime.api.test_large_bodies import DEAREST
from tests.server import Number, Server

ANA = "5511988887777@s.whatsapp.net"


def receive(server: Server, instance: Number, id: str, content: bytes) -> int:
    key = b'"key": {"remoteJid": "%b", "id": "%b"}' % (ANA.encode(), id.encode())
    body = b'{"numberId": "%b", %b, "message": %b}' % (instance.number.encode(), key, content)
    return server.request("POST", "/webhook/evolution", body, key=instance.token).status


@pytest.mark.any_database
@pytest.mark.parametrize("kind", ["members", "deep"])
def test_the_dearest_messages_are_found_without_a_stall(server, kind):
    instance = server.create()
    data = DEAREST[kind]
    assert receive(server, instance, "1", b'{"conversation": %b}' % data) == 200
    assert receive(server, instance, "2", b'{"conversation": "hi"}') == 200

    found = server.post(server.path("/chat/findMessages", instance), {}, key=instance.token).json["messages"]
    assert [record["key"]["id"] for record in found["records"]] == ["2", "1"]
    assert all(record["message"] or record["isTrimmed"] for record in found["records"])
    chats = server.post(server.path("/chat/findChats", instance), {}, key=instance.token).json
    assert chats[0]["lastMessage"]["key"]["id"] in ("1", "2")


@pytest.mark.any_database
def test_finds_that_wait_for_their_readers_count(start_server):
    """Beyond what the kernel buffers, which is up to 4 MB; reads are refused, although they are POST requests."""
    server = start_server(MAX_HELD_BYTES=str(16 * 1024 * 1024))
    instance = server.create()
    for id in "123":
        assert server.receive(instance, "x" * 3_000_000, id=id).status == 200
    head = f"POST /chat/findMessages/{instance.name} HTTP/1.1\r\nHost: localhost\r\napikey: {instance.token}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with ExitStack() as opened:
        begins = [begin_of_response(opened, server, request) for _ in range(3)]
        assert begins == [b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 503"]
    until(lambda: server.post(server.path("/chat/findMessages", instance), {}, key=instance.token).status == 200)


def test_damaged_rows_are_left_out_and_the_others_found(server):
    instance = server.create()
    for id in "123":
        assert server.receive(instance, id=id, key={"remoteJid": f"{id}@s.whatsapp.net", "id": id}).status == 200
    server.shell(
        "from instances.models import Message; from django.db import connection; "
        f"pk = Message.objects.get(instance_id={instance.id!r}, wa_id='2').pk; "
        "connection.cursor().execute('UPDATE instances_message SET content = %s WHERE id = %s', ['{', pk])"
    )

    found = server.post(server.path("/chat/findMessages", instance), {}, key=instance.token)
    chats = server.post(server.path("/chat/findChats", instance), {}, key=instance.token)

    assert [record["key"]["id"] for record in found.json["messages"]["records"]] == ["3", "1"]
    last = {chat["remoteJid"][0]: chat["lastMessage"] and chat["lastMessage"]["key"]["id"] for chat in chats.json}
    assert last == {"1": "1", "2": None, "3": "3"}
