"""Our own deliveries to an inbox: handed over inside the process, on a server that may not send to its own host."""

from __future__ import annotations

import pytest

from instances import bounds
from instances.outbound.webhook_secrets import new_secret
from tests.clients.staff import Staff
from tests.in_process import until
from tests.realtime.inbox.inboxes import Mine
from tests.server import Server, server_environment


@pytest.fixture(scope="module")
def environment(migrated, tmp_path_factory):
    """A database of this file's own: another server, on another port, might take a delivery and post it over HTTP."""
    with server_environment(migrated, tmp_path_factory.mktemp("inboxes")) as variables:
        yield variables


@pytest.fixture(scope="module")
def server(environment):
    """A server to which 127.0.0.1 is a private address like any other."""
    strict = Server(environment | {"WEBHOOK_ALLOWED_NETWORKS": "", "LIMIT_INBOX_POSTS_PER_MINUTE": "4"})
    strict.start()
    yield strict
    strict.stop()


@pytest.fixture
def inbox(server):
    return Mine(Staff(server, is_superuser=True))


def webhook(url: str, **members: object) -> dict[str, object]:
    return {"webhook": {"enabled": True, "url": url, "events": ["MESSAGES_UPSERT"]} | members}


def attempts(server, instance, count: int = 1) -> list[dict[str, object]]:
    """Return the attempts of an instance's deliveries, the oldest first, once there are so many."""

    def made() -> list[dict[str, object]]:
        found = server.get(f"/webhook/deliveries/{instance.name}", key=instance.token).json["deliveries"]
        rows = [server.get(f"/webhook/deliveries/{instance.name}/{each['id']}").json for each in reversed(found)]
        return [attempt for row in rows for attempt in row["tries"]]

    return until(lambda: len(found := made()) >= count and found, 20)


def test_a_delivery_to_an_inbox_is_an_attempt_like_any_other_and_its_signature_is_checked(server, inbox):
    instance = server.create()
    response = server.post(f"/webhook/set/{instance.name}", webhook(inbox.url, headers={"X-Shop": "7"}))
    assert (response.status, response.headers["X-Evoapi-Note"]) == (201, None)
    server.receive(instance, "Good morning")

    [attempt] = attempts(server, instance)
    assert (attempt["status"], attempt["error"]) == (200, None)
    [row] = inbox.wait(1)
    endpoint = int(server.get(f"/webhook/endpoints/{instance.name}").json[0]["id"])
    assert (row["title"], row["verdict"], row["address"]) == ("messages.upsert", "valid", "this server")
    assert row["reason"] == f"It fits the secret of endpoint {endpoint}"
    assert row["endpoint"] == {"id": endpoint, "url": f"/admin/instances/subscription/{endpoint}/change/"}
    detail = inbox.detail(row)
    assert '"conversation":"Good morning"' in detail["body"]
    headers = dict(detail["headers"])
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["X-Shop"] == "7"
    assert int(headers["Content-Length"]) == row["size"]
    # its own secret counts, whatever secret the inbox has for others
    inbox.staff.post(f"{inbox.page}secret/", {"secret": new_secret()})
    assert inbox.rows() == [row]


def test_each_event_may_have_a_path_of_its_own(server, inbox):
    instance = server.create()
    assert server.post(f"/webhook/set/{instance.name}", webhook(inbox.url, byEvents=True)).status == 201
    server.receive(instance)
    [row] = inbox.wait(1)
    assert row["path"] == "/messages-upsert"


def test_an_inbox_answers_our_deliveries_as_it_does_others(server, inbox):
    instance = server.create()
    server.post(f"/webhook/set/{instance.name}", webhook(inbox.url))
    server.receive(instance, "x" * bounds.INBOX_BYTES)
    [too_large] = attempts(server, instance)
    assert (too_large["status"], too_large["error"]) == (413, None)
    assert "65536 bytes" in too_large["excerpt"]

    statuses = [inbox.post().status for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    server.receive(instance, "one too many")
    assert attempts(server, instance, 2)[-1]["status"] == 429

    inbox.staff.post(f"{inbox.page}delete/")
    server.receive(instance, "to nobody")
    assert attempts(server, instance, 3)[-1]["status"] == 404


def test_only_an_inbox_is_exempt_from_the_guard(server, inbox):
    instance = server.create()
    wrong = [
        server.url,
        f"{server.url}/in",
        inbox.url.replace(f":{server.port}", f":{server.port + 1}"),
        inbox.url.replace("/inbox/", "/inbox/%2e%2e/"),
        inbox.url.replace("http://", "http://x@"),
    ]
    for url in wrong:
        assert server.post(f"/webhook/set/{instance.name}", webhook(url)).status == 400, url
        assert server.post(f"/webhook/endpoints/{instance.name}", {"url": url}).status == 400, url


def test_a_delivery_can_be_sent_again_to_an_inbox(server, inbox):
    instance = server.create()
    server.post(f"/webhook/set/{instance.name}", webhook("https://hook.invalid/in"))
    server.receive(instance, "Again")
    attempts(server, instance)
    secret = new_secret()
    again = {"url": inbox.url, "secret": secret, "state": ["pending", "dead"]}
    assert server.post(f"/webhook/deliveries/{instance.name}/resend", again).json["count"] == 1
    [row] = inbox.wait(1)
    assert (row["verdict"], row["endpoint"]) == ("valid", None)
    assert row["reason"] == "It fits the secret that was given to send it again"


@pytest.mark.slow
def test_the_operators_webhook_can_be_an_inbox(fresh_server):
    server = fresh_server(
        WEBHOOK_ALLOWED_NETWORKS="",
        SERVER_URL="http://evo.example.com",  # nothing answers there
        WEBHOOK_EVENTS_CALL="true",
        WEBHOOK_GLOBAL_SECRET=new_secret(),
    )
    inbox = Mine(Staff(server, is_superuser=True))
    server.stop()
    server.environment |= {"WEBHOOK_GLOBAL_ENABLED": "true", "WEBHOOK_GLOBAL_URL": inbox.url}
    server.start()
    instance = server.create()
    call = {"event": "call", "data": {}}
    assert server.post(f"/event/publish/{instance.name}", call).status == 201
    [row] = inbox.wait(1)
    assert (row["verdict"], row["reason"], row["endpoint"]) == (
        "valid",
        "It fits the secret WEBHOOK_GLOBAL_SECRET",
        None,
    )
