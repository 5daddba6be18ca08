"""A server delivers to receivers with unusual answers: an event is taken once, and errors say what to do."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

pytestmark = pytest.mark.any_database


class RawReceiver:
    """Answers each request with the bytes of `answer`, and notes its first line and whether it has headers of ours."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._respond, args=(connection,), daemon=True).start()

    def _respond(self, connection):
        with connection, connection.makefile("rb") as received, suppress(OSError):
            while first := received.readline().decode().strip():
                lines = iter(lambda: received.readline().decode().strip().lower(), "")
                headers = dict(line.split(": ", 1) for line in lines)
                received.read(int(headers.get("content-length", 0)))
                self.requests.append((first, headers))
                connection.sendall(self.answer(first) if callable(self.answer) else self.answer)


@pytest.fixture
def receive():
    """Start receivers."""
    started = []

    def start(answer):
        started.append(RawReceiver(answer))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def delivering(start_server):
    return start_server(WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="1")


def add(server, instance, url, **options):
    fields = {"url": url, "events": ["CALL"], "headers": {"X-Key": "secret-key"}} | options
    response = server.post(server.path("/webhook/endpoints", instance), fields, key=instance.token)
    assert response.status == 201, response.body
    return response.json


def publish(server, instance):
    event = {"event": "call", "data": {"id": "1"}}
    assert server.post(server.path("/event/publish", instance), event, key=instance.token).status == 201


def delivery(server, instance, is_done=lambda found: found["state"] != "pending"):
    """Return an instance's delivery with its attempts, once it is done."""
    path = server.path("/webhook/deliveries", instance)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := server.get(path, key=instance.token).json["deliveries"]:
            one = server.get(f"{path}/{found[0]['id']}", key=instance.token).json
            if is_done(one):
                return one
        time.sleep(0.1)
    raise AssertionError(one)


def test_a_204_with_a_body_is_delivered_at_once(delivering, receive):
    receiver = receive(b'HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n{"ok": true}')
    instance = delivering.create()
    add(delivering, instance, f"{receiver.url}/in")
    publish(delivering, instance)

    found = delivery(delivering, instance)
    assert (found["state"], len(receiver.requests)) == ("delivered", 1)
    assert [(attempt["status"], attempt["error"]) for attempt in found["tries"]] == [(204, None)]


def scripts(first):
    """Answer as Google Apps Script does: it runs at the POST, and redirects to the page of its output."""
    if first.startswith("POST"):
        return b"HTTP/1.1 302 Found\r\nLocation: /macros/echo?key=a%2Fb\r\nContent-Length: 0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nprivate page"


def test_a_redirect_fails_and_its_text_names_the_option_that_follows_it(delivering, receive):
    receiver = receive(scripts)
    instance = delivering.create()
    endpoint = add(delivering, instance, f"{receiver.url}/exec")
    assert endpoint["followRedirects"] is False
    publish(delivering, instance)
    failed = delivery(delivering, instance, lambda found: found["tries"])
    assert "followRedirects" in failed["tries"][0]["error"]
    assert {first for first, _ in receiver.requests} == {"POST /exec HTTP/1.1"}

    path = f"{delivering.path('/webhook/endpoints', instance)}/{endpoint['id']}"
    changed = delivering.request("PATCH", path, {"followRedirects": True}, key=instance.token)
    assert changed.json["followRedirects"] is True
    found = delivery(delivering, instance)
    last = found["tries"][-1]
    assert (found["state"], last["status"], last["error"], last["excerpt"]) == ("delivered", 200, None, "")
    first, headers = receiver.requests[-1]
    assert first == "GET /macros/echo?key=a%2Fb HTTP/1.1"
    assert set(headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert "private page" not in str(found)


def test_by_events_keeps_the_query_of_the_url(delivering, receive):
    receiver = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    instance = delivering.create()
    add(delivering, instance, f"{receiver.url}/in/?token=x", byEvents=True)
    publish(delivering, instance)
    assert delivery(delivering, instance)["state"] == "delivered"
    assert [first for first, _ in receiver.requests] == ["POST /in/call?token=x HTTP/1.1"]
