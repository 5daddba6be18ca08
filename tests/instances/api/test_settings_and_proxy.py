"""The settings and the proxy of an instance, which are stored for its engine."""

from __future__ import annotations

from typing import Any

import pytest

from instances.crypto import MASK
from tests.environment import GLOBAL_KEY
from tests.instances.api.rows import ISO, SETTINGS, row, unique
from tests.server import Response, Server

FLAGS = {name: value for name, value in SETTINGS.items() if value is False}
PROXY = {
    "enabled": True,
    "host": "proxy.example.com",
    "port": "8080",
    "protocol": "socks5",
    "username": "ana",
    "password": "very-secret",
}
BLANK = {"enabled": False} | dict.fromkeys(("host", "port", "protocol", "username", "password"), "")


@pytest.fixture(scope="module")
def instance(server):
    return server.create()


def reader(server: Server, name: str) -> str:
    """Return a key that may read an instance and nothing else."""
    return server.shell(
        "from instances.models import ApiKey, Instance\nkey, secret = ApiKey.objects.issue('reader', ['read'])\n"
        f"key.instances.set(Instance.objects.filter(name={name!r}))\nprint(secret)"
    ).strip()


def messages(response: Response) -> tuple[int, Any]:
    return response.status, response.json["response"]["message"]


# Settings


@pytest.mark.parametrize("integration", ["EVOLUTION", "WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS"])
def test_settings_are_set_and_found(server, integration):
    instance = server.create(integration=integration)
    set_path, find_path = (server.path(f"/settings/{verb}", instance) for verb in ("set", "find"))
    assert server.get(find_path, key=instance.token).json == SETTINGS

    body = FLAGS | {"rejectCall": True, "msgCall": "No calls", "wavoipToken": "w-secret"}
    response = server.post(set_path, body, key=instance.token)
    assert response.status == 201
    assert response.json == {"settings": {"instanceName": instance.name, "settings": body}}
    assert "acts on none of them" in response.headers["X-Evoapi-Note"]

    # texts that are left out stay; a dashboard sends an empty one
    response = server.post(set_path, FLAGS, key=instance.token)
    assert response.json["settings"]["settings"] == FLAGS
    expected = SETTINGS | {"msgCall": "No calls", "wavoipToken": "w-secret"}
    assert server.get(find_path, key=instance.token).json == expected
    found = row(server, instance.name)["Setting"]
    assert {name: found[name] for name in SETTINGS} == expected
    key = reader(server, instance.name)
    assert server.get(find_path, key=key).json == expected | {"wavoipToken": MASK}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict.fromkeys(FLAGS, ...), [f'instance requires property "{name}"' for name in FLAGS]),
        ({"readStatus": "yes"}, ["readStatus is not of a type(s) boolean"]),
        ({"msgCall": "x" * 101}, ["msgCall does not meet maximum length of 100"]),
        ({"msgCall": None}, ["msgCall is not of a type(s) string"]),
        ({"wavoipToken": 5}, ["wavoipToken is not of a type(s) string"]),
    ],
)
def test_settings_with_an_error_change_nothing(server, instance, changed, message):
    path = server.path("/settings/find", instance)
    before = server.get(path).json
    body = {name: value for name, value in (FLAGS | {"rejectCall": True} | changed).items() if value is not ...}
    assert messages(server.post(server.path("/settings/set", instance), body)) == (400, [message])
    assert server.get(path).json == before


def test_settings_of_v1_are_taken_by_their_names(server, instance):
    old = {
        "reject_call": True,
        "groups_ignore": False,
        "always_online": True,
        "read_messages": False,
        "read_status": False,
        "sync_full_history": False,
    }
    assert server.post(server.path("/settings/set", instance), old).status == 201
    assert server.get(server.path("/settings/find", instance)).json["alwaysOnline"] is True


# The proxy


@pytest.mark.parametrize("integration", ["EVOLUTION", "WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS"])
def test_a_proxy_is_set_found_and_forgotten(server, integration):
    instance = server.create(integration=integration)
    set_path, find_path = (server.path(f"/proxy/{verb}", instance) for verb in ("set", "find"))
    assert server.get(find_path, key=instance.token).body == b"null"

    response = server.post(set_path, PROXY, key=instance.token)
    assert response.status == 201
    shown = PROXY | {"password": MASK}
    assert response.json == {"proxy": {"instanceName": instance.name, "proxy": shown}}
    assert "connects to nothing" in response.headers["X-Evoapi-Note"]

    found = server.get(find_path, key=instance.token).json
    assert {name: found[name] for name in PROXY} == PROXY, "its engine needs the password"
    assert found["instanceId"] == instance.id
    assert ISO.fullmatch(found["createdAt"])
    assert row(server, instance.name)["Proxy"] == found
    key = reader(server, instance.name)
    for read in (
        server.get(find_path, key=key).json,
        server.get("/instance/fetchInstances", key=key).json[0]["Proxy"],
    ):
        assert read == found | {"password": MASK}

    # a dashboard posts what it was shown
    assert server.post(set_path, shown | {"port": "9090"}, key=instance.token).status == 201
    found = server.get(find_path, key=instance.token).json
    assert (found["port"], found["password"]) == ("9090", PROXY["password"])

    response = server.post(set_path, PROXY | {"enabled": False}, key=instance.token)
    assert response.json["proxy"]["proxy"] == BLANK
    found = server.get(find_path, key=instance.token).json
    assert {name: found[name] for name in BLANK} == BLANK
    assert PROXY["password"] not in server.log.read_text()


def test_the_password_of_a_proxy_is_stored_encrypted(server, instance):
    assert server.post(server.path("/proxy/set", instance), PROXY).status == 201
    stored = server.shell(
        "from django.db import connection\ncursor = connection.cursor()\n"
        "cursor.execute('SELECT password FROM instances_proxy')\nprint(cursor.fetchall())"
    )
    assert PROXY["password"] not in stored
    assert "gAAAA" in stored


def test_user_and_password_of_a_proxy_may_be_left_out(server, instance):
    body = {name: PROXY[name] for name in ("enabled", "host", "port", "protocol")}
    response = server.post(server.path("/proxy/set", instance), body)
    assert response.json["proxy"]["proxy"] == body | {"username": "", "password": ""}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"enabled": ..., "host": ...}, ['instance requires property "enabled"', 'instance requires property "host"']),
        ({"enabled": "true"}, ["enabled is not of a type(s) boolean"]),
        ({"host": ""}, ['The "host" cannot be empty']),
        ({"host": "http://x/"}, ["host is not the name or address of a host"]),
        ({"host": "a b"}, ["host is not the name or address of a host"]),
        ({"port": 8080}, ["port is not of a type(s) string"]),
        ({"port": "65536"}, ["port is not a number from 1 to 65535"]),
        ({"port": "0"}, ["port is not a number from 1 to 65535"]),
        ({"port": ""}, ['The "port" cannot be empty']),
        ({"protocol": "ftp"}, ["protocol is not one of enum values: http,https,socks,socks4,socks5"]),
        ({"username": 5}, ["username is not of a type(s) string"]),
        ({"password": "x" * 256}, ["password does not meet maximum length of 255"]),
        ({"enabled": False, "host": 5}, ["host is not of a type(s) string"]),
    ],
)
def test_a_proxy_with_an_error_changes_nothing(server, instance, changed, message):
    path = server.path("/proxy/find", instance)
    before = server.get(path).json
    body = {name: value for name, value in (PROXY | changed).items() if value is not ...}
    response = server.post(server.path("/proxy/set", instance), body)
    assert messages(response) == (400, [message])
    assert PROXY["password"] not in response.body.decode()
    assert server.get(path).json == before


def test_a_proxy_is_taken_at_creation_where_it_is_complete(server):
    members = {f"proxy{name.capitalize()}": PROXY[name] for name in PROXY if name != "enabled"}
    name, incomplete = unique(), unique()
    for each, given in ((name, members), (incomplete, members | {"proxyPort": ""})):
        body = {"instanceName": each, "integration": "EVOLUTION"}
        response = server.post("/instance/create", body | given)
        assert response.status == 201
        assert PROXY["password"] not in response.body.decode()
    found = row(server, name)["Proxy"]
    assert {each: found[each] for each in PROXY} == PROXY
    assert row(server, incomplete)["Proxy"] is None

    wrong = {"instanceName": unique(), "integration": "EVOLUTION"} | members | {"proxyPort": "x"}
    assert messages(server.post("/instance/create", wrong)) == (400, [["proxyPort is not a number from 1 to 65535"]])


@pytest.mark.any_database
def test_a_key_that_may_read_alone_sets_nothing(server, instance):
    key = reader(server, instance.name)
    for path, body in (("/settings/set", FLAGS), ("/proxy/set", PROXY)):
        assert messages(server.post(server.path(path, instance), body, key=key)) == (403, ["This key may not manage"])
    other = server.create()
    for path in ("/settings/find", "/proxy/find"):
        assert server.get(server.path(path, other), key=key).status == 401
        assert server.get(server.path(path, other), key=None).status == 401
        assert server.get(server.path(path, "nobody"), key=GLOBAL_KEY).status == 404
