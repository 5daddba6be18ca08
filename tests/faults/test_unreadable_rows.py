"""One row that cannot be read stops nothing else: it is left out, said to be, and sent once it can be read."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests import in_process
from tests.end_to_end.test_processes import run
from tests.environment import GLOBAL_KEY, ON_POSTGRES
from tests.realtime.fanout.test_sse import Stream, started
from tests.receiver import Receiver
from tests.server import Number, Server

#: On PostgreSQL another database's transactions may delay what is swept.
until = partial(in_process.until, timeout=30)

#: Ways to make a row of the log unreadable: a column, a value that it is set to, and one that repairs it.
CREATED_AT = ("created_at", "'infinity'" if ON_POSTGRES else "'2026-99-99 00:00:00'", "'2026-01-02 03:04:05+00:00'")
ENVELOPE = ("envelope", "SUBSTR({envelope}, 1, 20)", "({kept})")
INSTANCE = ("instance_id", "'no uuid'", "'{instance}'")
WAYS = [CREATED_AT, ENVELOPE] if ON_POSTGRES else [CREATED_AT, ENVELOPE, INSTANCE]

#: Records events of instances without a hint to the server, and makes one of them unreadable, in one transaction.
RECORD = """
from django.db import connection, transaction
from instances.events import event_occurred
from instances.models import Instance
with transaction.atomic(), connection.cursor() as cursor:
    for name, number in {events!r}:
        instance = Instance.objects.get(name=name)
        data = {{"chatId": None, "status": "offer", "number": number}}
        event_occurred.send(sender=None, instance=instance, event_type="call", data=data)
        if number == {broken!r}:
            cursor.execute("SELECT MAX(id) FROM realtime_event")
            [pk] = cursor.fetchone()
            cursor.execute(f"CREATE TABLE kept_{{pk}} AS SELECT * FROM realtime_event WHERE id = {{pk}}")
            cursor.execute(f"UPDATE realtime_event SET {{{column!r}}} = {value} WHERE id = {{pk}}")
            print(pk)
"""


def sql(server: Server, statement: str) -> None:
    server.shell(f"from django.db import connection; connection.cursor().execute({statement!r})")


class Broken:
    """An event of `mine`, recorded between others and made unreadable."""

    def __init__(self, server: Server, way: tuple[str, str, str], mine: Number, other: Number) -> None:
        self.server, self.mine = server, mine
        self.column, value, self.repaired = way
        events = [(mine.name, 1), (mine.name, 2), (mine.name, 3), (other.name, 4)]
        code = RECORD.format(events=events, broken=2, column=self.column, value=value.format(envelope="envelope"))
        self.pk = int(server.shell(code))

    def repair(self) -> None:
        kept = f"SELECT envelope FROM kept_{self.pk}"
        instance = self.mine.id if ON_POSTGRES else self.mine.id.replace("-", "")
        value = self.repaired.format(kept=kept, instance=instance)
        sql(self.server, f"UPDATE realtime_event SET {self.column} = {value} WHERE id = {self.pk}")

    @property
    def line(self) -> str:
        return f"The row realtime_event {self.pk} cannot be read and is left out"


@pytest.fixture
def open_stream() -> Iterator[Callable[[Server, Number], Stream]]:
    opened: list[Stream] = []

    def open(server: Server, instance: Number) -> Stream:
        opened.append(Stream(server, instance.name, apikey=instance.token))
        return started(opened[-1])

    yield open
    for stream in opened:
        stream.close()


def number(event: dict) -> int:
    return event["data"]["number"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_an_event_that_cannot_be_read_delays_no_other_and_is_sent_late(fresh_server, node, open_stream, way):
    server = fresh_server(WEBSOCKET_GLOBAL_EVENTS="true")
    mine, other = server.create(), server.create()
    options = {"auth": {"apikey": mine.token, "recover": True}}
    client = node.connect(f"{server.url}/{mine.name}", **options).connected()
    neighbour = node.connect(f"{server.url}/{other.name}", auth={"apikey": other.token}).connected()
    operator = node.connect(f"{server.url}/", auth={"apikey": GLOBAL_KEY}).connected()
    stream = open_stream(server, mine)

    broken = Broken(server, way, mine, other)

    assert [number(client.event("call", 30)) for _ in range(2)] == [1, 3]
    assert number(neighbour.event("call", 30)) == 4
    assert [number(operator.event("call", 30)) for _ in range(3)] == [1, 3, 4]
    assert [number(stream.event()[2]) for _ in range(2)] == [1, 3]
    # nor does it keep those from the log who come later
    since = node.connect(f"{server.url}/{mine.name}", auth={"apikey": mine.token, "since": 0}).connected()
    assert [number(since.event("call", 30)) for _ in range(2)] == [1, 3]
    found = server.get(server.path("/event/find", mine), key=mine.token).json["events"]
    assert [number(event) for event in found if event["event"] == "call"] == [1, 3]

    # it is said once, and shown as long as it lasts
    shown = until(lambda: broken.line in server.log.read_text() and status(server, f"row realtime_event {broken.pk},"))
    assert shown.returncode == 1
    assert "Something has failed" in shown.stderr

    broken.repair()
    for each in (client, operator, since):
        assert number(each.event("call", 30)) == 2
    assert number(stream.event()[2]) == 2
    found = server.get(server.path("/event/find", mine), key=mine.token).json["events"]
    assert [number(event) for event in found if event["event"] == "call"] == [1, 2, 3]
    assert until(lambda: (found := run(server.environment, "status")).returncode == 0 and found, timeout=70)
    assert server.log.read_text().count(broken.line) == 1
    assert "it is restarted" not in server.log.read_text()

    # a client that comes back after that goes on where it was
    client.drop()
    assert client.connected().seen[-1]["recovered"] is True
    assert server.post(server.path("/event/publish", mine), {"event": "call", "data": {"number": 5}}).status == 201
    for each in (client, since, operator):
        assert number(each.event("call", 30)) == 5
        each.disconnect()
    assert number(stream.event()[2]) == 5
    neighbour.disconnect()


def status(server: Server, text: str):
    found = run(server.environment, "status")
    return found if re.search(f"^  set aside: {text}", found.stdout, re.MULTILINE) else None


# Deliveries

#: What a delivery's `created_at` is set to, and what repairs it.
NO_TIME, A_TIME = CREATED_AT[1:]


def add_endpoint(server: Server, instance: Number, receiver: Receiver, **options) -> int:
    body = {"url": receiver.url, "events": ["CALL"]} | options
    response = server.post(server.path("/webhook/endpoints", instance), body)
    assert response.status == 201
    return int(response.json["id"])


def publish(server: Server, instance: Number, *numbers: int) -> None:
    events = [{"event": "call", "data": {"number": number}} for number in numbers]
    assert server.post(server.path("/event/publish", instance), events).status == 201


def received(receiver: Receiver) -> list[int]:
    return sorted(request.json["data"]["number"] for request in receiver.requests)


def with_deliveries(fresh_server, instance_events, *receivers: Receiver, **options) -> tuple[Server, list[Number]]:
    """Start a server that sends nothing yet, with pending deliveries of each instance to a receiver."""
    server = fresh_server(DELIVERY_EMBEDDED="false", WEBHOOK_RETRY_INITIAL_DELAY_SECONDS="1")
    instances = []
    for numbers, receiver in zip(instance_events, receivers, strict=True):
        instances.append(server.create())
        add_endpoint(server, instances[-1], receiver, **options)
        publish(server, instances[-1], *numbers)
    return server, instances


def deliver(server: Server) -> None:
    server.stop()
    server.environment["DELIVERY_EMBEDDED"] = "true"
    server.start()


def attempts(server: Server, pk: int) -> list[str]:
    found = server.shell(
        f"from realtime.models import Attempt\nfor row in Attempt.objects.filter(delivery={pk}): print(row.error)"
    )
    return found.splitlines()


UNREADABLE = "Its rows in the database cannot be read, see the server's log"


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [False, True])
def test_a_delivery_that_cannot_be_read_keeps_no_other_from_being_sent(fresh_server, ordered):
    with Receiver() as mines, Receiver() as others:
        server, [mine, _] = with_deliveries(fresh_server, [(1, 2, 3), (4,)], mines, others, ordered=ordered)
        rows = server.get(server.path("/webhook/deliveries", mine)).json["deliveries"]
        pk = int(rows[0 if ordered else 1]["id"])  # of an ordered endpoint the last, as it keeps those after it
        sql(server, f"UPDATE realtime_delivery SET created_at = {NO_TIME} WHERE id = {pk}")
        deliver(server)

        until(lambda: received(mines) == ([1, 2] if ordered else [1, 3]) and received(others) == [4])
        until(lambda: len(attempts(server, pk)) >= 2)
        assert set(attempts(server, pk)) == {UNREADABLE}
        shown = server.get(server.path("/webhook/deliveries", mine) + "?limit=2").json
        assert (len(shown["deliveries"]), shown["hasMore"]) == (1, True)
        one = server.get(server.path("/webhook/deliveries", mine) + f"/{pk}")
        assert (one.status, one.json["response"]["message"]) == (
            409,
            ["The row of this delivery cannot be read: the server's log says why"],
        )
        assert until(lambda: status(server, f"row realtime_delivery {pk},"))

        sql(server, f"UPDATE realtime_delivery SET created_at = {A_TIME} WHERE id = {pk}")
        until(lambda: received(mines) == [1, 2, 3])
        assert server.log.read_text().count(f"The row realtime_delivery {pk} cannot be read") == 1
        assert "is set aside" not in server.log.read_text()


@pytest.mark.slow
def test_a_body_that_is_gone_keeps_no_other_from_being_sent(fresh_server):
    with Receiver() as mines, Receiver() as others:
        server, [mine, _] = with_deliveries(fresh_server, [(1, 2, 3), (4,)], mines, others)
        delivery = server.get(server.path("/webhook/deliveries", mine)).json["deliveries"][1]
        sql(server, f"UPDATE realtime_body SET transport = 'gone' WHERE event_id = '{delivery['eventId']}'")
        deliver(server)

        until(lambda: received(mines) == [1, 3] and received(others) == [4])
        until(lambda: UNREADABLE in attempts(server, int(delivery["id"])))
        shown = server.get(server.path("/webhook/deliveries", mine) + f"/{delivery['id']}").json
        assert shown["request"]["body"] is None
        # it says nothing of the receiver
        [endpoint] = server.get(server.path("/webhook/endpoints", mine)).json
        assert endpoint["failingSince"] is None

        sql(server, f"UPDATE realtime_body SET transport = 'webhook' WHERE event_id = '{delivery['eventId']}'")
        until(lambda: received(mines) == [1, 2, 3])


#: Deletes a part of what PostgreSQL has moved out of the rows of a table, as a damaged disk does, but keeps a copy.
DAMAGE = """
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("CREATE TABLE kept AS SELECT id, data || ''::bytea AS data FROM realtime_body")
    cursor.execute("SELECT reltoastrelid, reltoastrelid::regclass FROM pg_class WHERE relname = 'realtime_body'")
    [oid, toast] = cursor.fetchone()
    cursor.execute("SET LOCAL allow_system_table_mods = on")
    cursor.execute("UPDATE pg_class SET relkind = 'r' WHERE oid = %s", [oid])
    cursor.execute(f"DELETE FROM {toast} WHERE chunk_seq = 0")
    assert cursor.rowcount == 1
    cursor.execute("UPDATE pg_class SET relkind = 't' WHERE oid = %s", [oid])
"""


@pytest.mark.slow
@pytest.mark.postgres
def test_a_damaged_body_keeps_no_other_from_being_sent(fresh_server):
    with Receiver() as mines, Receiver() as others:
        server, [mine, _] = with_deliveries(fresh_server, [(1,), (4,)], mines, others)
        event = {"event": "call", "data": {"number": 2, "large": secrets.token_hex(20_000)}}
        assert server.post(server.path("/event/publish", mine), event).status == 201
        publish(server, mine, 3)
        delivery = server.get(server.path("/webhook/deliveries", mine)).json["deliveries"][1]
        server.shell(DAMAGE)
        deliver(server)

        until(lambda: received(mines) == [1, 3] and received(others) == [4])
        until(lambda: UNREADABLE in attempts(server, int(delivery["id"])))
        assert until(lambda: status(server, "row realtime_body "))
        assert "for toast value" in server.log.read_text()

        sql(server, "UPDATE realtime_body SET data = kept.data FROM kept WHERE kept.id = realtime_body.id")
        until(lambda: received(mines) == [1, 2, 3])
        assert "is set aside" not in server.log.read_text()


# Endpoints and keys

ADD_OPERATORS = """
from instances.models import Subscription
row = Subscription(instance=None, transport="webhook", events=["CALL"], options={{"url": {url!r}}})
row.keep_secrets(headers={{}}, signing=["whsec_" + "A" * 32])
row.save()
print(row.pk)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("options = '{\"url\": '", "The row of its endpoint cannot be read: the server's log says why"),
        ("events = '{}'", "The row of its endpoint cannot be read: the server's log says why"),
        (f"created_at = {NO_TIME}", "The row of its endpoint cannot be read: the server's log says why"),
        ("options = '{}'", "The settings of its endpoint cannot be used: KeyError at "),
    ],
    ids=["options", "events", "created_at", "url"],
)
def test_an_endpoint_that_cannot_be_read_refuses_nothing_to_anybody(fresh_server, node, damage, reason):
    with Receiver() as operators, Receiver() as mines:
        server = fresh_server()
        mine, other = server.create(), server.create()
        add_endpoint(server, mine, mines)
        pk = int(server.shell(ADD_OPERATORS.format(url=operators.url)))
        sql(server, f"UPDATE instances_subscription SET {damage} WHERE id = {pk}")
        client = node.connect(f"{server.url}/{mine.name}", auth={"apikey": mine.token}).connected()

        publish(server, mine, 1)
        publish(server, other, 2)
        assert server.receive(other).status == 200
        assert number(client.event("call", 30)) == 1
        until(lambda: received(mines) == [1])
        found = server.get(server.path("/webhook/deliveries", mine) + f"?endpoint={pk}").json["deliveries"]
        assert [(each["state"], each["reason"][: len(reason)]) for each in found] == [("dropped", reason)]
        assert client.event("deliveries.dropped")["data"]["reason"].startswith(reason)
        why = server.get(server.path("/webhook/why", mine) + f"/{found[0]['seq']}")
        assert why.status == 200
        assert server.get("/instance/fetchInstances").status == 200
        client.disconnect()
        if "row" in reason:
            assert until(lambda: status(server, f"row instances_subscription {pk},"))
            assert server.log.read_text().count(f"The row instances_subscription {pk} cannot be read") == 1


ISSUE = """
from instances.models import ApiKey, Instance
for name in {names!r}:
    key, secret = ApiKey.objects.issue(name, ["listen", "publish"])
    key.instances.add(Instance.objects.get(name=name))
    print(secret)
"""


@pytest.mark.parametrize("row", ["key", "instance"])
def test_a_key_or_instance_that_cannot_be_read_keeps_nobody_else_out(fresh_server, node, row):
    server = fresh_server()
    mine, other = server.create(), server.create()
    keys = server.shell(ISSUE.format(names=[mine.name, other.name])).split()
    damage = f"UPDATE instances_apikey SET scopes = '[' WHERE name = '{mine.name}'"
    if row == "instance":
        damage = f"UPDATE instances_instance SET created_at = {NO_TIME} WHERE name = '{mine.name}'"

    def join(instance, key):
        return node.connect(f"{server.url}/{instance.name}", auth={"apikey": key})

    clients = [join(mine, keys[0]).connected(), join(other, keys[1]).connected()]
    sql(server, damage)
    # a change of access has all clients checked again
    assert server.post(server.path("/instance/rotateToken", other), {}).status == 200
    if row == "key":  # the instance's name and token can be read
        clients[0].wait_for("disconnect")
    for _ in range(3):
        refused = join(mine, keys[0])
        assert join(other, keys[1]).outcome() == "connect"
        assert refused.outcome() == ("Unauthorized" if row == "key" else "Invalid namespace")
    publish(server, other, 1)
    assert number(clients[1].event("call", 30)) == 1
    listed = [each["name"] for each in server.get("/instance/fetchInstances").json]
    assert (mine.name in listed, other.name in listed) == (row == "key", True)
    assert "it is restarted" not in server.log.read_text()
    for client in clients:
        client.disconnect()
