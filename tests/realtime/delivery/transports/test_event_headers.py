"""The headers X-Instance-ID, X-Instance-Name, X-Event-Type and X-Timestamp of webhooks."""

from __future__ import annotations

import pytest

from realtime.delivery.payload import Payload
from realtime.delivery.transports.event_headers import as_header, event_headers
from tests.in_process import until
from tests.realtime.delivery.transports.raw_receiver import INSTANCE_ID, endpoint, outgoing
from tests.receiver import Receiver, Request
from tests.server import Server

pytestmark = pytest.mark.any_database

DATE = b',"date_time":"2025-11-24T11:40:27.512Z","apikey":null,"id":"e.8","seq":8}'
#: The same time in milliseconds.
TIME = "1763984427512"


def four(request: Request) -> tuple[str, ...]:
    names = ("X-Instance-ID", "X-Instance-Name", "X-Event-Type", "X-Timestamp")
    return tuple(request.headers[name] for name in names)


@pytest.mark.parametrize(
    ("name", "header"),
    [("loja 1%2F", "loja 1%2F"), ("São José", "S%C3%A3o Jos%C3%A9"), ("日本🏪", "%E6%97%A5%E6%9C%AC%F0%9F%8F%AA")],
)
def test_what_is_not_ascii_is_percent_encoded(name, header):
    assert as_header(name) == header


@pytest.mark.parametrize(
    "parts",
    [
        (b'{"event":"call","data":1', b',"destination":"https://a.example"', DATE),
        (b'{"data":{"x":1,"date_time":"2001-01-01T00:00:00.000Z"}', DATE),
        (b'{"data":"' + b"x" * 100_000, b'"', DATE[:20], DATE[20:]),
    ],
)
def test_the_time_is_that_of_the_events_body(parts):
    assert event_headers(INSTANCE_ID, "loja", "call", Payload(*parts))["X-Timestamp"] == TIME


@pytest.mark.parametrize("body", [b"{}", b"", b'{"a":1,"date_time":"2025-99-99T00:00:00.000Z","id":"e.1"}'])
def test_a_body_without_a_time_has_no_such_header(body):
    headers = event_headers(INSTANCE_ID, "loja", "call", Payload(body))
    assert list(headers) == ["X-Instance-ID", "X-Instance-Name", "X-Event-Type"]


async def test_stored_headers_of_these_names_are_not_sent(webhook, receiver):
    stored = {
        "x-instance-id": "mine",
        "X-INSTANCE-NAME": "mine",
        "X-Event-Type": "mine",
        "x-timestamp": "1",
        "X-Own": "o",
    }
    message = outgoing(b'{"data":1' + DATE, type="call", name="日本")

    await webhook.send(message, endpoint(receiver.url, secrets={"headers": stored}))

    fields = [(name.lower(), value) for name, value in receiver.requests[0].fields]
    assert sorted(field for field in fields if field[0].startswith("x-")) == [
        ("x-event-type", "call"),
        ("x-instance-id", INSTANCE_ID),
        ("x-instance-name", "%E6%97%A5%E6%9C%AC"),
        ("x-own", "o"),
        ("x-timestamp", TIME),
    ]


def test_attempts_and_resendings_have_the_same_and_a_deleted_instance_has_them(start_server):
    with Receiver(lambda request: 200 if len(hooks.requests) > 1 else 503) as hooks, Receiver() as everyones:
        server: Server = start_server(
            WEBHOOK_GLOBAL_ENABLED="true",
            WEBHOOK_GLOBAL_URL=everyones.url,
            WEBHOOK_EVENTS_CALL="true",
            WEBHOOK_EVENTS_REMOVE_INSTANCE="true",
            WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="0.05",
        )
        instance = server.create(name="São José")
        settings = {"webhook": {"enabled": True, "url": hooks.url, "events": ["CALL", "REMOVE_INSTANCE"]}}
        assert server.post(server.path("/webhook/set", instance), settings).status == 201
        server.post(server.path("/event/publish", instance), {"event": "call", "data": {}})
        until(lambda: len(hooks.requests) == 2 and everyones.requests)
        deliveries = server.path("/webhook/deliveries", instance)
        rows = server.get(f"{deliveries}?type=call").json["deliveries"]
        [row] = [row for row in rows if row["destination"] == hooks.url]
        shown = server.get(f"{deliveries}/{row['id']}").json["request"]["headers"]
        assert server.post(f"{deliveries}/{row['id']}/resend").status == 201
        until(lambda: len(hooks.requests) == 3)

        found = {four(request) for request in [*hooks.requests, *everyones.requests]}
        [(id_, name, event, timestamp)] = found
        assert (id_, name, event) == (instance.id, "S%C3%A3o Jos%C3%A9", "call")
        assert len({request.body for request in hooks.requests}) == 1
        assert (shown["X-Instance-ID"], shown["X-Timestamp"]) == (instance.id, timestamp)

        server.request("DELETE", server.path("/instance/delete", instance))
        until(lambda: len(hooks.requests) == 4 and len(everyones.requests) == 2)
        for receiver in (hooks, everyones):
            assert four(receiver.requests[-1])[:3] == (instance.id, name, "remove.instance")
