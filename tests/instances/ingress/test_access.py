"""Cached access at the ingress: a change of keys, tokens or audiences takes effect with the next request."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from instances.access.cache import AccessCache
from instances.models import ApiKey, Instance, Subscription
from tests.in_process import until
from tests.server import Number, Response, Server

in_process = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mine(db) -> Instance:
    return Instance.objects.create(name="mine", integration="EVOLUTION", number="1001")


def publish(server: Server, instance: Number, key: str) -> Response:
    return server.post(server.path("/event/publish", instance), {"event": "call", "data": 1}, key=key)


def test_a_rotated_token_takes_effect_at_once(server):
    instance = server.create()
    other = server.create()
    assert [publish(server, instance, key).status for key in (instance.token, other.token)] == [201, 401]

    rotated = server.post(server.path("/instance/rotateToken", instance), {}, key=instance.token)

    assert publish(server, instance, instance.token).status == 401
    assert publish(server, instance, rotated.json["hash"]).status == 201


def test_a_change_of_a_key_by_another_process_takes_effect(server):
    instance = server.create()
    made = server.shell(
        "from instances.models import ApiKey, Instance\n"
        "key, secret = ApiKey.objects.issue('a test', ['publish'])\n"
        f"key.instances.add(Instance.objects.get(name={instance.name!r}))\n"
        "print(key.pk, secret)\n"
    )
    pk, secret = made.split()
    for change, status in [
        ("key.instances.clear()", 401),
        (f"key.instances.add(Instance.objects.get(name={instance.name!r}))", 201),
        ("key.scopes = ['read']; key.save()", 403),
        ("key.scopes = ['publish']; key.save()", 201),
        ("key.revoke()", 401),
    ]:
        publish(server, instance, secret)
        find = f"from instances.models import ApiKey, Instance\nkey = ApiKey.objects.get(pk={pk})\n"
        server.shell(find + change)
        assert publish(server, instance, secret).status == status, change


def test_a_wrong_key_is_not_cached(server):
    instance = server.create()
    assert publish(server, instance, "a-token-to-come-0123").status == 401
    server.post(server.path("/instance/rotateToken", instance), {"token": "a-token-to-come-0123"}, key=instance.token)
    assert publish(server, instance, "a-token-to-come-0123").status == 201


def test_a_change_of_the_websocket_events_takes_effect_at_once(server):
    instance = server.create()

    def is_emitted() -> bool:
        seq = publish(server, instance, instance.token).json["events"][0]["seq"]
        found = server.get(server.path("/event/find", instance) + f"?after={seq - 1}").json["events"]
        return [event["seq"] for event in found] == [seq]

    assert is_emitted()
    for websocket, expected in [
        ({"enabled": False}, False),
        ({"enabled": True, "events": ["CALL"]}, True),
        ({"enabled": True, "events": ["QRCODE_UPDATED"]}, False),
    ]:
        server.post(server.path("/websocket/set", instance), {"websocket": websocket}, key=instance.token)
        assert is_emitted() == expected


@in_process
def test_hits_are_cached_until_access_changes(mine, django_assert_num_queries):
    key, secret = ApiKey.objects.issue("a test's", ["publish"])
    key.instances.add(mine)
    key.record_use()
    cache = AccessCache()

    def read() -> tuple[bool, bool]:
        cache.renew()
        access = cache.access(secret)
        return access is not None, access is not None and cache.opens(access, mine)

    assert read() == (True, True)
    with django_assert_num_queries(1):
        assert read() == (True, True)
    mine.connection_state = "connecting"
    mine.save()
    Subscription.set_websocket(mine, True, ["CALL"])
    assert read() == (True, True)
    key.revoke()
    assert read() == (False, False)


@in_process
def test_a_cached_key_expires(mine):
    _, secret = ApiKey.objects.issue("a test's", ["publish"], expires_at=timezone.now() + timedelta(seconds=1))
    cache = AccessCache()
    cache.renew()
    assert cache.access(secret)
    until(lambda: cache.access(secret) is None)
