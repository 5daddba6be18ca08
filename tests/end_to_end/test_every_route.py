"""Each route of the OpenAPI document, with each kind of key: foreign and useless ones learn and change nothing."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from instances.api.openapi import document
from instances.evolution_routes import ROUTES
from tests.end_to_end.test_bad_input import is_evolutions_shape
from tests.server import Number, Server, server_environment

pytestmark = pytest.mark.any_database

#: Routes that need no key, or have a proof of their own: a signature, a verify token, a password.
PUBLIC = {
    *(("GET", "/"), ("GET", "/license/status"), ("GET", "/license/register"), ("GET", "/license/activate")),
    *(("GET", "/metrics"), ("GET", "/webhook/meta"), ("POST", "/webhook/meta"), ("POST", "/chatwoot/webhook/{name}")),
}
#: The route of payloads of any instance, whose number says which; tests/instances/providers/test_evolution.py.
INGRESS = ("POST", "/webhook/evolution")
#: Routes that every key may call: each finds its own instances.
OF_ALL_KEYS = {("GET", "/instance/fetchInstances")}
#: Routes for listeners alone.
LISTENING = {("GET", "/event/stream/{name}"), ("POST", "/websocket/token/{name}")}
#: GETs that change something, and other methods that change nothing.
CHANGING_GETS = {"/instance/connect/{name}", "/group/acceptInviteCode/{name}"}
READING_POSTS = {
    f"/{route}/{{name}}"
    for route in (
        *("chat/findContacts", "chat/findMessages", "chat/findStatusMessage", "chat/findChats", "chat/findChannels"),
        *("chat/fetchProfilePictureUrl", "chat/getBase64FromMediaMessage", "chat/getPollVote", "chat/whatsappNumbers"),
        *("chat/fetchProfile", "chat/fetchBusinessProfile", "business/getCatalog", "business/getCollections"),
        *("s3/getMedia", "s3/getMediaUrl", "baileys/onWhatsapp", "baileys/profilePictureUrl"),
    )
}

#: The id in the paths of routes that have one.
ID = 77
#: Gives an instance an endpoint and a delivery with this id. The delivery is dead: no loop of the server changes it.
MAKE_ROWS = """
from django.utils import timezone
from instances.models import Instance, Subscription
from realtime.models import Attempt, Body, Delivery

instance = Instance.objects.get(name={name!r})
endpoint = Subscription(pk={id}, instance=instance, transport="webhook", options={{"url": "https://hook.example.com/in"}})
endpoint.keep_secrets(signing=["whsec_" + "A" * 43 + "="])
endpoint.save()
delivery = Delivery.objects.create(
    pk={id}, instance_id=instance.pk, name=instance.name, seq=1, type="call", event_id="an event", endpoint_id={id},
    transport="webhook", destination="https://hook.example.com/in", own_part=b"", shared_size=2, size=2, state="dead",
    finished_at=timezone.now(), attempts=1,
)
Body.objects.create(event_id=delivery.event_id, transport=delivery.transport, data=b"{{}}", offset=1)
Attempt.objects.create(delivery=delivery, number=1, at=timezone.now(), duration_ms=5, status=500)
"""
#: Keys by name, made on the server's database: each is printed with its secret.
MAKE_KEYS = """
import json
from datetime import timedelta
from django.utils import timezone
from instances.access.rights import RIGHTS
from instances.models import ApiKey, Instance

def issue(scopes, name, **fields):
    key, secret = ApiKey.objects.issue("a test's", list(scopes), **fields)
    key.instances.add(Instance.objects.get(name=name))
    key.record_use()
    return key, secret

mine, other = {mine!r}, {other!r}
revoked, revoked_secret = issue(RIGHTS, mine)
revoked.revoke()
print(json.dumps({{
    "read": issue(["read"], mine)[1],
    "listen": issue(["listen"], mine)[1],
    "foreign": issue(RIGHTS, other)[1],
    "expired": issue(RIGHTS, mine, expires_at=timezone.now() - timedelta(seconds=1))[1],
    "revoked": revoked_secret,
}}))
"""
#: Prints a digest of the rows of each table, but for the times of keys' last uses, and for the server's own row and the
#: hourly counts, which its loops write.
SNAPSHOT = """
import hashlib
from django.apps import apps

for label in ("instances", "realtime"):
    for model in apps.get_app_config(label).get_models():
        if model.__name__ == "Process" or model.__module__ == "realtime.counters.models":
            continue
        names = [field.attname for field in model._meta.concrete_fields if field.attname != "last_used_at"]
        rows = sorted(map(repr, model.objects.values_list(*names)))
        print(model.__name__, len(rows), hashlib.sha256("".join(rows).encode()).hexdigest())
"""


class Operation(NamedTuple):
    method: str
    #: The path with its parameters in braces.
    path: str
    body: Any

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path

    def is_read(self) -> bool:
        """Return whether a key that may read alone may call it."""
        if self.method == "GET":
            return self.path not in CHANGING_GETS and self.route not in LISTENING
        return self.path in READING_POSTS


def operations() -> Iterator[Operation]:
    """Yield all routes, with a valid body where the document has an example."""
    for path, methods in json.loads(document())["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [content.get("example"), *(each["value"] for each in content.get("examples", {}).values())]
            yield Operation(method.upper(), path, next(filter(None, examples), {}) if content else None)


GUARDED = [operation for operation in operations() if operation.route not in PUBLIC and operation.route != INGRESS]
NAMED = [operation for operation in GUARDED if "{name}" in operation.path]

Call = Callable[[Operation, str, str | None], tuple[int, Any]]


@pytest.fixture(scope="module")
def environment(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A database of this file's own: deliveries of other tests would go on while it is compared."""
    with server_environment(migrated, tmp_path_factory.mktemp("routes")) as variables:
        yield variables


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Server]:
    """A server that does not hold up an address with many wrong keys."""
    server = Server(environment | {"LIMIT_WRONG_KEYS": "100000"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def instances(server: Server) -> tuple[Number, Number]:
    mine, other = server.create(), server.create()
    server.shell(MAKE_ROWS.format(name=mine.name, id=ID))
    return mine, other


@pytest.fixture(scope="module")
def keys(server: Server, instances: tuple[Number, Number]) -> dict[str, str | None]:
    mine, other = instances
    made = json.loads(server.shell(MAKE_KEYS.format(mine=mine.name, other=other.name)))
    return made | {"wrong": "evo_wrong", "none": None, "token of another": other.token}


@pytest.fixture
def call(server: Server) -> Iterator[Call]:
    """Send requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def call(operation: Operation, name: str, key: str | None) -> tuple[int, Any]:
        path = operation.path.format(name=name, id=ID, reference="1")
        headers = {"Content-Type": "application/json"} | ({"apikey": key} if key else {})
        body = None if operation.body is None else json.dumps(operation.body)
        connection.request(operation.method, path, body, headers)
        response = connection.getresponse()
        if response.getheader("Content-Type", "").startswith("text/event-stream"):
            connection.close()  # it has no end
            return response.status, None
        content = response.read()
        return response.status, json.loads(content) if content else None

    yield call
    connection.close()


def test_the_walk_knows_all_routes():
    known = {operation.route for operation in operations()}
    assert len(known) > 150
    assert {*PUBLIC, INGRESS, *OF_ALL_KEYS, *LISTENING} <= known
    assert {("GET", path) for path in CHANGING_GETS} <= known


@pytest.mark.slow
def test_a_key_that_opens_nothing_here_is_answered_401_and_changes_nothing(server, instances, keys, call):
    mine, _ = instances
    before = server.shell(SNAPSHOT)
    for name in ("none", "wrong", "expired", "revoked"):
        for operation in GUARDED:
            status, body = call(operation, mine.name, keys[name])
            assert status == 401, (name, operation.route, body)
            assert is_evolutions_shape(401, body)
    for name in ("foreign", "token of another"):
        for operation in NAMED:
            status, body = call(operation, mine.name, keys[name])
            assert status == 401, (name, operation.route, body)
            assert is_evolutions_shape(401, body)
    assert server.shell(SNAPSHOT) == before


def test_an_unknown_name_is_answered_like_a_foreign_one(keys, instances, call):
    mine, _ = instances
    for operation in NAMED:
        assert call(operation, "nobody", keys["foreign"]) == call(operation, mine.name, keys["foreign"])


@pytest.mark.slow
def test_another_spelling_of_a_path_opens_nothing(server, keys, instances, call):
    mine, _ = instances
    evolutions = {(route.method, route.path) for route in ROUTES}
    before = server.shell(SNAPSHOT)
    for operation in GUARDED:
        if operation.route in evolutions:
            parts = [part if part.startswith("{") else part.swapcase() for part in operation.path.split("/")]
            spelled = operation._replace(path="/".join([*parts, ""]))
            for name in ("none", "foreign", "read"):
                status, _ = call(operation, mine.name, keys[name])
                assert call(spelled, mine.name, keys[name])[0] == status, (name, spelled.route)
    assert server.shell(SNAPSHOT) == before


def test_routes_of_no_instance_are_for_the_global_key_or_show_own_instances_alone(keys, instances, call):
    _, other = instances
    for operation in GUARDED:
        if "{name}" not in operation.path:
            status, body = call(operation, "", keys["foreign"])
            if operation.route in OF_ALL_KEYS:
                assert (status, [row["name"] for row in body]) == (200, [other.name])
            else:
                assert status == 401, operation.route


def test_a_key_that_may_read_alone_reads_and_changes_nothing(server, instances, keys, call):
    mine, _ = instances
    before = server.shell(SNAPSHOT)
    for operation in NAMED:
        status, body = call(operation, mine.name, keys["read"])
        if operation.is_read():
            assert status not in (401, 403), (operation.route, status, body)
            assert status < 500, (operation.route, status, body)
        else:
            # a stream is refused as a socket is
            assert status == (401 if operation.method == "GET" and operation.route in LISTENING else 403), operation
            assert is_evolutions_shape(status, body)
    assert server.shell(SNAPSHOT) == before


def test_a_key_that_may_listen_alone_does_nothing_else(server, instances, keys, call):
    mine, _ = instances
    before = server.shell(SNAPSHOT)
    for operation in NAMED:
        status, body = call(operation, mine.name, keys["listen"])
        if operation.route in LISTENING:
            assert status in (200, 201), (operation.route, status, body)
        else:
            assert status == 403, (operation.route, status, body)
    assert server.shell(SNAPSHOT) == before
