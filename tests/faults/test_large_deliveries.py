"""Large events for many endpoints: what they cost in memory, and what the others notice of it."""

from __future__ import annotations

import json
import secrets
import threading
import time
from pathlib import Path

import pytest

from tests.environment import ON_POSTGRES
from tests.in_process import until
from tests.receiver import Receiver

#: Bytes of an event, events that are published at once, and endpoints that receive each.
SIZE, EVENTS, ENDPOINTS = 5_000_000, 3, 20
#: Bytes of memory that may be kept (libpq keeps a buffer of the largest row for each connection that read the log), and
#: copies of an event that recording it needs for a moment.
KEPT, COPIES = 90_000_000 if ON_POSTGRES else 50_000_000, 10
#: A URL that refuses connections.
AWAY = "http://127.0.0.1:9/in"
#: Prints the bytes of the database.
STORED = """
from django.db import connection
with connection.cursor() as cursor:
    if connection.vendor == "sqlite":
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    else:
        cursor.execute("SELECT pg_database_size(current_database())")
    print(cursor.fetchone()[0])
"""


def memory(server):
    """Return the server's memory now and at its peak, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return [int(status.split(f"{name}:")[1].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")]


@pytest.mark.slow
@pytest.mark.bound("LIMIT_ENDPOINTS")
def test_large_events_for_many_endpoints_are_held_once_and_delay_nobody(fresh_server):
    server = fresh_server(WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="600")

    def publish(instance, data):
        response = server.post(server.path("/event/publish", instance), {"event": "call", "data": data})
        assert response.status == 201

    with Receiver() as receiver:
        large, small = server.create(), server.create()
        for number in range(ENDPOINTS):
            body = {"url": f"{receiver.url}/{number}", "events": ["CALL"]}
            assert server.post(server.path("/webhook/endpoints", large), body).status == 201
        publish(small, "")
        before, _ = memory(server)
        stored = int(server.shell(STORED))

        data = secrets.token_hex(SIZE // 2)  # which PostgreSQL cannot compress
        threads = [threading.Thread(target=publish, args=(large, data)) for _ in range(EVENTS)]
        for thread in threads:
            thread.start()
        waits = []
        while len(receiver.requests) < EVENTS * ENDPOINTS:
            began = time.monotonic()
            publish(small, "")
            waits.append(time.monotonic() - began)
        for thread in threads:
            thread.join()

        # three small requests to resend all of them copy nothing
        deliveries = server.path("/webhook/deliveries", large)
        sent = [row["id"] for row in server.get(deliveries).json["deliveries"]]
        target = {"ids": sent, "url": AWAY, "secret": "whsec_" + "A" * 32}
        for _ in range(3):
            assert server.post(f"{deliveries}/resend", target).json["count"] == EVENTS * ENDPOINTS

        assert memory(server)[1] - before < KEPT + COPIES * EVENTS * SIZE
        assert until(lambda: memory(server)[0] - before < KEPT, 5)
        assert max(waits) < 2
        # each once in the log, and once for all deliveries
        assert int(server.shell(STORED)) - stored < 3 * EVENTS * SIZE
        destinations = [json.loads(request.body)["destination"] for request in receiver.requests]
        assert {destinations.count(f"{receiver.url}/{number}") for number in range(ENDPOINTS)} == {EVENTS}
