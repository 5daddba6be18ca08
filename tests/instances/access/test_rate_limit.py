"""Limits: wrong keys count against an address, what is emitted against a key, and right keys are never held up."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from websockets.exceptions import ConnectionClosed

from instances.access import rate_limit
from instances.access.client_address import client_address
from instances.access.rate_limit import RateLimiter
from instances.models import Instance
from realtime.fanout import namespaces as namespaces_module
from realtime.socketio import server as server_module
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.inside import InProcessServer, until

pytestmark = pytest.mark.any_database


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_burst_passes_and_then_the_rate(clock):
    throttle = RateLimiter(rate=2, burst=3)

    assert [throttle.allows("a") for _ in range(5)] == [True, True, True, False, False]
    clock.now += 1
    assert [throttle.allows("a") for _ in range(3)] == [True, True, False]
    assert throttle.allows("b")


def test_what_is_refused_is_not_counted_as_well(clock):
    throttle = RateLimiter(rate=1, burst=1)
    throttle.allows("a")
    for _ in range(100):
        throttle.allows("a")
    clock.now += 1

    assert throttle.allows("a")


def test_only_so_many_are_remembered(clock, monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_REMEMBERED", 3)
    throttle = RateLimiter(rate=1, burst=1)
    for who in "abcd":
        throttle.allows(who)

    assert throttle.allows("a"), "the one not seen for longest is forgotten"
    assert not throttle.allows("d")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: what it says is its own invention
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", " , 198.51.100.1 ,", "198.51.100.1"),
    ],
)
def test_an_address_is_what_trusted_proxies_say(settings, peer, forwarded, address):
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]

    assert client_address(peer, forwarded) == address


def is_let_go(server, instance):
    raw = Raw(server.url, additional_headers={"X-Forwarded-For": "198.51.100.1"})
    try:
        assert raw.join(f"/{instance.name}", {"apikey": "wrong"}) == ("4", {"message": "Unauthorized"})
    except ConnectionClosed:
        return True
    finally:
        raw.close()
    return False


@pytest.fixture
def limited(fresh_server):
    return fresh_server(TRUSTED_PROXIES="127.0.0.1")


def test_wrong_keys_end_in_429_for_their_address_alone_and_right_ones_pass(limited):
    instance = limited.create()
    path = limited.path("/instance/connectionState", instance)

    def status(key, address):
        return limited.get(path, key=key, headers={"X-Forwarded-For": address}).status

    until(lambda: status("wrong", "198.51.100.1") == 429, 100)
    assert status(instance.token, "198.51.100.1") == 200
    assert status("wrong", "198.51.100.2") == 401
    # a socket is neither refused for good nor let in: it may come back
    # (ten more wrong keys a second are, so it takes a few)
    until(lambda: is_let_go(limited, instance), 100)
    raw = Raw(limited.url, additional_headers={"X-Forwarded-For": "198.51.100.1"})
    assert raw.join(f"/{instance.name}", {"apikey": instance.token})[0] == "0"
    raw.close()


def test_what_one_key_emits_is_limited(transactional_db, node, monkeypatch):
    monkeypatch.setattr(namespaces_module, "client_events", RateLimiter(rate=0, burst=3))
    for name in ("loja", "other"):
        instance = Instance(name=name, number="5511")
        instance.give_token(f"token of {name}")
        instance.integration = "WHATSAPP-BAILEYS"  # refuses each text, and quickly
        instance.save()
    with InProcessServer() as inside:
        busy, quiet = (
            node.connect(f"{inside.url}/{name}", auth={"apikey": f"token of {name}"}).connected()
            for name in ("loja", "other")
        )

        text = {"text": "x", "number": "5511"}
        assert [busy.call("send_message", text)["status"] for _ in range(5)] == [400, 400, 400, 429, 429]
        assert quiet.call("send_message", text)["status"] == 400
        busy.disconnect()
        quiet.disconnect()


def test_a_connection_is_in_so_many_namespaces_at_most(transactional_db, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_NAMESPACES", 2)
    for number in range(3):
        Instance.objects.create(name=f"loja-{number}")
    auth = {"apikey": GLOBAL_KEY}
    with InProcessServer() as inside:
        raw = Raw(inside.url)
        assert raw.join("/no-such-instance", auth)[0] == "4", "a refusal does not count"
        assert [raw.join(f"/loja-{number}", auth)[0] for number in range(2)] == ["0", "0"]
        with pytest.raises(ConnectionClosed):
            raw.join("/loja-2", auth)
        raw.close()
        until(lambda: inside.is_clean)
