"""The brokers that this server does not have: answered as by an Evolution API where they are switched off."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server import Server

pytestmark = pytest.mark.any_database

SETTINGS = {"enabled": True, "events": ["MESSAGES_UPSERT", "GROUP_UPDATE"]}
PUSHER = {"appId": "1", "key": "k", "secret": "very-secret", "cluster": "eu", "useTLS": True}
BODIES: dict[str, dict[str, Any]] = dict.fromkeys(("nats", "sqs", "kafka"), SETTINGS) | {"pusher": SETTINGS | PUSHER}


@pytest.fixture(scope="module")
def instance(server):
    return server.create()


@pytest.mark.parametrize("broker", BODIES)
def test_a_broker_that_is_not_here_takes_settings_and_has_none(server: Server, instance, broker: str):
    path = server.path(f"/{broker}/set", instance)
    for body in ({broker: BODIES[broker]}, BODIES[broker], {broker: BODIES[broker] | {"enabled": False, "events": []}}):
        response = server.post(path, body, key=instance.token)
        assert (response.status, response.body) == (201, b"")
        assert response.headers["Content-Type"] == "application/json"
        assert "nothing is stored" in response.headers["X-Evoapi-Note"]
    response = server.get(server.path(f"/{broker}/find", instance), key=instance.token)
    assert (response.status, response.body) == (200, b"")
    assert server.post(path, {broker: BODIES[broker]}, key=None).status == 401
    assert server.post(server.path(f"/{broker}/set", "nobody"), {}).status == 404


@pytest.mark.parametrize("broker", BODIES)
def test_settings_that_are_not_well_formed_are_refused(server: Server, instance, broker: str):
    def message(body: Any) -> Any:
        response = server.post(server.path(f"/{broker}/set", instance), body)
        assert response.status == 400
        [messages] = response.json["response"]["message"]
        return messages

    assert message({}) == [f'instance requires property "{broker}"']
    assert f'{broker} requires property "enabled"' in message({broker: {}})
    assert message({broker: BODIES[broker] | {"enabled": "yes"}}) == [f"{broker}.enabled is not of a type(s) boolean"]
    wrong = message({broker: BODIES[broker] | {"events": ["NOPE"]}})
    assert wrong[0].startswith(f"{broker}.events[0] is not one of enum values: APPLICATION_STARTUP,")


def test_pusher_requires_its_own_members(server: Server, instance):
    response = server.post(server.path("/pusher/set", instance), {"pusher": SETTINGS})
    assert response.json["response"]["message"] == [[f'pusher requires property "{name}"' for name in PUSHER]]
    response = server.post(server.path("/pusher/set", instance), {"pusher": SETTINGS | PUSHER | {"key": 1}})
    assert response.json["response"]["message"] == [["pusher.key is not of a type(s) string"]]
    assert "very-secret" not in server.log.read_text()
