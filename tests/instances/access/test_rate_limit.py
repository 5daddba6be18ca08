"""Rate limits: wrong keys count against an address, emitted events against a key; right keys are never limited."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest
from websockets.exceptions import ConnectionClosed

from instances.access import rate_limit
from instances.access.client_address import client_address
from instances.access.rate_limit import RateLimiter
from instances.models import Instance
from realtime.socketio import server as server_module
from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY, VERIFY_TOKEN
from tests.in_process import InProcessServer, until

pytestmark = pytest.mark.any_database


def test_a_full_bucket_is_spent_at_once_and_refilled_at_the_rate():
    limiter = RateLimiter(rate=4, burst=3)

    assert [limiter.allows("a") for _ in range(5)] == [True, True, True, False, False]
    time.sleep(0.5)
    assert [limiter.allows("a") for _ in range(3)] == [True, True, False]
    assert limiter.allows("b")


def test_a_refused_request_takes_no_token():
    limiter = RateLimiter(rate=4, burst=1)
    limiter.allows("a")
    for _ in range(100):
        limiter.allows("a")
    time.sleep(0.25)

    assert limiter.allows("a")


def test_the_number_of_buckets_is_limited(monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 3)
    limiter = RateLimiter(rate=0.001, burst=1)
    for subject in "abcd":
        limiter.allows(subject)

    assert limiter.allows("a"), "the least recently used bucket is dropped"
    assert not limiter.allows("d")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not a trusted proxy: its header may be invented
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", " , 198.51.100.1 ,", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:5678", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:5678", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "fe80::1%zone", "fe80::1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"),  # it says nothing of who came before
        ("10.0.0.1", "198.51.100.1" + ", 10.0.0.2" * 20, "10.0.0.2"),
    ],
)
def test_the_client_address_is_read_from_trusted_proxies_only(settings, peer, forwarded, address):
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]

    assert client_address(peer, forwarded) == address


def test_guesses_of_metas_verify_token_are_limited(client, db, monkeypatch):
    monkeypatch.setattr(rate_limit.failed_authentications, "burst", 1)
    monkeypatch.setattr(rate_limit.failed_authentications, "rate", 0)
    query = "/webhook/meta?hub.mode=subscribe&hub.challenge=1&hub.verify_token="
    address = {"REMOTE_ADDR": "192.0.2.3"}

    statuses = [client.get(query + token, **address).status_code for token in ("a", "b", VERIFY_TOKEN)]
    assert statuses == [403, 429, 200]


def is_disconnected(server, instance):
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


@pytest.mark.slow
@pytest.mark.bound("LIMIT_WRONG_KEYS")
@pytest.mark.bound("LIMIT_WRONG_KEYS_PER_SECOND")
def test_too_many_wrong_keys_get_429_for_their_address_alone_and_right_keys_pass(limited):
    instance = limited.create()
    path = limited.path("/instance/connectionState", instance)

    def status(key, address):
        return limited.get(path, key=key, headers={"X-Forwarded-For": address}).status

    until(lambda: status("wrong", "198.51.100.1") == 429, 100)
    assert status(instance.token, "198.51.100.1") == 200
    assert status("wrong", "198.51.100.2") == 401
    # a socket gets no CONNECT_ERROR, which would be final: it is disconnected, and may reconnect
    # (ten wrong keys a second are allowed again, so it takes a few attempts)
    until(lambda: is_disconnected(limited, instance), 100)
    raw = Raw(limited.url, additional_headers={"X-Forwarded-For": "198.51.100.1"})
    assert raw.join(f"/{instance.name}", {"apikey": instance.token})[0] == "0"
    raw.close()


@pytest.mark.bound("LIMIT_CLIENT_EVENTS")
@pytest.mark.bound("LIMIT_CLIENT_EVENTS_PER_SECOND")
def test_the_events_that_one_key_emits_are_limited(transactional_db, node, monkeypatch):
    monkeypatch.setattr(rate_limit.client_events, "rate", 0)
    monkeypatch.setattr(rate_limit.client_events, "burst", 3)
    for name in ("loja", "other"):
        instance = Instance(name=name, number="5511")
        instance.give_token(f"token of {name}")
        instance.integration = "WHATSAPP-BAILEYS"  # refuses every text at once
        instance.save()
    with InProcessServer() as running:
        busy, quiet = (
            node.connect(f"{running.url}/{name}", auth={"apikey": f"token of {name}"}).connected()
            for name in ("loja", "other")
        )

        text = {"text": "x", "number": "5511"}
        assert [busy.call("send_message", text)["status"] for _ in range(5)] == [400, 400, 400, 429, 429]
        assert quiet.call("send_message", text)["status"] == 400
        busy.disconnect()
        quiet.disconnect()


def test_the_namespaces_of_one_connection_are_limited(transactional_db, monkeypatch):
    monkeypatch.setattr(server_module, "NAMESPACES", 2)
    for number in range(3):
        Instance.objects.create(name=f"loja-{number}")
    auth = {"apikey": GLOBAL_KEY}
    with InProcessServer() as running:
        raw = Raw(running.url)
        assert raw.join("/no-such-instance", auth)[0] == "4", "a refused join does not count"
        assert [raw.join(f"/loja-{number}", auth)[0] for number in range(2)] == ["0", "0"]
        with pytest.raises(ConnectionClosed):
            raw.join("/loja-2", auth)
        raw.close()
        until(lambda: running.is_clean)
