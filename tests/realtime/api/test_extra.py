"""`isLatest` and `progress` of messages.set: first in the envelope, on every transport, and nowhere else."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from instances.events import check_extra, event_occurred
from instances.models import Instance
from realtime.delivery.transports.rabbitmq import RabbitMQ
from realtime.envelope import members
from realtime.log.models import Event
from tests.in_process import until
from tests.receiver import Receiver
from tests.server import Number, Response, Server

pytestmark = pytest.mark.any_database

EXTRA = {"isLatest": False, "progress": 40}
FIRST = ["isLatest", "progress", "event", "instance", "data"]


@pytest.fixture(scope="module")
def instance(server: Server) -> Number:
    return server.create()


def publish(server: Server, instance: Number, extra: Any, event: str = "messages.set") -> Response:
    body = {"event": event, "data": [], "extra": extra}
    return server.post(server.path("/event/publish", instance), body, key=instance.token)


def test_every_subscriber_has_them_before_the_event(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    stream.request("GET", server.path("/event/stream", instance), headers={"apikey": instance.token})
    lines = stream.getresponse()
    with Receiver() as receiver:
        settings = {"webhook": {"enabled": True, "url": receiver.url, "events": ["MESSAGES_SET"]}}
        assert server.post(server.path("/webhook/set", instance), settings).status == 201

        # its members stand in Evolution API's order, however they were sent
        assert publish(server, instance, {"progress": 40, "isLatest": False}).status == 201

        received = [client.event("messages.set")]
        while not (line := lines.readline()).startswith(b'data: {"isLatest'):
            assert line, "the stream has ended"
        received.append(json.loads(line.removeprefix(b"data: ")))
        until(lambda: receiver.requests)
        received.append(receiver.requests[0].json)
    stream.close()
    [found] = server.get(server.path("/event/find", instance) + "?type=messages.set").json["events"]
    for envelope in [*received, found]:
        assert list(envelope)[:5] == FIRST
        assert (envelope["isLatest"], envelope["progress"], envelope["event"]) == (False, 40, "messages.set")


def test_one_that_is_unknown_is_absent(server, instance):
    for extra in ({"progress": 0, "isLatest": None}, {"progress": 100}, {}, None):
        assert publish(server, instance, extra).status == 201
    events = server.get(server.path("/event/find", instance) + "?type=messages.set&limit=4").json["events"]
    assert [next(iter(event)) for event in events] == ["progress", "progress", "event", "event"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"progress": True}, "extra.progress is not of a type(s) integer"),
        ({"progress": "40"}, "extra.progress is not of a type(s) integer"),
        ({"progress": 101}, "extra.progress must be less than or equal to 100"),
        ({"isLatest": 1}, "extra.isLatest is not of a type(s) boolean"),
        ([], "extra is not of a type(s) object"),
        (EXTRA | {"event": "call"}, 'There is no member "event"'),
        (EXTRA | {"data": {}}, 'There is no member "data"'),
        (EXTRA | {"instance": "other"}, 'There is no member "instance"'),
    ],
)
def test_nothing_else_is_taken(server, instance, extra, message):
    response = publish(server, instance, extra)
    assert response.status == 400
    [[sentence]] = response.json["response"]["message"]
    assert sentence.startswith(message)


def test_other_events_have_none(server, instance):
    for event in ("messages.upsert", "messaging-history.set"):
        response = publish(server, instance, EXTRA, event)
        assert (response.status, response.json["response"]["message"]) == (400, [["extra is for messages.set alone"]])


@pytest.mark.django_db
def test_the_signal_takes_them_and_refuses_all_else():
    loja = Instance.objects.create(name="loja")

    event_occurred.send(sender=None, instance=loja, event_type="messages.set", data=[], extra=EXTRA)

    envelope = bytes(Event.objects.get(type="messages.set").envelope)
    assert list(json.loads(envelope))[:5] == FIRST
    assert list(json.loads(RabbitMQ().body(members(envelope)).data))[:5] == FIRST
    for event_type, extra in (("call", EXTRA), ("messages.set", {"event": "call"}), ("messages.set", {"progress": -1})):
        with pytest.raises(ValueError, match="extra"):
            event_occurred.send(sender=None, instance=loja, event_type=event_type, data=[], extra=extra)


def test_an_extra_without_known_members_is_none():
    assert [check_extra("call", extra) for extra in (None, {})] == [{}, {}]
