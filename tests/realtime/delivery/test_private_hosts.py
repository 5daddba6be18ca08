"""A webhook to a host of a private network: its owner, the log and the attempt say what has to be set."""

from __future__ import annotations

import socket

import pytest

from tests.in_process import until
from tests.server import Server

pytestmark = pytest.mark.any_database

CURE = "the operator can allow its network by WEBHOOK_ALLOWED_NETWORKS, such as 172.16.0.0/12 for containers of Docker"


@pytest.fixture
def strict(start_server) -> Server:
    return start_server(WEBHOOK_ALLOWED_NETWORKS="")


def webhook(url: str, **members: object) -> dict[str, object]:
    return {"webhook": {"enabled": True, "url": url, "events": ["CALL"]} | members}


def test_a_host_without_a_dot_is_set_with_a_note(strict):
    instance = strict.create()
    response = strict.post(f"/webhook/set/{instance.name}", webhook("http://n8n:5678/webhook/x"), key=instance.token)
    assert response.status == 201
    note = f"n8n looks like a host of a private network, to which nothing is sent: {CURE}"
    assert response.headers["X-Evoapi-Note"] == note
    endpoint = {"url": "http://n8n:5678/", "events": []}
    response = strict.post(f"/webhook/endpoints/{instance.name}", endpoint, key=instance.token)
    assert (response.status, response.headers["X-Evoapi-Note"]) == (201, note)
    url = {"url": "https://hook.example.com/"}
    changed = strict.request("PATCH", f"/webhook/endpoints/{instance.name}/{response.json['id']}", url)
    assert (changed.status, changed.headers["X-Evoapi-Note"]) == (200, None)


def test_a_host_that_may_be_allowed_is_set_without_a_note(server):
    instance = server.create()
    response = server.post(f"/webhook/set/{instance.name}", webhook("http://n8n:5678/"), key=instance.token)
    assert (response.status, response.headers["X-Evoapi-Note"]) == (201, None)


@pytest.mark.parametrize("host", ["n8n.local", "host.docker.internal", "10.0.0.7"])
def test_a_host_that_is_private_for_certain_is_refused_with_the_cure(strict, host):
    instance = strict.create()
    response = strict.post(f"/webhook/set/{instance.name}", webhook(f"http://{host}/"), key=instance.token)
    assert response.status == 400
    assert CURE in str(response.json)


def test_the_log_and_the_attempt_say_what_to_set_and_the_log_once(strict):
    """The machine's own name stands for one that the names of containers resolve like."""
    host = socket.gethostname()
    if "." in host or not _resolves(host):
        pytest.skip("This machine's name has a dot, or no address")
    instance = strict.create()
    strict.post(f"/webhook/set/{instance.name}", webhook(f"http://{host}:5678/webhook/x"), key=instance.token)
    for _ in range(2):
        event = {"event": "call", "data": {}}
        assert strict.post(strict.path("/event/publish", instance), event, key=instance.token).status == 201

    def attempts() -> list[dict[str, object]]:
        deliveries = strict.get(f"/webhook/deliveries/{instance.name}", key=instance.token).json["deliveries"]
        found = [strict.get(f"/webhook/deliveries/{instance.name}/{each['id']}") for each in deliveries]
        return [attempt for each in found for attempt in each.json["tries"]]

    until(lambda: len(attempts()) >= 2, 20)
    error = f"The URL leads to an address that is not public: {CURE}"
    assert {attempt["error"] for attempt in attempts()} == {error}
    lines = [line for line in strict.log.read_text().splitlines() if "An attempt of endpoint" in line]
    assert len(lines) == 1
    assert error in lines[0]


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, 5678))
    except OSError:
        return False
