"""Finds in an instance with a million messages and 50,000 chats: each reads an index up to its page, and no further."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

import pytest

from tests.server import Number, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MESSAGES, CHATS = 1_000_000, 50_000
#: The chat that has a fifth of all messages.
LARGE = {"key": {"remoteJid": "0@s.whatsapp.net"}}
PERIOD = {"messageTimestamp": {"gte": 1_700_000_000, "lte": 1_700_100_000}}
#: Seconds that half of the requests take at most on a machine that is busy with others; alone, 95 of 100 take a tenth.
COARSE = 0.5

#: Fills the instance NAME, a table a statement, and has the migration count what is there.
FILL = """
from importlib import import_module
from django.apps import apps
from django.db import connection, transaction
from instances.models import Instance, MessageCount

def numbers(count):
    if connection.vendor == "postgresql":
        return f"(SELECT generate_series(0, {count} - 1) AS n) AS numbers"
    return f"(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {count} - 1) SELECT n FROM c)"

instance = Instance.objects.get(name=NAME)
key = Instance._meta.pk.get_db_prep_value(instance.pk, connection)
now = "'2026-01-31 12:00:00'"
number = "CASE WHEN n %% 5 = 0 THEN '0' ELSE CAST((n / 7 * 7919 + n) %% CHATS AS VARCHAR(9)) END"
kind = "CASE WHEN n %% 7 = 0 THEN 'imageMessage' ELSE 'conversation' END"
content = '{"conversation": "%s"}' % ("x" * 300)
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute(f'''
        INSERT INTO instances_message (
            instance_id, wa_id, remote_jid, from_me, type, content, extra, timestamp, source, created_at
        )
        SELECT %s, 'wa-' || n, {number} || '@s.whatsapp.net', n %% 3 = 0, {kind}, %s, %s, 1700000000 + n / 3, '', {now}
        FROM {numbers(MESSAGES)}''', [key, content, "{}"])
    cursor.execute(f'''
        INSERT INTO instances_contact (instance_id, remote_jid, push_name, created_at, updated_at)
        SELECT %s, n || '@s.whatsapp.net', 'Person ' || n, {now}, {now} FROM {numbers(CHATS)}''', [key])
MessageCount.objects.filter(instance=instance).delete()
import_module("instances.migrations.0011_count_messages").count_messages(apps, None)
if connection.vendor == "postgresql":
    for table in ("message", "chat", "contact"):
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE instances_{table}")  # as autovacuum does
print(MessageCount.objects.get(instance=instance).count)
"""

#: Prints the plans of the statements of some finds.
PLANS = """
import json
from django.db import connection, reset_queries
from instances.api import chat_pages, message_pages
from instances.models import Instance

instance = Instance.objects.get(name=NAME)
connection.force_debug_cursor = True
reset_queries()
message_pages.find(instance, {}, 100, 50)
message_pages.find(instance, LARGE, 100, 50)
message_pages.find(instance, {"key": {"remoteJid": "1@s.whatsapp.net", "remoteJidAlt": "2@s.whatsapp.net"}}, 1, 50)
message_pages.find(instance, PERIOD, 100, 50)
chat_pages.find_chats(instance, {}, 49_000, 100)
chat_pages.find_chats(instance, {}, 0, None)
chat_pages.find_chats(instance, PERIOD, 0, 100)
chat_pages.find_contacts(instance, {}, 490, 100)
statements = [query["sql"] for query in connection.queries]
explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
plans = []
for statement in statements:
    with connection.cursor() as cursor:
        cursor.execute(explain + statement)
        plans.append([statement[:300], *(row[-1] for row in cursor.fetchall())])
print(json.dumps(plans))
"""


def seconds(server: Server, instance: Number, route: str, bodies: list[dict[str, Any]]) -> float:
    """Return the median of the times that these requests take."""
    times = []
    for body in bodies:
        began = time.monotonic()
        assert server.post(server.path(route, instance), body, key=instance.token).status == 200
        times.append(time.monotonic() - began)
    return median(times)


def test_finds_read_an_index_up_to_their_page(fresh_server):
    server = fresh_server()
    instance = server.create()
    code = FILL.replace("MESSAGES", str(MESSAGES)).replace("CHATS", str(CHATS)).replace("NAME", repr(instance.name))
    assert server.shell(code) == f"{MESSAGES}\n"
    assert server.counts(instance) == {"Message": MESSAGES, "Contact": CHATS, "Chat": CHATS}

    code = PLANS.replace("NAME", repr(instance.name)).replace("LARGE", repr(LARGE)).replace("PERIOD", repr(PERIOD))
    for statement, *plan in json.loads(server.shell(code)):
        whole = [line for line in plan if "Seq Scan on instances_message " in line or line == "SCAN instances_message"]
        assert not whole, (statement, plan)
        if "LIMIT" in statement and "instances_message" in statement:
            sorts = [line for line in plan if line.strip().startswith(("Sort", "->  Sort", "USE TEMP B-TREE"))]
            assert not sorts, (statement, plan)

    pages = range(1, 101)
    measured = [
        (seconds(server, instance, route, bodies), route, bodies[-1])
        for route, bodies in (
            ("/chat/findMessages", [{"page": page} for page in pages]),
            ("/chat/findMessages", [{"page": page, "where": LARGE} for page in pages]),
            ("/chat/findMessages", [{"page": page, "where": PERIOD} for page in pages]),
            ("/chat/findMessages", [{"where": {"key": {"id": f"wa-{page * 7777}"}}} for page in pages]),
            ("/chat/findChats", [{"take": 100, "skip": 500 * (page - 1)} for page in pages]),
            ("/chat/findChats", [{"where": {}}] * 20),
            ("/chat/findContacts", [{"page": 5 * page, "offset": 100} for page in pages]),
            ("/chat/findContacts", [{"where": {"pushName": f"Person {page}"}} for page in pages]),
        )
    ]
    assert max(time for time, *_ in measured) < COARSE, measured
