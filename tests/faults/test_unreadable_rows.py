"""One row that cannot be read stops nothing else: it is left out, said to be, and told once it can be read."""

from __future__ import annotations

import re

import pytest

from tests.end_to_end.test_processes import run
from tests.environment import GLOBAL_KEY, ON_POSTGRES
from tests.in_process import until
from tests.realtime.fanout.test_sse import Stream, started
from tests.server import Number, Server

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
        event_occurred.send(sender=None, instance=instance, event_type="call", data={{"number": number}})
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


def number(event: dict) -> int:
    return event["data"]["number"]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_an_event_that_cannot_be_read_delays_no_other_and_is_sent_late(fresh_server, node, way):
    server = fresh_server(WEBSOCKET_GLOBAL_EVENTS="true")
    mine, other = server.create(), server.create()
    options = {"auth": {"apikey": mine.token, "recover": True}}
    client = node.connect(f"{server.url}/{mine.name}", **options).connected()
    neighbour = node.connect(f"{server.url}/{other.name}", auth={"apikey": other.token}).connected()
    operator = node.connect(f"{server.url}/", auth={"apikey": GLOBAL_KEY}).connected()
    stream = started(Stream(server, mine.name, apikey=mine.token))

    broken = Broken(server, way, mine, other)

    assert [number(client.event("call")) for _ in range(2)] == [1, 3]
    assert number(neighbour.event("call")) == 4
    assert [number(operator.event("call")) for _ in range(3)] == [1, 3, 4]
    assert [number(stream.event()[2]) for _ in range(2)] == [1, 3]
    # nor does it keep those from the log who come later
    since = node.connect(f"{server.url}/{mine.name}", auth={"apikey": mine.token, "since": 0}).connected()
    assert [number(since.event("call")) for _ in range(2)] == [1, 3]
    found = server.get(server.path("/event/find", mine), key=mine.token).json["events"]
    assert [number(event) for event in found if event["event"] == "call"] == [1, 3]

    # it is said once, and shown as long as it lasts
    shown = until(lambda: broken.line in server.log.read_text() and status(server, f"row realtime_event {broken.pk},"))
    assert shown.returncode == 1
    assert "Something has failed" in shown.stderr

    broken.repair()
    for each in (client, operator, since):
        assert number(each.event("call", 20)) == 2
    assert number(stream.event()[2]) == 2
    found = server.get(server.path("/event/find", mine), key=mine.token).json["events"]
    assert [number(event) for event in found if event["event"] == "call"] == [1, 2, 3]
    assert until(lambda: (found := run(server.environment, "status")).returncode == 0 and found, 70)
    assert server.log.read_text().count(broken.line) == 1
    assert "it is restarted" not in server.log.read_text()

    # a client that comes back after that goes on where it was
    client.drop()
    assert client.connected().seen[-1]["recovered"] is True
    assert server.post(server.path("/event/publish", mine), {"event": "call", "data": {"number": 5}}).status == 201
    for each in (client, since, operator):
        assert number(each.event("call")) == 5
        each.disconnect()
    assert number(stream.event()[2]) == 5
    stream.close()
    neighbour.disconnect()


def status(server: Server, text: str):
    found = run(server.environment, "status")
    return found if re.search(f"^  set aside: {text}", found.stdout, re.MULTILINE) else None
