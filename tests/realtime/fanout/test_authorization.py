"""Joining a namespace with the stock client: the keys that may, and the refusals."""

from __future__ import annotations

import itertools
import json
import secrets
import unicodedata
from urllib.parse import quote

import pytest

from tests.clients.polling import Polling
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

JOINED = "connect"
INVALID = "Invalid namespace"
UNAUTHORIZED = "Unauthorized"

ISSUE = """
import json
from datetime import timedelta
from django.utils import timezone
from instances.models import ApiKey, Instance

def issue(scopes, *names, **fields):
    key, secret = ApiKey.objects.issue("a test", scopes, **fields)
    key.instances.set(Instance.objects.filter(name__in=names))
    return secret

now, hour = timezone.now(), timedelta(hours=1)
own, foreign = {own!r}, {foreign!r}
print(json.dumps({{
    "listen, own": issue(["listen"], own),
    "listen, own, for an hour": issue(["listen"], own, expires_at=now + hour),
    "listen, foreign": issue(["listen"], foreign),
    "listen, own and foreign": issue(["listen"], own, foreign),
    "listen, all": issue(["listen"], all_instances=True),
    "listen, none": issue(["listen"]),
    "all but listen, own": issue(["read", "send", "publish", "manage"], own),
    "all but listen, all": issue(["read", "send", "publish", "manage"], all_instances=True),
    "expired, own": issue(["listen"], own, expires_at=now - hour),
    "expired, all": issue(["listen"], all_instances=True, expires_at=now - hour),
    "revoked, own": issue(["listen"], own, revoked_at=now),
    "revoked, all": issue(["listen"], all_instances=True, revoked_at=now),
}}))
"""

#: The outcome for each key: in the namespace of its own instance, of a foreign one, of none, and in `/`.
OUTCOMES = {
    "global": (JOINED, JOINED, INVALID, JOINED),
    "own token": (JOINED, INVALID, INVALID, INVALID),
    "listen, own": (JOINED, INVALID, INVALID, INVALID),
    "listen, own, for an hour": (JOINED, INVALID, INVALID, INVALID),
    "listen, foreign": (INVALID, JOINED, INVALID, INVALID),
    "listen, own and foreign": (JOINED, JOINED, INVALID, INVALID),
    "listen, all": (JOINED, JOINED, INVALID, JOINED),
    "listen, none": (INVALID, INVALID, INVALID, INVALID),
    "all but listen, own": (INVALID, INVALID, INVALID, INVALID),
    "all but listen, all": (INVALID, INVALID, INVALID, INVALID),
    "expired, own": (UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED),
    "expired, all": (UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED),
    "revoked, own": (UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED),
    "revoked, all": (UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED),
    "wrong": (UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED, UNAUTHORIZED),
}

#: Values of `auth` without a valid key.
INVALID_AUTHS = {
    "nothing": {},
    "null": {"apikey": None},
    "an empty text": {"apikey": ""},
    "a space": {"apikey": " "},
    "a number": {"apikey": 12345},
    "true": {"apikey": True},
    "a list": {"apikey": [GLOBAL_KEY]},
    "an object": {"apikey": {"apikey": GLOBAL_KEY}},
    "the key with a space": {"apikey": GLOBAL_KEY + " "},
    "the key in capitals": {"apikey": GLOBAL_KEY.upper()},
    "a part of the key": {"apikey": GLOBAL_KEY[:-1]},
    "the key in another spelling": {"apiKey": GLOBAL_KEY},
    "Evolution's published key": {"apikey": "BQYHJGJHJ"},
    "NUL": {"apikey": "\x00"},
    "half an emoji": {"apikey": "\ud83d"},
    "a long text": {"apikey": "k" * 100_000},
}

#: Sources of a key, as options of the stock client.
SOURCES = {
    "auth.apikey": lambda key: {"auth": {"apikey": key}},
    "query": lambda key: {"query": {"apikey": key}},
    "header": lambda key: {"extraHeaders": {"apikey": key}},
}

NAMES = [
    "loja centro",
    "São Paulo - ação nº 1",
    "日本語",
    "🚀 emoji 👩‍👩‍👧",
    "100%",
    "my%20inst",
    "a+b",
    "50-off",
    "1-2-3",
    "007",
    "name.with_dots-and-dashes",
    "a&apikey=b;c",
    "a:b@c",
    "(a) {b} [c",
    "<script>'\"",
    '{"sid":"x"}',
    "~!$()*=^`|",
    "n" * 255,
]


def merged(*options):
    """Merge the options of several sources."""
    result = {}
    for name, value in itertools.chain.from_iterable(option.items() for option in options):
        result[name] = result.get(name, {}) | value
    return result


@pytest.fixture(scope="module")
def own(server):
    return server.create()


@pytest.fixture(scope="module")
def foreign(server):
    return server.create()


@pytest.fixture(scope="module")
def keys(server, own, foreign):
    issued = json.loads(server.shell(ISSUE.format(own=own.name, foreign=foreign.name)))
    return issued | {"global": GLOBAL_KEY, "own token": own.token, "wrong": "not-a-key-at-all"}


@pytest.mark.parametrize("namespace", ["own", "foreign", "unknown", "/"])
@pytest.mark.parametrize("key", OUTCOMES)
def test_a_key_opens_the_namespaces_of_its_own_instances(server, node, own, foreign, keys, key, namespace):
    names = {"own": own.name, "foreign": foreign.name, "unknown": "no-such-instance", "/": ""}
    expected = dict(zip(names, OUTCOMES[key], strict=True))[namespace]

    client = node.connect(f"{server.url}/{names[namespace]}", auth={"apikey": keys[key]})

    assert client.outcome() == expected
    client.disconnect()


@pytest.mark.parametrize("namespace", ["own", "unknown", "/"])
@pytest.mark.parametrize("auth", INVALID_AUTHS.values(), ids=INVALID_AUTHS)
def test_every_invalid_auth_gets_the_same_refusal(server, node, own, auth, namespace):
    name = {"own": own.name, "unknown": "no-such-instance", "/": ""}[namespace]

    client = node.connect(f"{server.url}/{name}", auth=auth)

    refusal = client.wait_for("connect_error")
    assert (refusal["message"], refusal.get("data"), refusal["active"]) == (UNAUTHORIZED, None, False)


@pytest.mark.parametrize("auth", [[], [GLOBAL_KEY], 5, True, "wrong"], ids=str)
def test_an_auth_that_is_not_an_object_is_refused(server, own, auth):
    client = Polling(server.url)

    client.post(f"40/{own.name},{json.dumps(auth)}")

    assert client.poll() == [f'44/{own.name},{{"message":"Unauthorized"}}']


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
@pytest.mark.parametrize("source", SOURCES)
def test_a_key_may_come_from_three_sources(server, node, own, source, transports):
    namespace = f"{server.url}/{own.name}"

    good = node.connect(namespace, transports=transports, **SOURCES[source](own.token))
    bad = node.connect(namespace, transports=transports, **SOURCES[source]("wrong"))

    assert (good.outcome(), bad.outcome()) == (JOINED, UNAUTHORIZED)
    good.disconnect()


def test_a_key_is_no_minted_token_and_a_token_no_key(server, node, own):
    minted = server.post(server.path("/websocket/token", own), {}, key=own.token).json["token"]
    namespace = f"{server.url}/{own.name}"

    assert node.connect(namespace, auth={"token": minted}).outcome() == JOINED
    assert node.connect(namespace, auth={"token": own.token}).outcome() == UNAUTHORIZED
    assert node.connect(namespace, auth={"apikey": minted}).outcome() == UNAUTHORIZED
    assert node.connect(namespace, auth={"apikey": own.token, "token": "wrong"}).outcome() == UNAUTHORIZED


def test_a_key_may_be_in_the_query_of_the_namespaces_url(server, node, own):
    assert node.connect(f"{server.url}/{own.name}?apikey={own.token}").outcome() == JOINED
    assert node.connect(f"{server.url}/{own.name}?apikey={own.token}", transports=["websocket"]).outcome() == JOINED
    assert node.connect(f"{server.url}/{own.name}?apikey=wrong").outcome() == UNAUTHORIZED
    assert node.connect(f"{server.url}/{own.name}?apikey=").outcome() == UNAUTHORIZED


@pytest.mark.parametrize("bad", ["wrong", ""])
@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(SOURCES, 2)])
def test_an_invalid_key_beside_a_valid_one_is_refused(server, node, own, first, second, bad):
    options = merged(SOURCES[first](own.token), SOURCES[second](bad))

    assert node.connect(f"{server.url}/{own.name}", **options).outcome() == UNAUTHORIZED


@pytest.mark.parametrize("bad", [None, 5, [], {}], ids=str)
@pytest.mark.parametrize("good", ["query", "header"])
def test_an_auth_key_that_is_not_a_string_beside_a_valid_key_is_refused(server, node, own, good, bad):
    options = SOURCES[good](own.token) | {"auth": {"apikey": bad}}

    assert node.connect(f"{server.url}/{own.name}", **options).outcome() == UNAUTHORIZED


def test_several_valid_keys_open_the_namespaces_that_each_of_them_opens(server, node, own, foreign, keys):
    def outcome(name, first, second):
        options = merged(SOURCES["query"](keys[first]), SOURCES["auth.apikey"](keys[second]))
        return node.connect(f"{server.url}/{name}", **options).outcome()

    assert outcome(own.name, "global", "own token") == JOINED
    assert outcome(foreign.name, "global", "own token") == INVALID
    assert outcome("", "global", "own token") == INVALID
    assert outcome("", "global", "listen, all") == JOINED
    assert outcome(own.name, "own token", "listen, foreign") == INVALID
    assert outcome(own.name, "own token", "all but listen, own") == INVALID
    assert outcome(own.name, "own token", "expired, own") == UNAUTHORIZED


@pytest.mark.parametrize("second", ["wrong", ""])
def test_a_key_given_twice_in_the_query_must_be_valid_twice(server, own, second):
    client = Polling(server.url, apikey=[own.token, own.token])
    client.join(f"/{own.name}")

    client = Polling(server.url, apikey=[own.token, second])
    client.post(f"40/{own.name},")
    assert client.poll() == [f'44/{own.name},{{"message":"Unauthorized"}}']


def test_a_header_that_is_not_utf_8_beside_a_valid_key_is_refused(server, own):
    client = Polling(server.url, headers={"apikey": b"\xff\xfe"}, apikey=own.token)

    client.post(f"40/{own.name},")

    assert client.poll() == [f'44/{own.name},{{"message":"Unauthorized"}}']


@pytest.mark.parametrize("name", NAMES)
def test_a_namespace_is_the_instances_name_unescaped(server, node, name):
    name = f"{name[:-8]}{secrets.token_hex(4)}" if len(name) == 255 else f"{name} {secrets.token_hex(2)}"
    instance = server.create(name)
    websocket = node.connect(f"{server.url}/{name}", auth={"apikey": instance.token}, transports=["websocket"])
    polling = node.connect(f"{server.url}/{name}", query={"apikey": instance.token}, transports=["polling"])
    for client in (websocket, polling):
        client.connected()

    server.receive(instance, name)

    for client in (websocket, polling):
        event = client.event("messages.upsert")
        assert (event["instance"], event["data"]["message"]["conversation"]) == (name, name)
        client.disconnect()


def test_names_that_differ_at_all_are_other_namespaces(server, node):
    name = f"Café 100% {secrets.token_hex(4)}"
    instance = server.create(name)
    others = [name.lower(), name.upper(), name.replace(" ", "%20"), name.replace(" ", "+"), name + " ", name + "."]
    others += [unicodedata.normalize("NFD", name), quote(name), f"/{name}", f"{name}/", name[:-1], "\x00" + name]

    for other in others:
        client = node.connect(f"{server.url}/{other}", auth={"apikey": instance.token})
        assert client.outcome() == INVALID, other

    assert node.connect(f"{server.url}/{name}", auth={"apikey": instance.token}).outcome() == JOINED


def test_several_namespaces_share_one_connection(server, node, own, foreign):
    first = node.connect(f"{server.url}/{own.name}", auth={"apikey": own.token}).connected()
    second = node.connect(f"/{foreign.name}", over=first, auth={"apikey": foreign.token}).connected()
    refused = node.connect(f"/{foreign.name}x", over=first, auth={"apikey": foreign.token})
    keyless = node.connect("/", over=first)
    assert (refused.outcome(), keyless.outcome()) == (INVALID, UNAUTHORIZED)

    server.receive(foreign, "to the second")
    server.receive(own, "to the first")
    assert second.event("messages.upsert")["data"]["message"] == {"conversation": "to the second"}
    assert first.event("messages.upsert")["data"]["message"] == {"conversation": "to the first"}

    second.disconnect()
    second.wait_for("disconnect", reason="io client disconnect")
    server.receive(foreign, "after it left")
    server.receive(own, "still there")
    assert first.event("messages.upsert")["data"]["message"] == {"conversation": "still there"}
    assert second.lines.empty()
    first.disconnect()


def test_a_key_of_the_connection_and_one_of_the_namespace_must_both_be_valid(server, node, own, foreign):
    """A key in the query or a header belongs to the connection, one in `auth` to the namespace."""
    first = node.connect(f"{server.url}/{own.name}?apikey={own.token}").connected()
    root = node.connect("/", over=first, auth={"apikey": GLOBAL_KEY})
    second = node.connect(f"/{foreign.name}", over=first, auth={"apikey": foreign.token})

    assert (root.outcome(), second.outcome()) == (INVALID, INVALID)
    first.disconnect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_refused_client_does_not_reconnect(server, node, own, transport):
    client = node.connect(
        f"{server.url}/unknown", auth={"apikey": own.token}, transports=[transport], reconnectionDelay=1
    )

    assert client.wait_for("connect_error")["active"] is False
    assert client.quiet() == []


# Settings


def test_allowed_hosts_need_no_key_to_listen(start_server, node):
    server = start_server(WEBSOCKET_ALLOWED_HOSTS="10.1.0.0/16,127.0.0.0/8")
    instance = server.create()
    client = node.connect(f"{server.url}/{instance.name}").connected()
    root = node.connect(server.url, transports=["websocket"]).connected()
    wrong = node.connect(f"{server.url}/{instance.name}", auth={"apikey": "wrong"})
    unknown = node.connect(f"{server.url}/unknown")
    assert (wrong.outcome(), unknown.outcome()) == (UNAUTHORIZED, INVALID)

    server.receive(instance, "to everybody")
    assert client.event("messages.upsert") == root.event("messages.upsert", instance=instance.name)

    refusal = client.call("send_message", {"number": "5511988887777", "text": "without a key"})
    assert refusal == {
        "status": 403,
        "error": "Forbidden",
        "response": {"message": ["This key may not send"]},
    }
    for socket_client in (client, root):
        socket_client.disconnect()


def test_other_hosts_need_a_key(start_server, node):
    server = start_server(WEBSOCKET_ALLOWED_HOSTS="10.1.0.0/16,::1", WEBSOCKET_GLOBAL_EVENTS="false")
    instance = server.create()
    assert node.connect(f"{server.url}/{instance.name}").outcome() == UNAUTHORIZED
    assert node.connect(server.url).outcome() == UNAUTHORIZED

    # without global events `/` still admits the same keys, but emits nothing
    assert node.connect(server.url, auth={"apikey": instance.token}).outcome() == INVALID
    root = node.connect(server.url, auth={"apikey": GLOBAL_KEY}).connected()
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    server.receive(instance)
    assert client.event("messages.upsert")
    sent = root.call("send_message", {"instance": instance.name, "text": "it still sends"})
    assert sent["key"]["fromMe"] is True
    assert client.event("send.message")["data"] == sent
    assert root.quiet(1.3) == []  # longer than the interval of the sweep
    for socket_client in (client, root):
        socket_client.disconnect()


def test_a_server_without_websockets_responds_with_404(start_server, node):
    server = start_server(WEBSOCKET_ENABLED="false")

    for path in ("/socket.io/?EIO=4&transport=polling&apikey=my-key", "/socket.io/socket.io.js", "/socket.io"):
        response = server.get(path)
        assert response.status == 404
        assert response.json["error"] == "Not Found"
        assert response.json["response"]["message"][0].startswith("Cannot GET /socket.io")
        assert b"my-key" not in response.body
    for transport in ("websocket", "polling"):
        client = node.connect(server.url, auth={"apikey": GLOBAL_KEY}, transports=[transport], reconnection=False)
        assert client.wait_for("connect_error")["message"] in ("websocket error", "xhr poll error")
    assert server.get("/").status == 200
