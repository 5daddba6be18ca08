"""The connection of an instance: connect, restart, log out, presence, and what a logged-out instance still does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.instances.api.rows import ISO, row
from tests.server import Number, Response, Server

KINDS = ("EVOLUTION", "WHATSAPP-BUSINESS")
NAMES = {
    "EVOLUTION": "Method not available on Evolution Channel",
    "WHATSAPP-BUSINESS": "Method not available on WhatsApp Business API",
}
TEXT = {"number": "5511988887777", "text": "hello"}


def state(name: str, word: str) -> dict[str, Any]:
    return {"instance": {"instanceName": name, "state": word}}


def messages(response: Response) -> tuple[int, Any]:
    return response.status, response.json["response"]["message"]


def not_connected(name: str) -> tuple[int, list[str]]:
    return 400, [f'The "{name}" instance is not connected']


def log_out(server: Server, instance: Number) -> Response:
    return server.request("DELETE", server.path("/instance/logout", instance), key=instance.token)


def connect(server: Server, instance: Number, query: str = "") -> Response:
    return server.get(server.path("/instance/connect", instance) + query, key=instance.token)


def restart(server: Server, instance: Number, method: str = "POST") -> Response:
    return server.request(method, server.path("/instance/restart", instance), key=instance.token)


def send(server: Server, instance: Number, **more: Any) -> Response:
    return server.post(server.path("/message/sendText", instance), TEXT | more, key=instance.token)


def publish(server: Server, instance: Number, word: str) -> None:
    event = {"event": "connection.update", "data": {"instance": instance.name, "state": word, "statusReason": 200}}
    assert server.post(server.path("/event/publish", instance), event).status == 201


def events(server: Server, instance: Number, first: int = 1) -> list[tuple[str, Any]]:
    """Return the names and data of the instance's events, without the first ones."""
    found = server.get(server.path("/event/find", instance)).json["events"]
    return [(event["event"], event["data"]) for event in sorted(found, key=lambda event: event["seq"])][first:]


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_instance_is_connected_restarted_and_logged_out(server, kind):
    instance = server.create(integration=kind)
    is_open = state(instance.name, "open")
    for response in (
        connect(server, instance),
        connect(server, instance, "?number=5511"),
        restart(server, instance),
        restart(server, instance, "PUT"),
    ):
        assert (response.status, response.json) == (200, is_open)

    response = log_out(server, instance)
    assert response.json == {"status": "SUCCESS", "error": False, "response": {"message": "Instance logged out"}}
    again = log_out(server, instance)
    assert messages(again) == (200, "Instance was already disconnected")
    assert server.get(server.path("/instance/connectionState", instance)).json == state(instance.name, "close")
    assert messages(restart(server, instance)) == not_connected(instance.name)
    assert messages(send(server, instance)) == not_connected(instance.name)

    response = connect(server, instance, "?number=5511")
    assert (response.status, response.json) == (200, is_open)
    assert restart(server, instance).json == is_open
    assert row(server, instance.name)["connectionStatus"] == "open"


def test_a_log_out_is_announced_in_evolutions_order_and_shown_in_the_row(server):
    instance = server.create()
    log_out(server, instance)

    (status, closed), logout, update = events(server, instance)
    found = row(server, instance.name)

    assert (status, closed["instance"], closed["status"]) == ("status.instance", instance.name, "closed")
    assert closed["disconnectionReasonCode"] == 401
    assert ISO.fullmatch(closed["disconnectionAt"])
    assert json.loads(closed["disconnectionObject"])["error"]["output"]["statusCode"] == 401
    assert logout == ("logout.instance", None)
    assert update == ("connection.update", {"instance": instance.name, "state": "close", "statusReason": 401})
    assert {name: found[name] for name in closed if name.startswith("disconnection")} == {
        name: value for name, value in closed.items() if name.startswith("disconnection")
    }

    log_out(server, instance)
    assert len(events(server, instance)) == 3, "nothing happens a second time"
    connect(server, instance)
    assert events(server, instance)[3:] == [
        ("connection.update", {"instance": instance.name, "state": "open", "statusReason": 200})
    ]
    assert row(server, instance.name)["disconnectionAt"] is None


def test_sockets_hear_of_a_log_out_and_send_nothing_after_it(server, node):
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    log_out(server, instance)
    for event in ("status.instance", "logout.instance", "connection.update"):
        client.event(event)
    answer = client.call("send_message", TEXT)
    assert (answer["status"], answer["response"]["message"]) == not_connected(instance.name)

    connect(server, instance)
    assert client.event("connection.update")["data"]["state"] == "open"
    assert client.call("send_message", TEXT)["message"] == {"conversation": TEXT["text"]}


def test_what_is_reported_of_a_logged_out_instance_is_still_recorded(server):
    instance = server.create()
    log_out(server, instance)
    assert server.receive(instance).status == 200
    assert server.counts(instance)["Message"] == 1
    assert server.get(server.path("/instance/connectionState", instance)).json == state(instance.name, "close")


def test_a_repeat_of_what_was_sent_before_the_log_out_has_its_answer(server):
    instance = server.create()
    sent = send(server, instance, id="a")
    log_out(server, instance)
    assert send(server, instance, id="a").json == sent.json
    assert messages(send(server, instance, id="b")) == not_connected(instance.name)


def test_the_state_that_an_engine_reports_stays_and_an_open_one_ends_the_log_out(server):
    instance = server.create()
    publish(server, instance, "close")
    assert connect(server, instance).json == state(instance.name, "close"), "the engine knows better"
    assert send(server, instance).status == 201, "it may send later, as ever"

    publish(server, instance, "open")
    log_out(server, instance)
    publish(server, instance, "connecting")
    assert messages(send(server, instance)) == not_connected(instance.name)
    publish(server, instance, "open")
    assert send(server, instance).status == 201
    assert messages(log_out(server, instance)) == (200, "Instance logged out")


def test_an_instance_of_whatsapp_web_says_what_it_lacks(server):
    instance = server.create(integration="WHATSAPP-BAILEYS")
    path = server.path("/instance/setPresence", instance)
    for response in (
        connect(server, instance),
        restart(server, instance),
        restart(server, instance, "PUT"),
        server.post(path, {"presence": "available"}, key=instance.token),
    ):
        assert messages(response) == not_connected(instance.name)
        assert "no engine for WhatsApp Web" in response.headers["X-Evoapi-Note"]
    assert messages(log_out(server, instance)) == (200, "Instance was already disconnected")


@pytest.mark.parametrize("kind", KINDS)
def test_a_presence_is_checked_before_the_channel_refuses_it(server, kind):
    instance = server.create(integration=kind)
    path = server.path("/instance/setPresence", instance)
    words = "unavailable,available,composing,recording,paused"
    assert messages(server.post(path, {})) == (400, [['instance requires property "presence"']])
    wrong = server.post(path, {"presence": "asleep"})
    assert messages(wrong) == (400, [[f"presence is not one of enum values: {words}"]])
    assert messages(server.post(path, {"presence": "paused"})) == (400, [NAMES[kind]])


def test_deleting_logs_out_first_and_works_after_a_log_out(server):
    opened, closed = server.create(), server.create()
    for instance in (opened, closed):
        server.post(server.path("/event/publish", instance), {"event": "call", "data": {}})
    log_out(server, closed)
    found = {}
    for instance in (opened, closed):
        assert server.request("DELETE", server.path("/instance/delete", instance), key=instance.token).status == 200
        types = server.shell(
            "from realtime.log.models import Event\n"
            f"print(*Event.objects.filter(instance_id={instance.id!r}).order_by('seq').values_list('type', flat=True))"
        )
        found[instance.name] = types.split()[2:]
    ends = ["status.instance", "logout.instance", "connection.update", "instance.delete", "remove.instance"]
    assert found == {opened.name: ends, closed.name: ends}


@pytest.mark.any_database
@pytest.mark.parametrize("action", ["connect", "logout", "restart"])
def test_a_key_that_may_read_alone_changes_no_connection(server, action):
    instance = server.create()
    code = (
        "from instances.models import ApiKey, Instance\n"
        "key, secret = ApiKey.objects.issue('reader', ['read', 'send'])\n"
        f"key.instances.set(Instance.objects.filter(name={instance.name!r}))\nprint(secret)"
    )
    key = server.shell(code).strip()
    method = {"connect": "GET", "logout": "DELETE", "restart": "POST"}[action]
    response = server.request(method, server.path(f"/instance/{action}", instance), key=key)
    assert messages(response) == (403, ["This key may not manage"])
