"""GET /event/stream/<instance>: server-sent events, with the audience and the recovery of sockets."""

from __future__ import annotations

import http.client
import json
import re
from urllib.parse import quote

import pytest

from instances.access import rate_limit
from tests.environment import GLOBAL_KEY
from tests.in_process import InProcessServer
from tests.realtime.fanout.pruning import prune

RENAME = "from django.db import connection; connection.cursor().execute('ALTER TABLE {} RENAME TO {}')"


class Stream:
    def __init__(self, server, name, query="", **headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self.connection.request("GET", f"/event/stream/{quote(name)}{query}", headers=headers)
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def line(self):
        return self.response.readline().decode().rstrip("\n")

    def event(self):
        """Read the next event; returns its (id, type, envelope)."""
        fields = {}
        while True:
            line = self.line()
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                fields[name] = value
            elif not line and "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])

    def json(self):
        return json.loads(self.response.read())

    def close(self):
        self.connection.close()


@pytest.fixture
def open_stream(server):
    opened = []

    def open(name, query="", **headers):
        opened.append(Stream(server, name, query, **headers))
        return opened[-1]

    yield open
    for stream in opened:
        stream.close()


@pytest.fixture
def instance(server):
    return server.create()


def started(stream):
    assert stream.status == 200
    assert stream.line() == ": welcome"
    return stream


def test_events_are_those_of_the_socket(server, node, open_stream, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    stream = started(open_stream(instance.name, "?since=1", apikey=instance.token))
    assert stream.response.headers["Content-Type"] == "text/event-stream"
    assert stream.response.headers["X-Accel-Buffering"] == "no"

    server.receive(instance, "hello")

    for name in ("messages.upsert", "contacts.upsert", "chats.upsert"):
        event = client.event(name)
        assert stream.event() == (event["id"], name, event)
    client.disconnect()


def test_a_stream_resumes_after_the_last_event_id(server, open_stream, instance):
    server.receive(instance, "first")
    stream = started(open_stream(instance.name, "?since=1", apikey=instance.token))
    last_event_id, _, event = stream.event()
    assert event["data"]["message"] == {"conversation": "first"}
    stream.close()
    server.receive(instance, "missed")

    stream = started(open_stream(instance.name, apikey=instance.token, **{"Last-Event-ID": last_event_id}))
    events = [stream.event()[2] for _ in range(6)]
    assert [event["seq"] for event in events] == list(range(3, 9))


def test_a_stream_that_resumes_from_before_what_is_kept_begins_with_the_oldest_and_tells_the_gap(
    server, open_stream, instance
):
    for text in ("first", "second"):
        server.receive(instance, text)
    stream = started(open_stream(instance.name, "?since=1", apikey=instance.token))
    last_event_id = stream.event()[0]
    epoch = last_event_id.partition(".")[0]
    stream.close()
    prune(server, instance, upto=4)

    for position in (last_event_id, f"{'0' * 16}.99"):  # and one of an instance that was deleted
        stream = started(open_stream(instance.name, apikey=instance.token, **{"Last-Event-ID": position}))
        gap = {"event": "gap", "instance": instance.name, "data": {"first": 5}}
        assert stream.event() == (f"{epoch}.4", "gap", gap)
        assert stream.event()[2]["seq"] == 5
        stream.close()

    stream = started(open_stream(instance.name, apikey=instance.token, **{"Last-Event-ID": f"{epoch}.4"}))
    assert stream.event()[2]["seq"] == 5, "the gap was emitted before"


def test_a_stream_can_choose_event_types(server, open_stream, instance):
    stream = started(open_stream(instance.name, "?since=0&events=CHATS_UPSERT,contacts.upsert", apikey=instance.token))
    server.receive(instance, "hello")

    assert [stream.event()[1] for _ in range(2)] == ["contacts.upsert", "chats.upsert"]


def test_an_empty_list_of_event_types_is_no_filter(server, open_stream, instance):
    stream = started(open_stream(instance.name, "?since=0&events=", apikey=instance.token))
    assert stream.event()[1] == "instance.create"


def test_an_unknown_event_type_is_refused_with_the_nearest_names(server, open_stream, instance):
    stream = open_stream(instance.name, "?events=CALL,MESSAGE_UPSERT", apikey=instance.token)
    [message] = stream.json()["response"]["message"]
    assert (stream.status, message.split(",")[0]) == (
        400,
        'events: There is no event "MESSAGE_UPSERT"; the nearest are MESSAGES_UPSERT',
    )

    stream = open_stream(instance.name, "?events=MESSAGE_UPSERT", apikey="wrong")
    assert (stream.status, stream.json()["response"]["message"]) == (401, "Unauthorized")


def test_websocket_settings_apply_to_streams(server, open_stream, instance):
    body = {"websocket": {"enabled": True, "events": ["CHATS_UPSERT"]}}
    server.post(server.path("/websocket/set", instance), body, key=instance.token)
    stream = started(open_stream(instance.name, "?since=1", apikey=instance.token))
    server.receive(instance, "hello")

    assert stream.event()[1] == "chats.upsert"


def test_a_page_opens_a_stream_with_a_minted_token(server, open_stream, instance):
    minted = server.post(server.path("/websocket/token", instance), {}, key=instance.token).json["token"]
    stream = started(open_stream(instance.name, f"?since=1&token={minted}"))
    server.receive(instance, "hello")

    assert stream.event()[1] == "messages.upsert"


def test_a_request_without_access_gets_the_usual_error(server, open_stream, instance):
    foreign = server.create()
    unauthorized = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
    for name, query, headers in [
        (instance.name, "", {}),
        (instance.name, "", {"apikey": "wrong"}),
        (instance.name, "", {"apikey": foreign.token}),
        (instance.name, f"?apikey={instance.token}", {}),
        (instance.name, f"?token={instance.token}", {}),
        (instance.name, "?token=", {"apikey": instance.token}),
        ("no-such-instance", "", {"apikey": instance.token}),
    ]:
        stream = open_stream(name, query, **headers)
        assert (stream.status, stream.json()) == (401, unauthorized)
    stream = open_stream("no-such-instance", apikey=GLOBAL_KEY)
    assert stream.json()["response"]["message"] == ['The "no-such-instance" instance does not exist']


def test_a_stream_takes_few_keys_and_tokens(server, open_stream, instance):
    minted = server.post(server.path("/websocket/token", instance), {}, key=instance.token).json["token"]
    started(open_stream(instance.name, "?" + f"token={minted}&" * 8))
    stream = open_stream(instance.name, "?" + f"token={minted}&" * 9)
    assert (stream.status, stream.json()["error"]) == (431, "Request Header Fields Too Large")


def test_a_stream_without_a_name_is_not_found(server, open_stream):
    stream = open_stream("", apikey=GLOBAL_KEY)
    assert (stream.status, stream.json()["response"]["message"]) == (404, ["Cannot GET /event/stream/"])


def ends_to_come_back(stream):
    """Return whether a response lets an EventSource reconnect: any but 200 ends it for good."""
    assert (stream.status, stream.response.headers["Content-Type"]) == (200, "text/event-stream")
    lines = stream.response.read().decode().splitlines()
    return any(re.fullmatch("retry: [3-7][0-9]{3}", line) for line in lines)


def test_a_stream_that_cannot_be_authorized_now_ends_so_that_its_client_comes_back(fresh_server):
    server = fresh_server()
    instance = server.create()
    server.shell(RENAME.format("instances_instance", "set_aside"))
    stream = Stream(server, instance.name, apikey=instance.token)
    assert ends_to_come_back(stream), "the database has failed"

    server.shell(RENAME.format("set_aside", "instances_instance"))
    stream.close()
    stream = started(Stream(server, instance.name, apikey=instance.token))
    stream.close()


def test_too_many_wrong_keys_end_a_stream_so_that_its_client_comes_back(transactional_db, monkeypatch):
    monkeypatch.setattr(rate_limit.failed_authentications, "burst", 0)
    with InProcessServer() as running:
        stream = Stream(running, "nobody", apikey="wrong")
        assert ends_to_come_back(stream)
        stream.close()


def test_a_stream_ends_after_the_last_events_of_its_instance(server, open_stream, instance):
    stream = started(open_stream(instance.name, apikey=instance.token))
    server.request("DELETE", server.path("/instance/delete", instance))

    assert [stream.event()[1] for _ in range(5)][3:] == ["instance.delete", "remove.instance"]
    assert stream.response.read() == b""


def test_a_stream_ends_when_its_key_is_rotated(server, open_stream, instance):
    stream = started(open_stream(instance.name, apikey=instance.token))
    server.post(server.path("/instance/rotateToken", instance), {})

    assert stream.response.read().replace(b": alive\n\n", b"").strip() == b""


def test_open_streams_do_not_delay_a_shutdown(fresh_server):
    server = fresh_server()
    instance = server.create()
    streams = [started(Stream(server, instance.name, apikey=instance.token)) for _ in range(3)]

    server.stop()
    for stream in streams:
        stream.response.read()
        stream.close()
    assert server.process.returncode in (0, -15)
